"""Resolvent filters of directed graphs (HoloNets): powers of (T + I)^-1, stable when a tightly linked cluster becomes one node.

    T = diag(W 1) − W,   Y = Σ_k (T + I)^-k X W_k,   W_vu = weight of the edge u → v

With weights that are not negative T + I can always be inverted. When the weights inside a cluster grow, (T + I)^-1 tends to the
resolvent of the graph in which the cluster is one node, and so do the features; a readout that weighs nodes by their mass follows.

C. Koke, D. Cremers, HoloNets: Spectral Convolutions do extend to Directed Graphs, 2024, arXiv:2310.02232.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.propagation import add_loops, degrees
from ziggurat.nn.staged import Classifier, Staged


def in_laplacian(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "N N"]:
    """diag(W 1) − W as a dense matrix, W_vu the weight of u → v: its rows sum to zero, and loops cancel."""
    edge_index, weight = add_loops(edge_index, edge_weight, num_nodes, 0, dtype)
    source, target = edge_index
    empty = weight.new_zeros(num_nodes, num_nodes)
    return torch.diag(degrees(target, weight, num_nodes)) - empty.index_put((target, source), weight, accumulate=True)


class ResolventConv(nn.Module):
    """Powers of the resolvent, each with its own weights.

    Arguments:
        in_channels, out_channels: widths.
        order: K, the highest power.
        zero_order: begins the sum at k = 0 instead of 1.

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,) not negative -> (N, out_channels). A dense matrix (N, N) is
    factorised, which takes N³ / 3 multiply-accumulates: for graphs of some thousand nodes together.
    """

    def __init__(self, in_channels: int, out_channels: int, order: int = 1, zero_order: bool = False) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be 1 or more, got {order}.")
        self.order, self.zero_order = order, zero_order
        self.weight = nn.Parameter(torch.empty(order + zero_order, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.uniform_(self.weight, -(in_channels**-0.5), in_channels**-0.5)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        exact = torch.promote_types(x.dtype, torch.float32)  # there is no LU factorisation in half precision
        weight = None if edge_weight is None else edge_weight.to(exact)
        matrix = in_laplacian(edge_index, weight, len(x), exact) + torch.eye(len(x), dtype=exact, device=x.device)
        factors, pivots = torch.linalg.lu_factor(matrix)
        power, total = x.to(exact), x.new_zeros(len(x), self.weight.shape[2]) + self.bias
        for k, w in enumerate(self.weight):
            if k or not self.zero_order:
                power = torch.linalg.lu_solve(factors, pivots, power)
            total = total + power.to(x.dtype) @ w
        return total

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[2]}, order={self.order}, zero_order={self.zero_order}"


class ResolventBlock(nn.Module):
    """A resolvent convolution and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, order: int, zero_order: bool) -> None:
        super().__init__()
        self.conv, self.act = ResolventConv(in_channels, out_channels, order, zero_order), nn.ReLU()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.act(self.conv(x, edge_index, edge_weight))


def mass_readout(
    x: Float[Tensor, "N F"], batch: Int64[Tensor, " N"] | None, mass: Float[Tensor, " N"] | None
) -> Float[Tensor, "G F"]:
    """Σ_i mass_i |x_i| over the nodes of each graph: one node of mass m counts as its parts of mass m / n each."""
    value = x.abs() if mass is None else x.abs() * mass.to(x.dtype)[:, None]
    if batch is None:
        return value.sum(0, keepdim=True)
    return value.new_zeros(int(batch.max()) + 1, x.shape[1]).index_add(0, batch, value)


class DirResolvNet(Staged):
    """Resolvent convolutions, a readout by mass, and a linear layer: one row a graph.

    Arguments:
        in_features, num_classes: 0 classes gives the vector of each graph.
        width, depth: of the layers and how many.
        order, zero_order: of each `ResolventConv`.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,), batch (N,), mass (N,) of the nodes, ones where there are none ->
    (graphs, num_classes). All graphs of a batch are solved as one system, so keep batches to some thousand nodes.
    """

    input = "graphs"
    sequential = False

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 64,
        depth: int = 2,
        order: int = 1,
        zero_order: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        self.stem = nn.Identity()
        self.stages = nn.ModuleList(
            ResolventBlock(width if i else in_features, width, order, zero_order) for i in range(depth)
        )
        self.channels, self.num_features = (width,) * depth, width
        self.head = Classifier(width, num_classes, pool="none")

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        mass: Float[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = self.run(stage, x, edge_index, edge_weight)
            features.append(x)
        return [*features[:-1], mass_readout(x, batch, mass)]

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        mass: Float[Tensor, " N"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, edge_index, edge_weight, batch, mass))
