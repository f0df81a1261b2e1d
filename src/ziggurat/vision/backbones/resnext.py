"""ResNeXt: a residual unit adds up many branches of one shape, and their number, the cardinality, is a dimension beside depth and width.

    y = x + Σ_{i = 1 … C} T_i(x),    T_i = 1×1 to d – 3×3 (d) – 1×1 to the output

All branches are one bottleneck whose 3×3 convolution has C groups: 1×1 to C·d – BN – ReLU – grouped 3×3 (stride) – BN – ReLU – 1×1 – BN.
Everything else is the residual network's.

S. Xie, R. Girshick, P. Dollár, Z. Tu, K. He, Aggregated Residual Transformations for Deep Neural Networks, 2016, arXiv:1611.05431.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import nn

from ziggurat.nn.conv import Norm, init_relu_network
from ziggurat.vision.backbones.resnet import KEYS as RESNET_KEYS
from ziggurat.vision.backbones.resnet import Attention, Bottleneck, ResNet

KEYS = RESNET_KEYS
"""torchvision's and timm's names are those of residual networks."""


def aggregate(unit: Bottleneck, cardinality: int, branch: int, norm: Norm = nn.BatchNorm2d) -> None:
    """Gives a bottleneck `cardinality` branches of width `branch` in place of its one; strides, shortcut and output stay."""
    inner, middle = cardinality * branch, unit.conv2
    unit.conv1 = nn.Conv2d(unit.conv1.in_channels, inner, 1, bias=False)
    unit.bn1 = norm(inner)
    unit.conv2 = nn.Conv2d(
        inner,
        inner,
        3,
        middle.stride,  # type: ignore[arg-type]
        middle.padding,  # type: ignore[arg-type]
        middle.dilation,  # type: ignore[arg-type]
        cardinality,
        bias=False,
    )
    unit.bn2 = norm(inner)
    unit.conv3 = nn.Conv2d(inner, unit.conv3.out_channels, 1, bias=False)


def matched_branch(cardinality: int, width: int = 64) -> float:
    """The d for which C branches cost what one bottleneck of `width` does: C (4w·d + 9d² + 4w·d) = 8w² + 9w² (the paper's table 2)."""
    output = 4 * width
    return ((output**2 + 9 * (output * width * 2 + 9 * width**2) / cardinality) ** 0.5 - output) / 9


class ResNeXt(ResNet):
    """A residual network of aggregated bottlenecks.

    Arguments:
        layers: number of units of each stage.
        cardinality: C, the branches of every unit.
        branches: d, the width of a branch, for each stage.
        num_classes: 0 gives features.
        in_channels: of the images.
        widths: a quarter of each stage's output.
        stem: "imagenet" (7×7/2 and max pool) or "cifar" (one 3×3).
        output_stride, norm, attention: as of `ResNet`.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32 ("cifar": 1, 2, 4).
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        cardinality: int = 32,
        branches: Sequence[int] = (4, 8, 16, 32),
        num_classes: int = 1000,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: Literal["imagenet", "cifar"] = "imagenet",
        output_stride: Literal[8, 16, 32] = 32,
        norm: Norm = nn.BatchNorm2d,
        attention: Attention | None = None,
    ) -> None:
        if cardinality < 1:
            raise ValueError(f"cardinality must be 1 or more, got {cardinality}.")
        if len(branches) < len(layers):
            raise ValueError(f"{len(layers)} stages need as many widths of a branch, got {tuple(branches)}.")
        super().__init__(
            "bottleneck",
            layers,
            num_classes,
            in_channels,
            widths,
            stem,
            output_stride=output_stride,
            norm=norm,
            attention=attention,
        )
        for stage, branch in zip(self.stages, branches, strict=False):
            for unit in stage:  # type: ignore[attr-defined]
                aggregate(unit, cardinality, branch, norm)
        init_relu_network(self)


resnext50_32x4d = partial(ResNeXt, layers=(3, 4, 6, 3), cardinality=32, branches=(4, 8, 16, 32))
resnext101_32x4d = partial(ResNeXt, layers=(3, 4, 23, 3), cardinality=32, branches=(4, 8, 16, 32))
resnext101_32x8d = partial(ResNeXt, layers=(3, 4, 23, 3), cardinality=32, branches=(8, 16, 32, 64))
resnext101_64x4d = partial(ResNeXt, layers=(3, 4, 23, 3), cardinality=64, branches=(4, 8, 16, 32))

_CIFAR = partial(
    ResNeXt, layers=(3, 3, 3), branches=(64, 128, 256), num_classes=10, widths=(64, 128, 256), stem="cifar"
)
resnext29_8x64d = partial(_CIFAR, cardinality=8)
resnext29_16x64d = partial(_CIFAR, cardinality=16)
