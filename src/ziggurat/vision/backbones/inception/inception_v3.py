"""Inception v3: large filters are factorised into small or asymmetric ones; a convolution and a pooling side by side reduce maps.

n × n becomes (n − 1) / 2 layers of 3 × 3, or 1 × n and n × 1; a reduction is [conv / 2, max pool / 2], so that no narrow layer loses what
the pooled map held. A second classifier with batch normalisation reads the last 17 × 17 map and regularises. This is the released
network, which differs from the paper's table 1.

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, Rethinking the Inception Architecture for Computer Vision, 2015,
arXiv:1512.00567.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.branches import NORM, Block, Branch, Step, Style, make_branch, make_stages, side_needed, stride_of
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged

Padding = Literal["valid", "same"]


def stacked(side: int, width: int) -> tuple[Step, ...]:
    """Layers of 3 × 3 that together see `side` × `side`: 18/25 of the cost for 5 × 5."""
    return ((3, width),) * ((side - 1) // 2)


def asymmetric(side: int, *widths: int, tall: bool = False) -> tuple[Step, ...]:
    """Layers of 1 × n and n × 1 in turn, `tall` begins with n × 1: 2/n of the cost of n × n."""
    return tuple(((side, 1) if (i % 2 == 0) == tall else (1, side), width) for i, width in enumerate(widths))


def reduction(*branches: Branch) -> Block:
    """Half the size: branches that stride, and a pooling beside them."""
    return (*branches, (("max", 3, 2),))


def block_a(pool: int) -> Block:
    """At 35 × 35: 1×1, 5×5, two 3×3, pooling."""
    return ((1, 64),), ((1, 48), (5, 64)), ((1, 64), *stacked(5, 96)), (("avg", 3), (1, pool))


def block_c(c7: int) -> Block:
    """At 17 × 17: 1×1, one 7×7 in two layers, two 7×7 in four, pooling."""
    one = ((1, c7), *asymmetric(7, c7, 192))
    two = ((1, c7), *asymmetric(7, c7, c7, c7, 192, tall=True))
    return ((1, 192),), one, two, (("avg", 3), (1, 192))


def spread(width: int) -> Step:
    """1×3 and 3×1 side by side."""
    return (((1, 3), width),), (((3, 1), width),)


STEM = ((3, 32, 2), (3, 32, 1, "V"), (3, 64), ("max", 3, 2), (1, 80), (3, 192, 1, "V"), ("max", 3, 2))
REDUCTION_B = reduction(((3, 384, 2),), ((1, 64), (3, 96), (3, 96, 2)))
REDUCTION_D = reduction(((1, 192), (3, 320, 2)), ((1, 192), *asymmetric(7, 192, 192), (3, 192, 2)))
BLOCK_E = (
    ((1, 320),),
    ((1, 384), spread(384)),
    ((1, 448), (3, 384), spread(384)),
    (("avg", 3), (1, 192)),
)
TABLE = (
    (block_a(32), block_a(64), block_a(64)),
    (REDUCTION_B, block_c(128), block_c(160), block_c(160), block_c(192)),
    (REDUCTION_D, BLOCK_E, BLOCK_E),
)
"""Stages of blocks of branches of steps, as `ziggurat.nn.branches` reads them: 35 × 35, 17 × 17 and 8 × 8 places at 299 pixels."""

_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", None, "3b_1x1", "4a_3x3")
_BLOCKS = {"5b": "0.0", "5c": "0.1", "5d": "0.2", "6a": "1.0", "7a": "2.0", "7b": "2.1", "7c": "2.2"} | {
    f"6{letter}": f"1.{i}" for i, letter in enumerate("bcde", start=1)
}
KEYS = {
    r"\.bn\.": ".norm.",
    **{rf"^Conv2d_{name}\.": f"stem.{i}." for i, name in enumerate(_STEM) if name},
    r"^(Mixed_6a)\.branch3x3\.": r"\1.0.0.",
    r"^(Mixed_6a)\.branch3x3dbl_": r"\1.1.",
    r"^(Mixed_7a)\.branch3x3_": r"\1.0.",
    r"\.branch7x7x3_": ".1.",
    r"\.branch1x1\.": ".0.0.",
    r"\.branch(5x5|7x7|3x3)_": ".1.",
    r"\.branch(3x3|7x7)dbl_": ".2.",
    **{rf"^(Mixed_\w\w\.\d)\.{i}([ab.])": rf"\1.{i - 1}\2" for i in range(1, 6)},
    r"\.branch_pool\.": ".3.1.",
    r"^(Mixed_7\w\.\d\.\d)a\.": r"\1.0.0.",
    r"^(Mixed_7\w\.\d\.\d)b\.": r"\1.1.0.",
    **{rf"^Mixed_{theirs}\.": f"stages.{ours}." for theirs, ours in _BLOCKS.items()},
    r"^AuxLogits\.conv0\.": "auxiliary_head.project.",
    r"^AuxLogits\.conv1\.": "auxiliary_head.conv.",
    r"^AuxLogits\.fc\.": "auxiliary_head.classifier.fc.",
    r"^fc\.": "head.fc.",
}
"""Names of torchvision and timm, and ours."""


class AuxiliaryHead(nn.Module):
    """A second classifier on an earlier map: average pool 5/3, 1×1, 5×5, global average, linear layer.

    Arguments:
        in_channels: of the map.
        num_classes: of the classifier.
        widths: of the two convolutions.
        valid: neither the pooling nor the 5×5 is padded, which takes 17 × 17 places; False takes a map of any size.

    Shapes: (B, in_channels, H, W) -> (B, num_classes).
    """

    def __init__(
        self, in_channels: int, num_classes: int, widths: Sequence[int] = (128, 768), valid: bool = True
    ) -> None:
        super().__init__()
        self.valid = valid
        self.pool = nn.AvgPool2d(5, 3, 0 if valid else 2, count_include_pad=False)
        self.project = ConvNormAct(in_channels, widths[0], 1, norm=NORM)
        self.conv = ConvNormAct(widths[0], widths[1], 5, norm=NORM, padding=0 if valid else None)
        self.classifier = Classifier(widths[1], num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        height, width = x.shape[-2:]
        if self.valid and min(height, width) < 17:
            raise ValueError(
                f"the auxiliary head takes maps of 17×17 or more, got {height}×{width}; enlarge the images to 299 pixels, or "
                "build the network with padding='same'."
            )
        return self.classifier(self.conv(self.project(self.pool(x))))


class InceptionV3(Staged):
    """The released network; stages end where the stride changes.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        table, stem: blocks of each stage, and steps in front of them, in the notation of `ziggurat.nn.branches`.
        width: factor on every width.
        padding: "valid" leaves strided and some other layers without padding, as the paper does; with "same" only strides change the
            size, which dense prediction and small images need.
        dropout: in front of the classifier.
        auxiliary: adds the second classifier, on the last map but one; `auxiliary(features)` are its logits.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 8, 16, 32 and widths 288, 768, 2048.
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
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        style = Style(valid=is_valid(padding), count_padding=True, width=width)
        self.stem, channels = make_branch(in_channels, stem, style)
        self.stages, self.channels, self.strides = make_stages(channels, stride_of(stem), table, style)
        self.smallest = smallest_side(stem, table) if style.valid else 1
        self.num_features = self.channels[-1]
        self.head = Classifier(self.num_features, num_classes, dropout=dropout)
        self.auxiliary_weight = 0.4 if auxiliary else 0.0
        self.auxiliary_head = None
        if auxiliary:
            widths = style.scaled(128), style.scaled(768)
            self.auxiliary_head = AuxiliaryHead(self.channels[-2], num_classes, widths, style.valid)
        init_relu_network(self)

    def auxiliary(self, features: list[Tensor]) -> Float[Tensor, "B K"]:
        """Logits of the second classifier."""
        if self.auxiliary_head is None:
            raise ValueError("this network has no auxiliary head; build it with auxiliary=True.")
        return self.auxiliary_head(features[-2])

    def reset_classifier(self, num_classes: int) -> None:
        super().reset_classifier(num_classes)
        if self.auxiliary_head is not None:
            self.auxiliary_head.reset(num_classes)


def is_valid(padding: Padding) -> bool:
    """Whether the padding is "valid"; a `ValueError` for what is neither of the two."""
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
    return padding == "valid"


def smallest_side(stem: Branch, table: Sequence[Sequence[Block]]) -> int:
    """Side of the smallest image that leaves one place behind the last stage, without padding."""
    return side_needed((*stem, *(block for blocks in table for block in blocks)))


def inception_recipe(parameters: Iterable[nn.Parameter], lr: float = 0.045, epochs: int = 100) -> Recipe:
    """The paper's optimiser: RMSProp with decay 0.9 and ε = 1, its rate times 0.94 every two of `epochs`; gradients clipped at norm 2."""
    optimizer = torch.optim.RMSprop(parameters, lr=lr, alpha=0.9, eps=1.0)
    return Recipe(optimizer, lambda fraction: 0.94 ** int(fraction * epochs / 2))


inception_v3 = InceptionV3
