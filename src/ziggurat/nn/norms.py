"""Normalisations and scales of maps that torch does not have."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels at every place of a map.

    Shapes: (B, C, H, W) -> (B, C, H, W).
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Channels compete by their energy: x + scale · x · ‖x_c‖ / mean_c ‖x_c‖ + shift, with norms over the places.

    Both parameters start at zero, so that it starts as the identity. Shapes: (B, C, H, W) -> (B, C, H, W).
    S. Woo et al., ConvNeXt V2, 2023, arXiv:2301.00808.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.eps = eps

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        energy = x.norm(dim=(2, 3), keepdim=True)
        share = energy / (energy.mean(1, keepdim=True) + self.eps)
        return x + self.scale.view(-1, 1, 1) * x * share + self.shift.view(-1, 1, 1)


class LayerScale(nn.Module):
    """A learned scale for each channel, in front of a residual addition.

    Arguments:
        channels: of the representation.
        start: of every scale; 0 lets the branch start silent.
        axis: of the channels: 1 for maps, -1 for tokens.
        shift: a learned shift, too, from zero on.
    """

    def __init__(self, channels: int, start: float = 1e-6, axis: int = 1, shift: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), start))
        self.shift = nn.Parameter(torch.zeros(channels)) if shift else None
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        shape = [1] * x.ndim
        shape[self.axis] = -1
        x = x * self.scale.view(shape)
        return x if self.shift is None else x + self.shift.view(shape)
