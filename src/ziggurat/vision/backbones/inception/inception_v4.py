"""Inception v4: one uniform choice of grid for every block of the Inception networks, made without their historical baggage.

Its stem already consists of parallel branches; 4 blocks A at 35 × 35 places, 7 blocks B at 17 × 17 and 3 blocks C at 8 × 8 follow, with
a reduction in front of the last two stages. It is the plain network with which the same paper compares Inception-ResNet.

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi, Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, 2016,
arXiv:1602.07261.
"""

from __future__ import annotations

from collections.abc import Sequence

from ziggurat.nn.branches import Block, Branch, Style, make_branch, make_stages, stride_of
from ziggurat.nn.conv import init_relu_network
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.inception.inception_v3 import (
    Padding,
    asymmetric,
    is_valid,
    reduction,
    smallest_side,
    spread,
)

STEM = (
    (3, 32, 2),
    (3, 32, 1, "V"),
    (3, 64),
    ((("max", 3, 2),), ((3, 96, 2),)),
    (((1, 64), (3, 96, 1, "V")), ((1, 64), *asymmetric(7, 64, 64), (3, 96, 1, "V"))),
    (((3, 192, 2),), (("max", 3, 2),)),
)
BLOCK_A = (((1, 96),), ((1, 64), (3, 96)), ((1, 64), (3, 96), (3, 96)), (("avg", 3), (1, 96)))
REDUCTION_A = reduction(((3, 384, 2),), ((1, 192), (3, 224), (3, 256, 2)))
BLOCK_B = (
    ((1, 384),),
    ((1, 192), *asymmetric(7, 224, 256)),
    ((1, 192), *asymmetric(7, 192, 224, 224, 256, tall=True)),
    (("avg", 3), (1, 128)),
)
REDUCTION_B = reduction(((1, 192), (3, 192, 2)), ((1, 256), *asymmetric(7, 256, 320), (3, 320, 2)))
BLOCK_C = (
    ((1, 256),),
    ((1, 384), spread(256)),
    ((1, 384), *asymmetric(3, 448, 512, tall=True), spread(256)),
    (("avg", 3), (1, 256)),
)
TABLE = ((BLOCK_A,) * 4, (REDUCTION_A, *(BLOCK_B,) * 7), (REDUCTION_B, *(BLOCK_C,) * 3))
"""Stages of blocks of branches of steps, as `ziggurat.nn.branches` reads them."""

KEYS = {
    r"\.bn\.": ".norm.",
    r"^features\.3\.conv\.": "features.3.1.0.",
    r"^features\.5\.conv\.": "features.5.0.0.",
    r"^(features\.(?:19|20|21))\.branch(\d)_(\d)a\.": r"\1.\2.\3.0.0.",
    r"^(features\.(?:19|20|21))\.branch(\d)_(\d)b\.": r"\1.\2.\3.1.0.",
    r"^(features\.(?:19|20|21))\.branch(\d)_(\d)\.": r"\1.\2.\3.",
    r"\.branch(\d)\.(conv|norm)\.": r".\1.0.\2.",
    r"\.branch(\d)\.": r".\1.",
    **{rf"^features\.{i}\.": f"stem.{i}." for i in range(6)},
    **{rf"^features\.{i + 6}\.": f"stages.0.{i}." for i in range(4)},
    **{rf"^features\.{i + 10}\.": f"stages.1.{i}." for i in range(8)},
    **{rf"^features\.{i + 18}\.": f"stages.2.{i}." for i in range(4)},
    r"^last_linear\.": "head.fc.",
}
"""Names of timm, and ours."""


class InceptionV4(Staged):
    """The network; stages end where the stride changes.

    Arguments: as of `InceptionV3`, without an auxiliary head.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 8, 16, 32 and widths 384, 1024, 1536.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        table: Sequence[Sequence[Block]] = TABLE,
        stem: Branch = STEM,
        width: float = 1.0,
        padding: Padding = "valid",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        style = Style(valid=is_valid(padding), width=width)
        self.stem, channels = make_branch(in_channels, stem, style)
        self.stages, self.channels, self.strides = make_stages(channels, stride_of(stem), table, style)
        self.smallest = smallest_side(stem, table) if style.valid else 1
        self.num_features = self.channels[-1]
        self.head = Classifier(self.num_features, num_classes, dropout=dropout)
        init_relu_network(self)


inception_v4 = InceptionV4
