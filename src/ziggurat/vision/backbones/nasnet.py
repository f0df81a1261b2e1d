"""NASNet: a search on small images finds a cell, and the network for large images stacks the same cell more often and wider.

"N @ P" names a network by its cells between reductions and its channels before the classifier, P = 24 F for NASNet-A. F doubles behind
each reduction. For images of ImageNet's size a 3×3/2 convolution and two reduction cells of widths F / 4 and F / 2 stand in front.

B. Zoph, V. Vasudevan, J. Shlens, Q. Le, Learning Transferable Architectures for Scalable Image Recognition, 2017, arXiv:1707.07012.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.inception.inception_v3 import AuxiliaryHead
from ziggurat.vision.backbones.nasnet_cells import NASNET_A, Genotype, NASNetCell, make_norm

_CELLS = {"cell_stem_0": "0.0", "cell_stem_1": "1.0", "reduction_cell_0": "2.0", "reduction_cell_1": "3.0"} | {
    f"cell_{i}": f"{1 + i // 6}.{1 + i % 6}" for i in range(18)
}
KEYS = {
    r"^conv0\.conv\.": "stem.conv.conv.",
    r"^conv0\.bn\.": "stem.conv.norm.",
    **{rf"^{theirs}\.": f"stages.{ours}." for theirs, ours in _CELLS.items()},
    r"\.conv_1x1\.bn\.": ".current.norm.",
    r"\.conv_1x1\.": ".current.",
    r"\.conv_prev_1x1\.bn\.": ".before.norm.",
    r"\.conv_prev_1x1\.": ".before.",
    r"\.path_1\.conv\.": ".before.1.first.",
    r"\.path_2\.conv\.": ".before.1.second.",
    r"\.final_path_bn\.": ".before.1.norm.",
    r"\.comb_iter_(\d)_(left|right)\.": r".blocks.\1.\2.",
    r"\.separable_1\.": ".first.",
    r"\.separable_2\.": ".second.",
    r"\.bn_sep_(\d)\.": r".norm\1.",
    r"\.(depth|point)wise_conv2d\.": r".\1wise.",
    r"^last_linear\.": "head.fc.",
}
"""Names of timm's nasnetalarge, and ours."""


class Pair(NamedTuple):
    """What stages hand on: a map, and the one before it."""

    x: Tensor
    previous: Tensor


class CellStage(nn.Sequential):
    """Cells, each of which reads the outputs of the two before it.

    Arguments:
        skip: the cell behind the first one, a reduction, reads the map two cells before instead of the last one.
    """

    def __init__(self, *cells: NASNetCell, skip: bool = False) -> None:
        super().__init__(*cells)
        self.skip = skip

    def forward(self, pair: Pair) -> Pair:
        for i, cell in enumerate(self):
            y = cell(pair.x, pair.previous)
            pair = Pair(y, pair.previous if self.skip and i == 0 else pair.x)
        return pair


