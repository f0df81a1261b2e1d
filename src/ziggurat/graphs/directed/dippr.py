"""The PageRank convolution of directed graphs: a random walk made symmetric by its own stationary distribution.

    S = (Π^1/2 P Π^-1/2 + Π^-1/2 Pᵀ Π^1/2) / 2,   P = D_out^-1 (A + I),   π = PageRank of P with teleport

Of the polynomial networks of the survey of directed graphs (`profile.directed_taxonomy`). The stationary distribution is that of the walk
with teleport, the steps are those of the graph, so that S stays sparse.
Z. Tong, Y. Liang, C. Sun, X. Li, D. Rosenblum, A. Lim, Digraph Inception Convolutional Networks, 2020, NeurIPS.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.propagation import add_loops, degrees, power
from ziggurat.graphs.sparse_operator import sparse_operator


def dippr_norm(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    teleport: float = 0.1,
    steps: int = 50,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"]]:
    """Edges, each in both directions, and weights of S.

    Arguments:
        teleport: probability to jump to any node instead of following an edge.
        steps: of the power iteration; its error falls by 1 − teleport in each. π is a constant for autograd.
    """
    edges, weight = add_loops(edge_index, edge_weight, num_nodes, 1.0, dtype)
    source, target = edges
    walk = weight * power(degrees(source, weight, num_nodes), -1.0)[source]
    with torch.no_grad():
        step = sparse_operator(edges, walk, num_nodes)
        rank = start = torch.ones(num_nodes, 1, dtype=walk.dtype, device=walk.device)
        for _ in range(steps):
            rank = (1 - teleport) * step(rank) + teleport * start
        root = rank[:, 0].clamp_min(1e-12).sqrt()
    half = walk * root[source] / root[target] / 2
    return torch.cat([edges, edges.flip(0)], 1), torch.cat([half, half])


class DiPPRConv(nn.Module):
    """S x W + b.

    Arguments:
        in_channels, out_channels: widths.
        teleport, steps: of `dippr_norm`.

    Shapes: x (N, in_channels), edge_index (2, E) directed, edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, teleport: float = 0.1, steps: int = 50) -> None:
        super().__init__()
        if not 0 <= teleport <= 1 or steps < 0:
            raise ValueError(
                f"teleport must be between 0 and 1 and steps 0 or more, got {teleport} and {steps}; 0.1 and 50 are usual."
            )
        self.teleport, self.steps = teleport, steps
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        edges, weight = dippr_norm(edge_index, edge_weight, len(x), self.teleport, self.steps, x.dtype)
        spread = sparse_operator(edges, weight.to(x.dtype), len(x))(x)
        return self.linear(spread)

    def extra_repr(self) -> str:
        return f"teleport={self.teleport}, steps={self.steps}"
