"""STGCN: no recurrence; gated convolutions along time, with a graph convolution between two of them.

    Γ x = P ⊙ σ(Q),   [P ‖ Q] = Conv_3 x along time
    block: x -> LayerNorm(Γ'(ReLU(Cheb(Γ x)))),   channels 64 - 16 - 64

A convolution takes two steps off the series, so a block four. What is left after two blocks is read by a convolution as long as that and
a linear layer, which gives the whole forecast at once (the paper forecasts one step and goes on from there). Layer normalisation runs
over channels, so that the number of nodes is free; the paper's runs over channels and nodes.

A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596. B. Yu, H. Yin, Z. Zhu, Spatio-Temporal Graph Convolutional Networks: A Deep
Learning Framework for Traffic Forecasting, 2018, arXiv:1709.04875.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.convolutions.chebnet import Operator, chebyshev_sum, scaled_laplacian
from ziggurat.graphs.temporal.signals import check_signals
from ziggurat.nn.recipe import Recipe

KERNEL = 3


class GatedTemporalConv(nn.Module):
    """Γ: a convolution along time, the same at every node, with a gated linear unit.

    Shapes: x (B, T, N, in_channels) -> (B, T − kernel + 1, N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = KERNEL) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, (kernel, 1))

    def forward(self, x: Float[Tensor, "B T N F"]) -> Float[Tensor, "B T2 N C"]:
        return nn.functional.glu(self.conv(x.movedim(3, 1)), 1).movedim(1, 3)


class ChebyshevMix(nn.Module):
    """Σ_k T_k(L̃) x W_k + b for signals (…, N, in_channels)."""

    def __init__(self, in_channels: int, out_channels: int, order: int) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be 1 or more, got {order}.")
        self.order = order
        self.linear = nn.Linear(in_channels, order * out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "B T N F"], scaled: Operator) -> Float[Tensor, "B T N C"]:
        parts = [part.movedim(2, 0) for part in self.linear(x).chunk(self.order, 3)]
        mixed = chebyshev_sum([part.flatten(1) for part in parts], scaled)
        return mixed.view(parts[0].shape).movedim(0, 2) + self.bias


class STBlock(nn.Module):
    """Γ, graph convolution, Γ, layer normalisation and dropout.

    Shapes: x (B, T, N, in_channels) -> (B, T − 4, N, outer).
    """

    def __init__(self, in_channels: int, outer: int, inner: int, order: int, dropout: float) -> None:
        super().__init__()
        self.before = GatedTemporalConv(in_channels, outer)
        self.spatial = ChebyshevMix(outer, inner, order)
        self.after = GatedTemporalConv(inner, outer)
        self.norm, self.dropout = nn.LayerNorm(outer), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T N F"], scaled: Operator) -> Float[Tensor, "B T2 N C"]:
        return self.dropout(self.norm(self.after(self.spatial(self.before(x), scaled).relu())))


class STGCN(nn.Module):
    """Two blocks and the output layer.

    Arguments:
        features: F, signals a node.
        history: T, steps of the past; 9 at least.
        horizon: T_out, steps of the forecast.
        outer, inner: channels of the temporal and of the graph convolutions.
        order: K of the graph convolutions.
        dropout: behind each block.

    Shapes: x (B, history, N, F), edge_index (2, E) both directions, edge_weight (E,) -> (B, horizon, N, F).
    """

    def __init__(
        self,
        features: int = 1,
        history: int = 12,
        horizon: int = 12,
        outer: int = 64,
        inner: int = 16,
        order: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        left = history - 4 * (KERNEL - 1)
        if left < 1 or horizon < 1:
            raise ValueError(f"history must be 9 steps or more and horizon 1 or more, got {history} and {horizon}.")
        self.features, self.history, self.horizon = features, history, horizon
        self.blocks = nn.ModuleList(STBlock(a, outer, inner, order, dropout) for a in (features, outer))
        self.last = GatedTemporalConv(outer, outer, left)
        self.output = nn.Linear(outer, horizon * features)

    def forward(
        self,
        x: Float[Tensor, "B T N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "B T2 N F"]:
        check_signals(x, edge_index, self.features)
        if x.shape[1] != self.history:
            raise ValueError(f"this network was made for a history of {self.history} steps, got {x.shape[1]}.")
        scaled = scaled_laplacian(edge_index, edge_weight, x.shape[2], dtype=x.dtype)
        for block in self.blocks:
            x = block(x, scaled)
        forecast = self.output(self.last(x)[:, 0])
        return forecast.unflatten(2, (self.horizon, self.features)).movedim(2, 1)

    def recipe(self, lr: float | None = None) -> Recipe:
        """RMSprop at 1e-3, times 0.7 at every tenth of the run (paper: every 5 of 50 epochs)."""
        optimizer = torch.optim.RMSprop(self.parameters(), lr=lr or 1e-3)
        return Recipe(optimizer, lambda fraction: 0.7 ** int(10 * fraction))
