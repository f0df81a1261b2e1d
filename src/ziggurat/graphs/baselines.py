"""The graph networks that others are compared with: GCN, GAT and GIN, made of torch_geometric's layers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv

from ziggurat.graphs.propagation import check_edges, gcn_norm, propagate
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class Propagate(nn.Module):
    """One step with the GCN's normalised adjacency, without parameters."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return propagate(x, *gcn_norm(edge_index, edge_weight, len(x), dtype=x.dtype))


class GraphNetwork(StagedGraph):
    """Layers of message passing, each followed by an activation and dropout; what the baselines below share.

    Arguments:
        layers: modules `layer(x, edge_index[, edge_weight])`, input to output.
        acts: the activation behind each.
        widths: the output width of each.
        num_classes: 0 gives features.
        dropout: on the features and behind every layer but the last.
        weighted: whether the layers take edge weights.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (N,) naming each node's graph,
    the mean over each graph's nodes goes to the classifier: (graphs, num_classes).
    """

    def __init__(
        self,
        layers: list[nn.Module],
        acts: list[nn.Module],
        widths: tuple[int, ...],
        num_classes: int,
        dropout: float,
        weighted: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Dropout(dropout)
        self.stages, self.acts = nn.ModuleList(layers), nn.ModuleList(acts)
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in layers[:-1])
        self.weighted = weighted
        self.channels, self.num_features = widths, widths[-1]
        self.head = Classifier(widths[-1], num_classes, pool="none")

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        check_edges(edge_index, len(x))
        edges = (edge_index, edge_weight) if self.weighted else (edge_index,)
        features: list[Tensor] = []
        x = self.stem(x)
        for i, (layer, act) in enumerate(zip(self.stages, self.acts, strict=True)):
            x = act(layer(self.dropouts[i - 1](x) if i else x, *edges))
            features.append(x)
        return features

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam at 0.01 with weight decay, as usual for citation graphs (200 full-batch steps)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))


class GCN(GraphNetwork):
    """Two graph convolutions: softmax(S ReLU(S X W) W'), where S is the normalised adjacency with self-loops.

    The second one's weights are the classifier's: its propagation comes first, which gives the same function.
    T. Kipf, M. Welling, 2017, arXiv:1609.02907.
    """

    def __init__(self, in_features: int, num_classes: int, width: int = 16, dropout: float = 0.5) -> None:
        layers = [GCNConv(in_features, width), Propagate()]
        super().__init__(layers, [nn.ReLU(), nn.Identity()], (width, width), num_classes, dropout, weighted=True)


class GAT(GraphNetwork):
    """Two layers of graph attention with several heads each, and a linear classifier. P. Veličković et al., 2018, arXiv:1710.10903."""

    def __init__(
        self, in_features: int, num_classes: int, width: int = 8, heads: int = 8, dropout: float = 0.6
    ) -> None:
        wide = width * heads
        layers = [GATConv(in_features, width, heads), GATConv(wide, width, heads)]
        super().__init__(layers, [nn.ELU(), nn.ELU()], (wide, wide), num_classes, dropout, weighted=False)


class GIN(GraphNetwork):
    """Layers that add up neighbours and pass the sum through a perceptron. K. Xu et al., 2019, arXiv:1810.00826."""

    def __init__(
        self, in_features: int, num_classes: int, width: int = 64, depth: int = 2, dropout: float = 0.5
    ) -> None:
        sizes = [in_features] + [width] * depth
        layers: list[nn.Module] = [
            GINConv(nn.Sequential(nn.Linear(a, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)))
            for a in sizes[:-1]
        ]
        acts: list[nn.Module] = [nn.ReLU() for _ in layers]
        super().__init__(layers, acts, (width,) * depth, num_classes, dropout, weighted=False)
