"""The blocks of OverLoCK: convolutional ones for its base and overview, and dynamic ones that a context guides.

M. Lou, Y. Yu, OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing Dynamic Kernels, 2025, arXiv:2502.20087.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.dropping import DropPath
from ziggurat.nn.gates import SqueezeExcite
from ziggurat.nn.norms import GlobalResponseNorm, LayerNorm2d, LayerScale
from ziggurat.nn.operators.dilated_reparam import DilatedReparamBlock
from ziggurat.nn.operators.dynamic_conv import ContMix

Norm2d = partial(LayerNorm2d, eps=1e-6)


class Guided(NamedTuple):
    """What the guided blocks hand on.

    Fields:
        x: (B, C + c, H, W), the map and, behind it, the context as the blocks have refined it.
        start: (B, c, H, W), the context as it came, at the size of x.
        coarse: (B, c, h, w), the same at the size of the overview.
        overview: (B, D, h, w), the map that the context was made of.
    """

    x: Tensor
    start: Tensor
    coarse: Tensor
    overview: Tensor


class ResidualDepthwise(nn.Conv2d):
    """x + 3×3 depthwise convolution of x. Shapes: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + super().forward(x)


class ConvFFN(nn.Sequential):
    """1×1, GELU, residual depthwise 3×3, global response normalisation, 1×1. Shapes: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(
            nn.Conv2d(channels, hidden, 1),
            nn.GELU(),
            ResidualDepthwise(hidden),
            GlobalResponseNorm(hidden),
            nn.Conv2d(hidden, channels, 1),
        )


def squeeze_excite(channels: int) -> SqueezeExcite:
    """The gate of all blocks: an eighth of the width inside, at least 16, with GELU."""
    return SqueezeExcite(channels, max(16, channels // 8), nn.GELU)


def shortcut_scale(channels: int, scaled: bool) -> nn.Module:
    """A learned scale and shift of a shortcut, from one and zero on; or nothing."""
    return LayerScale(channels, 1.0, shift=True) if scaled else nn.Identity()


class RepConvBlock(nn.Module):
    """Residual depthwise 3×3; then scale · x + FFN(SE(BN(large kernel(LN x)))).

    Arguments:
        dim: of the map.
        kernel: of the large depthwise convolution.
        ratio: of the inner width.
        scaled: a learned scale of the shortcut.
        drop_path: probability that the branch of a sample is dropped while training.
        merged: builds the large kernel in its merged form.

    Shapes: (B, dim, H, W) -> (B, dim, H, W).
    """

    def __init__(
        self,
        dim: int,
        kernel: int,
        ratio: int = 4,
        scaled: bool = False,
        drop_path: float = 0.0,
        merged: bool = False,
    ) -> None:
        super().__init__()
        self.depthwise = ResidualDepthwise(dim)
        self.branch = nn.Sequential(
            Norm2d(dim),
            DilatedReparamBlock(dim, kernel, merged),
            nn.BatchNorm2d(dim),
            squeeze_excite(dim),
            ConvFFN(dim, ratio * dim),
        )
        self.scale, self.drop = shortcut_scale(dim, scaled), DropPath(drop_path)
        self.text = f"{dim}, kernel={kernel}, ratio={ratio}, scaled={scaled}"

    def __repr__(self) -> str:
        return f"RepConvBlock({self.text})"

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = self.depthwise(x)
        return self.scale(x) + self.drop(self.branch(x))


class Overview(nn.Module):
    """Looks at the whole first: a strided convolution and blocks, and a context made of their map.

    Shapes: (B, in_channels, H, W) -> `Guided`, with x of in_channels + context channels.
    """

    def __init__(self, in_channels: int, dim: int, context: int, blocks: list[RepConvBlock]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ConvNormAct(in_channels, dim, 3, 2, act=None), *blocks)
        self.project = nn.Conv2d(dim, context, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Guided:
        overview = self.blocks(x)
        coarse = self.project(overview)
        start = interpolate(coarse, x.shape[2:], mode="bilinear")
        return Guided(torch.cat([x, start], 1), start, coarse, overview)


class GuidedDownsample(nn.Module):
    """Strided convolutions of the map and of its context, apart from each other; the context as it came is the coarse one again."""

    def __init__(self, in_channels: int, out_channels: int, context: int) -> None:
        super().__init__()
        self.sizes = [in_channels, context]
        self.map = ConvNormAct(in_channels, out_channels, 3, 2, act=None)
        self.context = ConvNormAct(context, context, 3, 2, act=None)

    def forward(self, given: Guided) -> Guided:
        x, context = given.x.split(self.sizes, 1)
        return given._replace(x=torch.cat([self.map(x), self.context(context)], 1), start=given.coarse)


class FocusBlock(nn.Module):
    """Looks closely, guided: ContMix and a large static kernel side by side, gated, then an FFN; map and context are refined together.

    Arguments:
        dim, context: widths of the map and of its context.
        kernel, heads: of ContMix.
        first: the first block takes the context as it came; the others add it to what the blocks before made of it, both scaled.
        ratio: of the FFN's inner width to `dim`.
        drop_path: probability that a branch of a sample is dropped while training.
        merged: builds the large kernel in its merged form.

    Shapes: `Guided` -> `Guided`.
    """

    def __init__(
        self,
        dim: int,
        context: int,
        kernel: int,
        heads: int,
        first: bool = False,
        ratio: int = 3,
        drop_path: float = 0.0,
        merged: bool = False,
    ) -> None:
        super().__init__()
        both = dim + context
        self.sizes = [dim, context]
        self.scale_context, self.scale_start = (
            nn.Identity() if first else LayerScale(context, 1.0, shift=True) for _ in range(2)
        )
        self.first = first
        self.depthwise1, self.depthwise2 = ResidualDepthwise(both), ResidualDepthwise(both)
        self.norm1, self.norm2 = Norm2d(both), Norm2d(both)
        self.value = nn.Sequential(
            nn.Conv2d(both, both, 3, padding=1, groups=both),
            nn.BatchNorm2d(both),
            nn.GELU(),
            nn.Conv2d(both, dim, 1),
            GlobalResponseNorm(dim),
        )
        self.mix = ContMix(dim, context, heads, kernel)
        self.static = nn.Sequential(DilatedReparamBlock(dim, kernel, merged), nn.BatchNorm2d(dim))
        self.squeeze = squeeze_excite(dim)
        self.gate = ConvNormAct(dim, dim, 1, act=nn.SiLU)
        self.project = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, both, 1))
        self.ffn = ConvFFN(both, ratio * dim)
        self.scale1, self.scale2 = shortcut_scale(both, True), shortcut_scale(both, True)
        self.drop1, self.drop2 = DropPath(drop_path), DropPath(drop_path)
        self.text = f"{dim} + {context}, kernel={kernel}, heads={heads}, first={first}, ratio={ratio}"

    def __repr__(self) -> str:
        return f"FocusBlock({self.text})"

    def forward(self, given: Guided) -> Guided:
        x = given.x
        if not self.first:
            own, context = x.split(self.sizes, 1)
            x = torch.cat([own, self.scale_context(context) + self.scale_start(given.start)], 1)
        x = self.depthwise1(x)
        normed = self.norm1(x)
        own, context = normed.split(self.sizes, 1)
        value = self.value(normed)
        mixed = self.squeeze(self.mix(own, context, value) + self.static(value))
        x = self.scale1(x) + self.drop1(self.project(self.gate(value) * mixed))
        x = self.depthwise2(x)
        return given._replace(x=self.scale2(x) + self.drop2(self.ffn(self.norm2(x))))
