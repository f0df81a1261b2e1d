"""Inception-ResNet: the branches of an Inception block end in a linear 1×1 convolution whose output, made small, is added to the input.

    y = ReLU(x + s · W [b₁(x), b₂(x), …])            s = 0.1 … 0.3

The addition lets Inception networks train faster at equal cost; the factor keeps the very wide ones from dying. Neither W nor the sum is
normalised. `InceptionResNetV2` is the released form (the paper's figures print 1154 and 2048 channels where it has 1088 and 2080).

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi, Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, 2016,
arXiv:1602.07261.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ziggurat.nn.branches import Block, Branch, Style, make_branch, make_branches, stride_of
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.scaled_residual import ScaledResidual
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.inception.inception_v3 import STEM as STEM_V3
from ziggurat.vision.backbones.inception.inception_v3 import Padding, asymmetric, is_valid, reduction, smallest_side

Row = Sequence[Any]  # (block in front or (), block of the residual units, scale, number of units)

STEM_V1 = (*STEM_V3[:-1], (3, 256, 2))
TABLE_V1 = (
    ((), (((1, 32),), ((1, 32), (3, 32)), ((1, 32), (3, 32), (3, 32))), 0.17, 5),
    (
        reduction(((3, 384, 2),), ((1, 192), (3, 192), (3, 256, 2))),
        (((1, 128),), ((1, 128), *asymmetric(7, 128, 128))),
        0.10,
        10,
    ),
    (
        reduction(((1, 256), (3, 384, 2)), ((1, 256), (3, 256, 2)), ((1, 256), (3, 256), (3, 256, 2))),
        (((1, 192),), ((1, 192), *asymmetric(3, 192, 192))),
        0.20,
        5,
    ),
)
MIXED = (((1, 96),), ((1, 48), (5, 64)), ((1, 64), (3, 96), (3, 96)), (("avg", 3), (1, 64)))
TABLE_V2 = (
    (MIXED, (((1, 32),), ((1, 32), (3, 32)), ((1, 32), (3, 48), (3, 64))), 0.17, 10),
    (
        reduction(((3, 384, 2),), ((1, 256), (3, 256), (3, 384, 2))),
        (((1, 192),), ((1, 128), *asymmetric(7, 160, 192))),
        0.10,
        20,
    ),
    (
        reduction(((1, 256), (3, 384, 2)), ((1, 256), (3, 288, 2)), ((1, 256), (3, 288), (3, 320, 2))),
        (((1, 192),), ((1, 192), *asymmetric(3, 224, 256))),
        0.20,
        10,
    ),
)
"""Rows of a stage: the block in front, the branches of the residual units, their scale, how many there are."""

_STEM = ("1a", "2a", "2b", None, "3b", "4a")
KEYS = {
    r"\.bn\.": ".norm.",
    **{rf"^conv2d_{name}\.": f"stem.{i}." for i, name in enumerate(_STEM) if name},
    r"^conv2d_7b\.": "last.",
    r"^block8\.": "repeat_2.9.",
    r"^repeat(\w*)\.(\d+)\.branch(\d)\.": r"repeat\1.\2.branch.0.branch\3.",
    r"^repeat(\w*)\.(\d+)\.conv2d\.": r"repeat\1.\2.branch.1.",
    r"\.branch(\d)\.(conv|norm)\.": r".\1.0.\2.",
    r"\.branch(\d)\.": r".\1.",
    **{rf"^mixed_{name}\.": f"stages.{i}.0." for i, name in enumerate(("5b", "6a", "7a"))},
    **{rf"^repeat\.{i}\.": f"stages.0.{i + 1}." for i in range(10)},
    **{rf"^repeat_1\.{i}\.": f"stages.1.{i + 1}." for i in range(20)},
    **{rf"^repeat_2\.{i}\.": f"stages.2.{i + 1}." for i in range(10)},
    r"^classif\.": "head.fc.",
}
"""Names of timm (the second version), and ours."""


def make_unit(
    channels: int,
    block: Block,
    style: Style,
    scale: float,
    act: type[nn.Module] | None = nn.ReLU,
    residual: bool = True,
) -> nn.Module:
    """A residual unit, or with `residual` False its twin of equal cost: the same layers, ReLU, and no addition."""
    branches, width = make_branches(channels, block, style)
    branch = nn.Sequential(branches, nn.Conv2d(width, channels, 1))
    if residual:
        return ScaledResidual(branch, scale, act)
    return nn.Sequential(branch, *([] if act is None else [act()]))


class InceptionResNet(Staged):
    """A stem, and stages of a block in front and residual units; the very last unit has scale 1 and no ReLU.

    Arguments:
        table: rows of (block in front, block of the units, scale, units), one a stage, in the notation of `ziggurat.nn.branches`.
        stem: steps in front of them.
        last: width of a 1×1 convolution in front of the pooling; 0 leaves it out.
        num_classes: 0 gives features.
        in_channels: of the images.
        width: factor on every width.
        padding: "valid" as in the paper; "same" pads, so that only strides change the size.
        dropout: in front of the classifier.
        scale: of every unit but the last, instead of the table's.
        residual: False leaves out the additions: the plain twin of equal cost.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 8, 16, 32.
    """

    def __init__(
        self,
        table: Sequence[Row],
        stem: Branch,
        last: int = 0,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        padding: Padding = "valid",
        dropout: float = 0.2,
        scale: float | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        style = Style(valid=is_valid(padding), width=width)
        self.stem, channels = make_branch(in_channels, stem, style)
        stages, widths, strides, stride = [], [], [], stride_of(stem)
        for i, (front, block, factor, count) in enumerate(table):
            units: list[nn.Module] = []
            if front:
                first, channels = make_branches(channels, front, style)
                units.append(first)
                stride *= stride_of((front,))
            for j in range(count):
                final = i == len(table) - 1 and j == count - 1
                factor = 1.0 if final else factor if scale is None else scale
                units.append(make_unit(channels, block, style, factor, None if final else nn.ReLU, residual))
            stages.append(nn.Sequential(*units))
            widths.append(channels)
            strides.append(stride)
        self.stages, self.channels, self.strides = nn.ModuleList(stages), tuple(widths), tuple(strides)
        self.smallest = smallest_side(stem, [[row[0]] for row in table if row[0]]) if style.valid else 1
        self.num_features = style.scaled(last) if last else channels
        self.last = ConvNormAct(channels, self.num_features, 1, norm=style.norm) if last else nn.Identity()
        self.head = Classifier(self.num_features, num_classes, dropout=dropout)
        init_relu_network(self)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(self.last(features[-1]), pre_logits=pre_logits)


class InceptionResNetV2(InceptionResNet):
    """The second, wider version, at the cost of Inception v4: features of widths 320, 1088, 2080, and 1536 before the classifier.

    Arguments: as of `InceptionResNet`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        table: Sequence[Row] = TABLE_V2,
        stem: Branch = STEM_V3,
        last: int = 1536,
        width: float = 1.0,
        padding: Padding = "valid",
        dropout: float = 0.2,
        scale: float | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__(table, stem, last, num_classes, in_channels, width, padding, dropout, scale, residual)


class InceptionResNetV1(InceptionResNet):
    """The first version, at the cost of Inception v3: features of widths 256, 896, 1792.

    Arguments: as of `InceptionResNet`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        table: Sequence[Row] = TABLE_V1,
        stem: Branch = STEM_V1,
        width: float = 1.0,
        padding: Padding = "valid",
        dropout: float = 0.2,
        scale: float | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__(table, stem, 0, num_classes, in_channels, width, padding, dropout, scale, residual)


inception_resnet_v1 = InceptionResNetV1
inception_resnet_v2 = InceptionResNetV2
