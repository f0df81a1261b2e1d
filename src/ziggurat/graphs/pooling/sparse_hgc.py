"""Sparse hierarchical graph classifiers: nodes with low learned scores are dropped, so that graphs stay sparse as they shrink.

    convolution  H = ReLU(D^-1 (A + I) X Θ + X Θ')
    pooling      y = X p / ‖p‖,   idx = the ⌈k n⌉ largest y of each graph,   X' = (X · tanh(y))[idx],   A' = A[idx, idx]
    readout      s_l = mean ‖ max over the nodes left,   s = Σ_l s_l

The gate tanh(y) is what gives p a gradient. Memory is linear in nodes and edges.

C. Cangea, P. Veličković, N. Jovanović, T. Kipf, P. Liò, Towards Sparse Hierarchical Graph Classifiers, 2018, arXiv:1811.01287.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import global_max_pool, global_mean_pool

from ziggurat.graphs.propagation import check_edges, mean_norm, propagate
from ziggurat.graphs.staged import StagedGraphs
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class Pooled(NamedTuple):
    """A smaller graph: `perm` holds the old numbers of its nodes, by graph and then by falling score, `score` their y."""

    x: Float[Tensor, "M F"]
    edge_index: Int64[Tensor, "2 D"]
    edge_weight: Float[Tensor, " D"] | None
    batch: Int64[Tensor, " M"]
    perm: Int64[Tensor, " M"]
    score: Float[Tensor, " M"]


def largest_of_each(score: Float[Tensor, " N"], batch: Int64[Tensor, " N"], ratio: float) -> Int64[Tensor, " M"]:
    """The ⌈ratio · n⌉ nodes with the largest scores of each graph, by graph and then by falling score."""
    counts = torch.bincount(batch)
    kept = (ratio * counts.double() - 1e-9).ceil().long()
    order = score.argsort(descending=True, stable=True)
    order = order[batch[order].argsort(stable=True)]
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[batch[order]]
    return order[rank < kept[batch[order]]]


def induced(
    edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"] | None, perm: Int64[Tensor, " M"], num_nodes: int
) -> tuple[Int64[Tensor, "2 D"], Float[Tensor, " D"] | None]:
    """The edges between the nodes of `perm`, which are numbered as they stand there."""
    place = torch.full((num_nodes,), -1, device=perm.device)
    place = place.index_copy(0, perm, torch.arange(len(perm), device=perm.device))
    moved = place[edge_index]
    keep = (moved >= 0).all(0)
    return moved[:, keep], None if edge_weight is None else edge_weight[keep]


class TopKPool(nn.Module):
    """Keeps the nodes with the largest projections on a learned direction.

    Arguments:
        channels: width of the features.
        ratio: k in (0, 1], rounded up, so that every graph keeps a node.

    Shapes: x (N, channels), edge_index (2, E), batch (N,), edge_weight (E,) -> `Pooled`.
    """

    def __init__(self, channels: int, ratio: float = 0.8) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}.")
        self.ratio = ratio
        self.direction = nn.Parameter(torch.empty(channels))
        nn.init.uniform_(self.direction, -1 / math.sqrt(channels), 1 / math.sqrt(channels))

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        batch: Int64[Tensor, " N"] | None = None,
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Pooled:
        check_edges(edge_index, len(x))
        batch = edge_index.new_zeros(len(x)) if batch is None else batch
        y = x @ (self.direction / self.direction.norm())
        perm = largest_of_each(y.detach(), batch, self.ratio)
        kept = y[perm]
        edges, weight = induced(edge_index, edge_weight, perm, len(x))
        return Pooled(x[perm] * kept.tanh().unsqueeze(1), edges, weight, batch[perm], perm, kept)

    def extra_repr(self) -> str:
        return f"{len(self.direction)}, ratio={self.ratio}"


class MeanGCNConv(nn.Module):
    """D^-1 (A + I) X Θ + X Θ': the mean over neighbours and oneself, and a separate way for oneself; degrees are counted anew.

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.around = nn.Linear(in_channels, out_channels, bias=False)
        self.own = nn.Linear(in_channels, out_channels, bias=False)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        edges, weight = mean_norm(edge_index, edge_weight, len(x), dtype=x.dtype)
        return propagate(self.around(x), edges, weight) + self.own(x)


class Block(nn.Module):
    """Convolution, ReLU and pooling; `pool(x, edge_index, batch, edge_weight) -> Pooled`."""

    def __init__(self, in_channels: int, width: int, ratio: float) -> None:
        super().__init__()
        self.conv, self.act, self.pool = MeanGCNConv(in_channels, width), nn.ReLU(), TopKPool(width, ratio)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None,
        batch: Int64[Tensor, " N"],
    ) -> Pooled:
        return self.pool(self.act(self.conv(x, edge_index, edge_weight)), edge_index, batch, edge_weight)


class HiddenClassifier(Classifier):
    """A hidden layer with ReLU and dropout in front of the classifier.

    Shapes: (B, in_features) -> (B, num_classes), with `pre_logits` (B, width).
    """

    def __init__(self, in_features: int, width: int, num_classes: int, dropout: float) -> None:
        super().__init__(width, num_classes, pool="none", dropout=dropout)
        self.hidden = nn.Sequential(nn.Linear(in_features, width), nn.ReLU())

    def forward(self, x: Float[Tensor, "B F"], pre_logits: bool = False) -> Float[Tensor, "B K"]:
        return super().forward(self.hidden(x), pre_logits)


class SparseHierarchicalClassifier(StagedGraphs):
    """Blocks of convolution and pooling, whose readouts are added up and go through a perceptron.

    Arguments:
        in_features: of a node.
        num_classes: 0 gives features.
        width: F'. Paper: 128 for ENZYMES and COLLAB, 64 for D&D and PROTEINS.
        depth: blocks.
        ratio: of nodes that a block keeps.
        dropout: in the perceptron.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,), batch (N,) -> (graphs, num_classes). Features are the readouts
    (graphs, 2 · width) of each block.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 128,
        depth: int = 3,
        ratio: float = 0.8,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        self.stem = nn.Identity()
        self.stages = nn.ModuleList(Block(width if i else in_features, width, ratio) for i in range(depth))
        self.channels, self.num_features = (2 * width,) * depth, width
        self.head = HiddenClassifier(2 * width, width, num_classes, dropout)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        features: list[Tensor] = []
        x, batch = self.stem(x), edge_index.new_zeros(len(x)) if batch is None else batch
        for stage in self.stages:
            x, edge_index, edge_weight, batch, _, _ = self.run(stage, x, edge_index, edge_weight, batch)
            features.append(torch.cat([global_mean_pool(x, batch), global_max_pool(x, batch)], 1))
        return features

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(torch.stack(features).sum(0), pre_logits=pre_logits)

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at 5e-4 (paper; 5e-3 on PROTEINS)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 5e-4))
