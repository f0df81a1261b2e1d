"""DCRNN: a gated recurrent unit whose matrix products are diffusion along a directed graph, forwards and backwards.

    Θ ⋆ X = Σ_{k < K} [(D_O^-1 W)^k X Θ_k1 + (D_I^-1 Wᵀ)^k X Θ_k2]
    r = σ(Θ_r ⋆ [x, h]),   u = σ(Θ_u ⋆ [x, h]),   c = tanh(Θ_c ⋆ [x, r h]),   h' = u h + (1 − u) c

W_ij is the weight of the edge i → j. An encoder reads the past; a decoder, which starts with zeros, says the future step by step, each
step from the one that it said before. With K = 1 nothing diffuses: each node has a recurrent unit of its own, with shared weights.
The paper's scheduled sampling, which shows the decoder true values early in training, is left out.

A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596. Y. Li, R. Yu, C. Shahabi, Y. Liu, Diffusion Convolutional Recurrent Neural
Network: Data-Driven Traffic Forecasting, 2018, arXiv:1707.01926.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.propagation import mean_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator
from ziggurat.graphs.temporal.signals import check_signals, over_nodes
from ziggurat.nn.recipe import Recipe

Walks = tuple[SparseOperator, SparseOperator]


def random_walks(
    edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"] | None, num_nodes: int, dtype: torch.dtype
) -> Walks:
    """D_O^-1 W and D_I^-1 Wᵀ: the mean over the nodes that a node points to, and over those that point to it."""
    ahead = mean_norm(edge_index.flip(0), edge_weight, num_nodes, 0.0, dtype)
    behind = mean_norm(edge_index, edge_weight, num_nodes, 0.0, dtype)
    return sparse_operator(*ahead, num_nodes), sparse_operator(*behind, num_nodes)


class DiffusionConv(nn.Module):
    """Θ ⋆ X + b.

    Arguments:
        in_channels, out_channels: widths.
        order: K, powers 0 … K − 1 of each walk.
        bias: the starting value of b.

    Shapes: x (B, N, in_channels), walks -> (B, N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, order: int = 3, bias: float = 0.0) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be 1 or more, got {order}.")
        self.order = order
        self.linear = nn.Linear(2 * order * in_channels, out_channels)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, x: Float[Tensor, "B N F"], walks: Walks) -> Float[Tensor, "B N C"]:
        powers = []
        for walk in walks:
            powers.append(x)
            for _ in range(self.order - 1):
                powers.append(over_nodes(powers[-1], walk))
        return self.linear(torch.cat(powers, 2))

    def extra_repr(self) -> str:
        return f"order={self.order}"


class DCGRUCell(nn.Module):
    """The recurrent unit.

    Arguments:
        in_channels, width: of x and of the state.
        order: K.

    Shapes: x (B, N, in_channels), h (B, N, width), walks -> (B, N, width). The gates start open (their bias is 1, as in the paper's code).
    """

    def __init__(self, in_channels: int, width: int, order: int = 3) -> None:
        super().__init__()
        self.gates = DiffusionConv(in_channels + width, 2 * width, order, bias=1.0)
        self.candidate = DiffusionConv(in_channels + width, width, order)

    def forward(self, x: Float[Tensor, "B N F"], h: Float[Tensor, "B N W"], walks: Walks) -> Float[Tensor, "B N W"]:
        reset, update = self.gates(torch.cat([x, h], 2), walks).sigmoid().chunk(2, 2)
        candidate = self.candidate(torch.cat([x, reset * h], 2), walks).tanh()
        return update * h + (1 - update) * candidate


class DCRNN(nn.Module):
    """Encoder and decoder of one unit each, and a linear layer from states to signals.

    Arguments:
        features: F, signals a node.
        horizon: T_out, steps of the forecast.
        width: of the states.
        order: K; 1 is a recurrent unit for every node, which sees no edge.

    Shapes: x (B, T, N, F), edge_index (2, E) directed, edge_weight (E,) -> (B, horizon, N, F).
    """

    def __init__(self, features: int = 1, horizon: int = 12, width: int = 64, order: int = 3) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"horizon must be 1 step or more, got {horizon}.")
        self.features, self.horizon, self.width = features, horizon, width
        self.encoder, self.decoder = (DCGRUCell(features, width, order) for _ in range(2))
        self.output = nn.Linear(width, features)

    def forward(
        self,
        x: Float[Tensor, "B T N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "B T2 N F"]:
        check_signals(x, edge_index, self.features)
        walks = random_walks(edge_index, edge_weight, x.shape[2], x.dtype)
        h = x.new_zeros(len(x), x.shape[2], self.width)
        for now in x.unbind(1):
            h = self.encoder(now, h, walks)
        said, forecast = torch.zeros_like(x[:, 0]), []
        for _ in range(self.horizon):
            h = self.decoder(said, h, walks)
            said = self.output(h)
            forecast.append(said)
        return torch.stack(forecast, 1)

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at 0.01 (paper)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01))
