"""A large depthwise kernel that learns through smaller, dilated ones beside it, and is one kernel again once it has learned.

    y = BN₀(W ∗ x) + Σ_b BN_b(W_b ∗_d_b x)

In evaluation every term is linear in x, and a kernel of k taps with dilation d is a kernel of d (k − 1) + 1 taps with zeros in it.
X. Ding, Y. Zhang, Y. Ge, S. Zhao, L. Song, X. Yue, Y. Shan, UniRepLKNet, 2023, arXiv:2311.15599.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct, fuse_conv_norm

BRANCHES: dict[int, tuple[tuple[int, int], ...]] = {
    19: ((5, 1), (7, 1), (9, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
    5: ((3, 1), (3, 2)),
}
"""(kernel, dilation) of the branches beside a kernel of each size."""

Network = TypeVar("Network", bound=nn.Module)


class DilatedReparamBlock(nn.Module):
    """A depthwise convolution and its dilated branches, each with batch normalisation; `reparameterize` makes them one.

    Arguments:
        channels: of the map.
        kernel: 5, 7, … 19, which also names the branches.
        merged: builds the one convolution with a bias at once, for weights that are merged already.

    Shapes: (B, channels, H, W) -> (B, channels, H, W).
    """

    def __init__(self, channels: int, kernel: int, merged: bool = False) -> None:
        super().__init__()
        if kernel not in BRANCHES:
            raise ValueError(f"kernel must be one of {sorted(BRANCHES)}, got {kernel}.")
        self.large = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=merged)
        self.norm = nn.Identity() if merged else nn.BatchNorm2d(channels)
        self.branches = nn.ModuleList(
            ConvNormAct(channels, channels, k, dilation=d, groups=channels, act=None)
            for k, d in (() if merged else BRANCHES[kernel])
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        y = self.norm(self.large(x))
        for branch in self.branches:
            y = y + branch(x)
        return y

    def __repr__(self) -> str:
        return (
            f"DilatedReparamBlock({self.large.in_channels}, {self.large.kernel_size[0]}, branches={len(self.branches)})"
        )

    def reparameterize(self) -> DilatedReparamBlock:
        """Itself, its branches and normalisations now inside the one kernel; the output in evaluation stays."""
        if isinstance(self.norm, nn.BatchNorm2d):
            large = fuse_conv_norm(self.large, self.norm)
            assert large.bias is not None
            with torch.no_grad():
                kernel, bias = large.weight, large.bias
                for branch in self.branches:
                    assert isinstance(branch, ConvNormAct) and isinstance(branch.norm, nn.BatchNorm2d)
                    small = fuse_conv_norm(branch.conv, branch.norm)
                    assert small.bias is not None
                    kernel = kernel + spread(small.weight, small.dilation[0], kernel.shape[2])
                    bias = bias + small.bias
            large.weight, large.bias = nn.Parameter(kernel), nn.Parameter(bias)
            self.large, self.norm, self.branches = large, nn.Identity(), nn.ModuleList()
        return self


def spread(weight: Float[Tensor, "C 1 k k"], dilation: int, kernel: int) -> Float[Tensor, "C 1 K K"]:
    """The plain kernel of side `kernel` that equals a dilated one."""
    side = dilation * (weight.shape[2] - 1) + 1
    edge = (kernel - side) // 2
    plain = weight.new_zeros(len(weight), 1, kernel, kernel)
    plain[:, :, edge : kernel - edge : dilation, edge : kernel - edge : dilation] = weight
    return plain


def reparameterized(network: Network) -> Network:
    """A copy of a network in evaluation mode in which every `DilatedReparamBlock` is one convolution."""
    merged = copy.deepcopy(network).eval()
    for part in merged.modules():
        if isinstance(part, DilatedReparamBlock):
            part.reparameterize()
    return merged
