"""GraphSAGE with the mean: a node joins what it is with the mean of its neighbours, each with weights of its own.

    h'_v = W [h_v ‖ mean_{u ∈ N(v)} h_u] + b

No self-loops: the node itself is the first half. The paper's scaling of rows to length one is left out, as in most later uses.
A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596.
W. Hamilton, R. Ying, J. Leskovec, Inductive Representation Learning on Large Graphs, 2017, arXiv:1706.02216.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.baselines import GraphNetwork
from ziggurat.graphs.propagation import mean_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator


def neighbour_mean(
    edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"] | None, num_nodes: int, dtype: torch.dtype
) -> SparseOperator:
    """x -> the mean over the neighbours of each node, weighted by the edges; 0 for nodes without any."""
    return sparse_operator(*mean_norm(edge_index, edge_weight, num_nodes, 0.0, dtype), num_nodes)


class SAGEConv(nn.Module):
    """The layer.

    Arguments:
        in_channels, out_channels: widths.

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(in_channels, out_channels)
        self.neighbours = nn.Linear(in_channels, out_channels, bias=False)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        mean = neighbour_mean(edge_index, edge_weight, len(x), x.dtype)
        narrows = self.own.out_features < self.own.in_features  # the narrower side is cheaper to average
        return self.own(x) + (mean(self.neighbours(x)) if narrows else self.neighbours(mean(x)))


class Beside(nn.Module):
    """[h_v ‖ mean of the neighbours]: a layer whose weights a linear layer behind it has.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, 2 F).
    """

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return torch.cat([x, neighbour_mean(edge_index, edge_weight, len(x), x.dtype)(x)], 1)


class GraphSAGE(GraphNetwork):
    """Two layers with a ReLU between them; the second one's weights are the classifier's.

    Arguments:
        in_features: columns of x.
        num_classes: 0 gives what would be classified.
        width: of the hidden layer.
        dropout: on the features and on the hidden layer.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (graphs, num_classes).
    """

    def __init__(self, in_features: int, num_classes: int, width: int = 16, dropout: float = 0.5) -> None:
        layers: list[nn.Module] = [SAGEConv(in_features, width), Beside()]
        super().__init__(layers, [nn.ReLU(), nn.Identity()], (width, 2 * width), num_classes, dropout, weighted=True)
