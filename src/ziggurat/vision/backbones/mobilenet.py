"""MobileNet: every 3×3 convolution in two steps, a filter for each channel and then a mixture of channels, each with BN and ReLU.

For N outputs of M channels on D × D places the two cost D² (9 M + M N) in place of 9 D² M N, that is 1 / N + 1 / 9 of it. Width and
image size then trade accuracy against cost for the whole network.

A. Howard, M. Zhu, B. Chen, D. Kalenichenko, W. Wang, T. Weyand, M. Andreetto, H. Adam, MobileNets: Efficient Convolutional Neural
Networks for Mobile Vision Applications, 2017, arXiv:1704.04861.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ziggurat.nn.conv import Activation, ConvNormAct, init_relu_network
from ziggurat.nn.separable import DepthwiseSeparable
from ziggurat.nn.staged import Classifier, Staged

TABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""The paper's table 1: width and stride of each block. (It prints stride 2 for the last one, whose maps then could not be 7 × 7.)"""

SHALLOW = tuple(row for row in TABLE if row != (512, 1))
"""Without the five blocks of 512 channels and stride 1 (the paper's table 5)."""

KEYS = {
    r"^conv_stem\.": "stem.conv.",
    r"^bn1\.": "stem.norm.",
    r"\.conv_dw\.": ".depthwise.conv.",
    r"\.bn1\.": ".depthwise.norm.",
    r"\.conv_pw\.": ".pointwise.conv.",
    r"\.bn2\.": ".pointwise.norm.",
    r"^blocks\.0\.0\.": "stages.0.0.",
    **{rf"^blocks\.1\.{block}\.": f"stages.0.{block + 1}." for block in range(2)},
    **{rf"^blocks\.{stage}\.": f"stages.{stage - 1}." for stage in (2, 3, 4)},
    r"^classifier\.": "head.fc.",
}
"""timm's names and ours. (timm builds the network with ReLU6: `act=nn.ReLU6` here.)"""


class MobileNet(Staged):
    """The network of table 1. A stage ends with the last map of its stride.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        width: the multiplier α on every width; the paper takes 1, 0.75, 0.5 and 0.25. (Its ρ is the size of the images.)
        table: (width, stride) of each block.
        stem: width of the first convolution.
        stem_stride: 2, or 1 for small images.
        separable: False makes every block one full 3×3 convolution with BN and ReLU: the paper's Conv MobileNet.
        act: makes the activations; nn.ReLU6 is a later choice of others.
        dropout: in front of the classifier.

    Convolutions are padded by one on each side; weights from TensorFlow expect its uneven padding. The paper trains with RMSProp, little
    augmentation and no weight decay of depthwise filters (`without_decay_on_depthwise`). Shapes: (B, in_channels, H, W) ->
    (B, num_classes); features of strides 4, 8, 16, 32 and widths 128, 256, 512, 1024.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        table: Sequence[Sequence[int]] = TABLE,
        stem: int = 32,
        stem_stride: int = 2,
        separable: bool = True,
        act: Activation = nn.ReLU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"width must be positive, got {width}.")
        channels, stride = max(1, round(stem * width)), stem_stride
        self.stem = ConvNormAct(in_channels, channels, 3, stem_stride, act=act)
        stages: list[list[nn.Module]] = [[]]
        levels = [(channels, stride)]
        for base, s in table:
            if s != 1 and stride != stem_stride:
                stages.append([])
                levels.append((channels, stride))
            out, stride = max(1, round(base * width)), stride * s
            stages[-1].append(
                DepthwiseSeparable(channels, out, s, act=act)
                if separable
                else ConvNormAct(channels, out, 3, s, act=act)
            )
            channels = out
            levels[-1] = (channels, stride)
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.channels, self.strides = (tuple(values) for values in zip(*levels, strict=True))
        self.num_features = channels
        self.head = Classifier(channels, num_classes, dropout=dropout)
        init_relu_network(self)


def without_decay_on_depthwise(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimiser: filters of depthwise convolutions, which have few weights and no decay, and everything else."""
    filters = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
    chosen = {id(weight) for weight in filters}
    others = [p for p in network.parameters() if id(p) not in chosen]
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": filters, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


mobilenet = MobileNet
mobilenet_075 = partial(MobileNet, width=0.75)
mobilenet_050 = partial(MobileNet, width=0.5)
mobilenet_025 = partial(MobileNet, width=0.25)
mobilenet_shallow = partial(MobileNet, table=SHALLOW)
mobilenet_full = partial(MobileNet, separable=False)
