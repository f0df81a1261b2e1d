"""Upsampling by transposed convolution that starts as bilinear interpolation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def bilinear_kernel(size: int) -> Float[Tensor, "size size"]:
    """w_ij = (1 − |i/f − c|)(1 − |j/f − c|) with f = ⌈size / 2⌉ and c = (2f − 1 − f mod 2) / (2f)."""
    f = math.ceil(size / 2)
    c = (2 * f - 1 - f % 2) / (2 * f)
    line = 1 - (torch.arange(size) / f - c).abs()
    return line[:, None] * line[None]


class BilinearUpsample(nn.ConvTranspose2d):
    """A transposed convolution from K classes to K classes of kernel 2 · factor that starts as bilinear interpolation of each.

    Arguments:
        channels: K.
        factor: even; of the enlargement.
        learned: False fixes the weights.
        crop: cuts factor / 2 off at every edge, so that the output is exactly `factor` times as large.

    Shapes: (B, K, h, w) -> (B, K, factor · h, factor · w); without `crop` one factor more each way.
    """

    def __init__(self, channels: int, factor: int, learned: bool = True, crop: bool = True) -> None:
        if factor < 2 or factor % 2:
            raise ValueError(f"factor must be even and 2 or more, got {factor}.")
        super().__init__(channels, channels, 2 * factor, factor, factor // 2 if crop else 0, bias=False)
        with torch.no_grad():
            self.weight.zero_()
            every = range(channels)
            self.weight[every, every] = bilinear_kernel(2 * factor).to(self.weight)
        self.weight.requires_grad_(learned)
