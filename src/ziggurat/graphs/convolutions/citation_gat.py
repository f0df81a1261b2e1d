"""The graph attention network of the citation graphs: eight heads of eight, and an output layer that attends, too.

    h'_v = ‖_heads ELU(Σ_{u ∈ N(v) ∪ v} a_vu W h_u),   a_vu = softmax_u LeakyReLU_0.2(s · W h_u + t · W h_v)

The output layer is one head as wide as there are classes. `graphs.baselines.GAT` attends twice with eight heads, in front of a linear
classifier; this is the network of the paper, with its number of parameters and its dropout of 0.6 on inputs and on attention.

A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596. P. Veličković, G. Cucurull, A. Casanova, A. Romero, P. Liò, Y. Bengio,
Graph Attention Networks, 2018, arXiv:1710.10903.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import GATConv, global_mean_pool

from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.recipe import Recipe


class OnEdges(list[Tensor]):
    """The features of every stage, and the edges that the head attends along; `batch` names each node's graph."""

    def __init__(self, features: Iterable[Tensor], edge_index: Tensor, batch: Tensor | None = None) -> None:
        super().__init__(features)
        self.edge_index, self.batch = edge_index, batch


class AttentionHead(nn.Module):
    """Dropout and one head of attention as wide as there are classes.

    Shapes: hidden (N, in_features), edge_index (2, E) -> (N, num_classes); with 0 classes, or `pre_logits`, the hidden layer.
    """

    def __init__(self, in_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.in_features, self.dropout = in_features, nn.Dropout(dropout)
        self.conv: nn.Module = self.make(num_classes)

    def make(self, num_classes: int) -> nn.Module:
        """A new output layer."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (features) or more, got {num_classes}.")
        if not num_classes:
            return nn.Identity()
        return GATConv(self.in_features, num_classes, heads=1, dropout=self.dropout.p)

    def reset(self, num_classes: int) -> None:
        """A new output layer, on the device and in the type of the old one."""
        old = next(iter(self.conv.parameters()), torch.empty(0))
        self.conv = self.make(num_classes).to(old)

    def forward(self, hidden: Tensor, edge_index: Tensor, pre_logits: bool = False) -> Tensor:
        if pre_logits or isinstance(self.conv, nn.Identity):
            return hidden
        return self.conv(self.dropout(hidden), edge_index)


class CitationGAT(StagedGraph):
    """The network. Edge weights are not looked at.

    Arguments:
        in_features: columns of x.
        num_classes: 0 gives the hidden layer.
        width: of each head of the hidden layer.
        heads: of the hidden layer.
        dropout: on the features, the hidden layer, and the attention of both layers.

    Shapes: x (N, in_features), edge_index (2, E) -> (N, num_classes); with `batch` the mean over each graph: (graphs, num_classes).
    """

    def __init__(
        self, in_features: int, num_classes: int, width: int = 8, heads: int = 8, dropout: float = 0.6
    ) -> None:
        super().__init__()
        self.stem = nn.Dropout(dropout)
        self.stages = nn.ModuleList([GATConv(in_features, width, heads, dropout=dropout)])
        self.act = nn.ELU()
        self.channels, self.num_features = (width * heads,), width * heads
        self.head = AttentionHead(width * heads, num_classes, dropout)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> OnEdges:
        check_edges(edge_index, len(x))
        return OnEdges([self.act(self.stages[0](self.stem(x), edge_index))], edge_index, batch)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        if not isinstance(features, OnEdges):
            raise ValueError("the head of CitationGAT takes the very list that its forward_features returned.")
        rows = self.head(features[-1], features.edge_index, pre_logits=pre_logits)
        return rows if features.batch is None else global_mean_pool(rows, features.batch)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, edge_index, edge_weight, batch))

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam at 0.005 with weight decay 5e-4 (paper)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.005, weight_decay=weight_decay))
