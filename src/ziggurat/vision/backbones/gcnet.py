"""GCNet: a residual network with a global context block in every unit from its second stage on, behind the last 1×1, before the addition.

Y. Cao, J. Xu, S. Lin, F. Wei, H. Hu, Global Context Networks, 2020, arXiv:2012.13375.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import nn

from ziggurat.nn.operators.global_context import GCBlock
from ziggurat.vision.backbones.resnet import KEYS as RESNET_KEYS
from ziggurat.vision.backbones.resnet import ResNet

KEYS = RESNET_KEYS
"""torchvision's names of what is a ResNet's."""


def context_above(width: int, least: int, ratio: int = 16) -> nn.Module:
    """A global context block for widths over `least`, and nothing for others."""
    return GCBlock(width, ratio) if width > least else nn.Identity()


class GCNet(ResNet):
    """A residual network of bottlenecks with context from stage c3 on.

    Arguments:
        layers: number of units of each stage.
        num_classes: 0 gives features.
        in_channels: of the images.
        widths: a quarter of each stage's output; the first is the smallest.
        ratio: r of the blocks.
        stem, output_stride: as of `ResNet`.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 1000,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        ratio: int = 16,
        stem: Literal["imagenet", "cifar", "deep"] = "imagenet",
        output_stride: Literal[8, 16, 32] = 32,
    ) -> None:
        super().__init__(
            "bottleneck",
            layers,
            num_classes,
            in_channels,
            widths,
            stem,
            output_stride=output_stride,
            attention=partial(context_above, least=4 * widths[0], ratio=ratio),
        )


gcnet50 = partial(GCNet, layers=(3, 4, 6, 3))
gcnet101 = partial(GCNet, layers=(3, 4, 23, 3))
