"""ResNeSt: a residual network whose 3×3 convolutions are split attention, so that each channel chooses between versions of the map.

Unit: 1×1 – BN – ReLU – split attention – 3×3 average pool where it strides – 1×1 – BN, plus the shortcut, ReLU. The stem is three 3×3
convolutions and a max pool; a shortcut that changes the shape averages 2×2 places and projects.

H. Zhang, C. Wu, Z. Zhang, Y. Zhu, H. Lin, Z. Zhang, Y. Sun, T. He, J. Mueller, R. Manmatha, M. Li, A. Smola, ResNeSt: Split-Attention
Networks, 2020, arXiv:2004.08955.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.dropping import DropBlock2d
from ziggurat.nn.operators.split_attention import SplitAttention
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.resnet import make_stem

KEYS = {
    r"^conv1\.0\.": "stem.0.conv.",
    r"^conv1\.1\.": "stem.0.norm.",
    r"^conv1\.3\.": "stem.1.conv.",
    r"^conv1\.4\.": "stem.1.norm.",
    r"^conv1\.6\.": "stem.2.conv.",
    r"^bn1\.": "stem.2.norm.",
    **{rf"^layer{i + 1}\.": f"stages.{i}." for i in range(4)},
    r"\.conv2\.conv\.": ".split.conv.",
    r"\.conv2\.bn0\.": ".split.norm.",
    r"\.conv2\.fc1\.": ".split.squeeze.conv.",
    r"\.conv2\.bn1\.": ".split.squeeze.norm.",
    r"\.conv2\.fc2\.": ".split.excite.",
    r"(\.\d+)\.conv1\.": r"\1.reduce.conv.",
    r"(\.\d+)\.bn1\.": r"\1.reduce.norm.",
    r"(\.\d+)\.conv3\.": r"\1.expand.conv.",
    r"(\.\d+)\.bn3\.": r"\1.expand.norm.",
    r"\.downsample\.1\.": ".shortcut.project.conv.",
    r"\.downsample\.2\.": ".shortcut.project.norm.",
    r"^fc\.": "head.fc.",
}
"""timm's names and ours."""


def dropped_relu(p: float) -> nn.Sequential:
    """ReLU behind a DropBlock of 3×3 places."""
    return nn.Sequential(DropBlock2d(p, 3), nn.ReLU())


class AveragedShortcut(nn.Module):
    """2×2 places averaged where the unit strides, and a 1×1 projection with BN.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        self.pool = pool if stride > 1 else nn.Identity()
        self.project = ConvNormAct(in_channels, out_channels, 1, act=None)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return self.project(self.pool(x))


class SplitBottleneck(nn.Module):
    """The unit.

    Arguments:
        width: a quarter of the output's; the split attention has width · base / 64 channels in each of its `cardinality` groups.
        stride: of the average pool.
        radix, cardinality, base: R, K and the base width d of a "RsKxd" network.
        pool_first: the average pool stands before the split attention (the "fast" networks), not behind it.
        drop_block: share of each map that is dropped behind the three normalisations.

    Shapes: (B, in_channels, H, W) -> (B, 4 · width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        radix: int = 2,
        cardinality: int = 1,
        base: int = 64,
        pool_first: bool = False,
        drop_block: float = 0.0,
    ) -> None:
        super().__init__()
        inner, out = width * base // 64 * cardinality, 4 * width
        drop = partial(DropBlock2d, drop_block, 3) if drop_block else None
        act = nn.ReLU if drop is None else partial(dropped_relu, drop_block)
        pool = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.reduce = ConvNormAct(in_channels, inner, 1, act=act)
        self.pool_first = pool if pool_first else nn.Identity()
        self.split = SplitAttention(inner, radix, cardinality, act=act)
        self.pool_last = nn.Identity() if pool_first else pool
        self.expand = ConvNormAct(inner, out, 1, act=drop)
        changes = stride > 1 or in_channels != out
        self.shortcut = AveragedShortcut(in_channels, out, stride) if changes else nn.Identity()
        self.out = nn.ReLU()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.pool_last(self.split(self.pool_first(self.reduce(x))))
        return self.out(self.expand(y) + self.shortcut(x))


class ResNeSt(Staged):
    """Stem, stages of split bottlenecks, global average pooling and a linear classifier.

    Arguments:
        layers: number of units of each stage.
        num_classes: 0 gives features.
        in_channels: of the images.
        radix, cardinality, base, pool_first: of every unit.
        widths: a quarter of each stage's output.
        stem: "deep" (three 3×3 and a max pool) or "cifar" (one 3×3).
        stem_width: of its output; the first two convolutions of a deep stem have half of it.
        dropout: in front of the classifier.
        drop_block: share of the maps of the last two stages that is dropped.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32 ("cifar": 1, 2, 4, 8).
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 1000,
        in_channels: int = 3,
        radix: int = 2,
        cardinality: int = 1,
        base: int = 64,
        pool_first: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: Literal["deep", "cifar"] = "deep",
        stem_width: int = 64,
        dropout: float = 0.0,
        drop_block: float = 0.0,
    ) -> None:
        super().__init__()
        if len(layers) > len(widths):
            raise ValueError(f"{len(layers)} stages need as many widths, got {tuple(widths)}.")
        self.stem, stride = make_stem(stem, in_channels, stem_width, nn.BatchNorm2d)
        channels, stages, strides = stem_width, [], []
        for i, (depth, width) in enumerate(zip(layers, widths, strict=False)):
            step, drop = 2 if i else 1, drop_block if i >= len(layers) - 2 else 0.0
            units: list[nn.Module] = []
            for j in range(depth):
                units.append(
                    SplitBottleneck(channels, width, 1 if j else step, radix, cardinality, base, pool_first, drop)
                )
                channels = 4 * width
            stride *= step
            stages.append(nn.Sequential(*units))
            strides.append(stride)
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = tuple(4 * width for width in widths[: len(layers)]), tuple(strides)
        self.num_features = channels
        self.head = Classifier(channels, num_classes, dropout=dropout)
        init_relu_network(self)
        for unit in self.modules():
            if isinstance(unit, SplitBottleneck):
                nn.init.zeros_(unit.expand.norm.weight)  # type: ignore[arg-type]


_DEEP = partial(ResNeSt, stem_width=128, dropout=0.2)
resnest14 = partial(ResNeSt, layers=(1, 1, 1, 1))
resnest26 = partial(ResNeSt, layers=(2, 2, 2, 2))
resnest50 = partial(ResNeSt, layers=(3, 4, 6, 3))
resnest101 = partial(_DEEP, layers=(3, 4, 23, 3))
resnest200 = partial(_DEEP, layers=(3, 24, 36, 3))
resnest269 = partial(_DEEP, layers=(3, 30, 48, 8))
resnest50_fast_1s4x24d = partial(resnest50, radix=1, cardinality=4, base=24, pool_first=True)
resnest50_fast_4s2x40d = partial(resnest50, radix=4, cardinality=2, base=40, pool_first=True)