class Stem(nn.Module):
    """The first convolution, without a ReLU; there is no map before it."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        padding = 0 if stride == 2 else None
        self.conv = ConvNormAct(in_channels, width, 3, stride, norm=make_norm, act=None, padding=padding)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Pair:
        x = self.conv(x)
        return Pair(x, x)


class ReluClassifier(Classifier):
    """ReLU, then the usual classifier: cells end linearly."""

    def forward(self, x: Float[Tensor, "B C H W"], pre_logits: bool = False) -> Tensor:
        return super().forward(x.relu(), pre_logits=pre_logits)


class NASNet(Staged):
    """The network; stages end where the stride changes.

    A cell reads the outputs of the two before it. Stages hand on a `Pair` of them, so methods that pass one tensor from part to part
    cannot take this network: it is not `sequential`.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        cells: N, normal cells in each of three stages; or a number for each stage of a shorter or longer network.
        width: F, of the first normal cells.
        genotype: the normal and the reduction cell.
        stem: "imagenet", or "cifar": a single 3×3 of width 3 F for small images.
        stem_width: of the first convolution of "imagenet".
        skip: the cell behind a reduction reads the map two cells before (as in the large network), not the last one.
        drop_path: probability of dropping each path, reached at the end of the training in the last cell. It takes effect once somebody
            tells the progress (`ziggurat.nn.operators.scheduled_drop_path`).
        dropout: in front of the classifier.
        auxiliary: adds a second classifier at two thirds of the depth; `auxiliary(features)` are its logits.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); NASNet-A has features of strides 4, 8, 16, 32 and widths F, 6F, 12F, 24F
    ("cifar": 1, 2, 4 and the last three widths). TensorFlow pads even maps on one side, here both sides are padded; for images
    of 32 k + 3 pixels there is no difference.
    """

    sequential = False

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        cells: int | Sequence[int] = 6,
        width: int = 168,
        genotype: Genotype = NASNET_A,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        stem_width: int = 96,
        skip: bool = False,
        drop_path: float = 0.0,
        dropout: float = 0.5,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"stem must be 'imagenet' or 'cifar', got {stem!r}.")
        large = stem == "imagenet"
        counts = (cells,) * 3 if isinstance(cells, int) else tuple(cells)
        if min(counts) < 0 or counts[0] < 1 or (skip and min(counts) < 1):
            raise ValueError(f"cells must be at least 1 in the first stage (in all with skip), got {cells}.")
        if large and width % 4:
            raise ValueError(f"width must be a multiple of 4, as the stem's cells have a quarter of it, got {width}.")
        first = [[("reduction", width // 4)], [("reduction", width // 2)]] if large else [[]]
        rows = first + [[("reduction", width << i)] for i in range(1, len(counts))]
        for i, (row, count) in enumerate(zip(rows[-len(counts) :], counts, strict=True)):
            row.extend([("normal", width << i)] * count)
        channels, stride = (stem_width, 2) if large else (3 * width, 1)
        self.stem = Stem(in_channels, channels, stride)
        before: int | None = None
        larger, depth, total = 1, 0, sum(len(row) for row in rows)
        stages, widths, strides = nn.ModuleList(), [], []
        for i, row in enumerate(rows):
            stage: list[NASNetCell] = []
            skips = skip and i >= len(first)
            for kind, size in row:
                depth, step = depth + 1, 2 if kind == "reduction" else 1
                plan, drop = getattr(genotype, kind), drop_path * depth / total
                stage.append(NASNetCell(channels, before, size, plan, step, larger, drop))
                before, larger = (before, larger * step) if skips and kind == "reduction" else (channels, step)
                channels, stride = stage[-1].out_channels, stride * step
            stages.append(CellStage(*stage, skip=skips))
            widths.append(channels)
            strides.append(stride)
        self.stages, self.channels, self.strides = stages, tuple(widths), tuple(strides)
        self.smallest = 3 if large else 1
        self.num_features = channels
        self.head = ReluClassifier(channels, num_classes, dropout=dropout)
        self.auxiliary_weight = 0.4 if auxiliary else 0.0
        self.auxiliary_head = AuxiliaryHead(self.channels[-2], num_classes, valid=False) if auxiliary else None
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        self.check_size(x)
        pair = self.stem(x)
        features = []
        for stage in self.stages:
            pair = self.run(stage, pair)
            features.append(pair.x)
        return features

    def auxiliary(self, features: list[Tensor]) -> Float[Tensor, "B K"]:
        """Logits of the second classifier."""
        if self.auxiliary_head is None:
            raise ValueError("this network has no auxiliary head; build it with auxiliary=True.")
        return self.auxiliary_head(features[-2].relu())

    def reset_classifier(self, num_classes: int) -> None:
        super().reset_classifier(num_classes)
        if self.auxiliary_head is not None:
            self.auxiliary_head.reset(num_classes)


nasnet_a_mobile = partial(NASNet, cells=4, width=44, stem_width=32)
nasnet_a_large = partial(NASNet, cells=6, width=168, stem_width=96, skip=True)
nasnet_a_cifar = partial(NASNet, 10, cells=6, width=32, stem="cifar", dropout=0.0)
