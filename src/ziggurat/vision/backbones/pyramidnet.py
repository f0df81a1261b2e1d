"""PyramidNet: the widths of a residual network grow a little at every unit, and not abruptly where the map shrinks.

    f_k = 16 + k α / N  (additive)        f_k = 16 α^(k / N)  (multiplicative)        for unit k = 1 … N, rounded to whole channels

Unit: BN – 3×3 – BN – ReLU – 3×3 – BN, with neither a ReLU in front nor anything behind the addition. Shortcuts hold no parameters: the
input, averaged 2×2 where the unit strides, and channels of zeros behind it.

D. Han, J. Kim, J. Kim, Deep Pyramidal Residual Networks, 2016, arXiv:1610.02915.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.staged import Staged
from ziggurat.vision.backbones.resnet import make_stem
from ziggurat.vision.backbones.wide_resnet import PreactHead

Growth = Literal["additive", "multiplicative"]


def pyramid_widths(alpha: float, units: int, start: int = 16, growth: Growth = "additive") -> list[int]:
    """The width of every unit. (The real-valued f_k is rounded, never a running sum: that would not grow for α below N.)"""
    if growth not in ("additive", "multiplicative"):
        raise ValueError(f"growth must be 'additive' or 'multiplicative', got {growth!r}.")
    if alpha < (growth == "multiplicative"):
        raise ValueError(f"{growth} widths must not shrink, got alpha = {alpha}.")
    if growth == "additive":
        return [round(start + k * alpha / units) for k in range(1, units + 1)]
    return [round(start * alpha ** (k / units)) for k in range(1, units + 1)]


def basic_branch(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """BN – 3×3 (stride) – BN – ReLU – 3×3 – BN."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, width, 3, stride, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
    )


def bottleneck_branch(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """BN – 1×1 – BN – ReLU – 3×3 (stride) – BN – ReLU – 1×1 (4×) – BN."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 4 * width, 1, bias=False),
        nn.BatchNorm2d(4 * width),
    )


BRANCHES: dict[str, tuple[Callable[[int, int, int], nn.Sequential], int]] = {
    "basic": (basic_branch, 1),
    "bottleneck": (bottleneck_branch, 4),
}
"""What makes a branch, and how many times its width it gives."""


class PyramidUnit(nn.Module):
    """A branch added to a shortcut without parameters: 2×2 averages where it strides, and zeros for the new channels.

    Arguments:
        branch: from in_channels to out_channels; None leaves the shortcut alone.
        stride: 1 or 2, of the branch.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, branch: nn.Module | None, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = branch
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        self.new = out_channels - in_channels

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        shortcut = pad(self.pool(x), (0, 0, 0, 0, 0, self.new))
        return shortcut if self.branch is None else shortcut + self.branch(x)

    def extra_repr(self) -> str:
        return f"new_channels={self.new}"


class PyramidNet(Staged):
    """Groups of units that widen at every step; the map shrinks at the first unit of all groups but the first.

    Arguments:
        layers: number of units of each group.
        alpha: α, the channels (before the bottleneck's factor) that are added over the whole network; or its factor.
        num_classes: 0 gives features.
        block: "basic" or "bottleneck".
        growth: "additive" or "multiplicative".
        start: width of the stem.
        stem: "cifar" is 3×3 – BN, "imagenet" 7×7/2 – BN – ReLU – max pooling.
        dropout: in front of the classifier.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 1, 2, 4 (stem "imagenet": 4, 8, 16, 32), of the width of each
    group's last unit.
    """

    def __init__(
        self,
        layers: Sequence[int] = (18, 18, 18),
        alpha: float = 48,
        num_classes: int = 10,
        in_channels: int = 3,
        block: Literal["basic", "bottleneck"] = "basic",
        growth: Growth = "additive",
        start: int = 16,
        stem: Literal["cifar", "imagenet"] = "cifar",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if block not in BRANCHES:
            raise ValueError(f"block must be one of {sorted(BRANCHES)}, got {block!r}.")
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem must be 'cifar' or 'imagenet', got {stem!r}.")
        branch, expansion = BRANCHES[block]
        stride = 1
        self.stem: nn.Module = ConvNormAct(in_channels, start, 3, act=None)
        if stem == "imagenet":
            self.stem, stride = make_stem("imagenet", in_channels, start, nn.BatchNorm2d)
        widths, channels = iter(pyramid_widths(alpha, sum(layers), start, growth)), start
        stages, levels, strides = [], [], []
        for group, count in enumerate(layers):
            units: list[nn.Module] = []
            for i in range(count):
                width, step = next(widths), 2 if group and not i else 1
                units.append(PyramidUnit(branch(channels, width, step), channels, expansion * width, step))
                channels, stride = expansion * width, stride * step
            stages.append(nn.Sequential(*units))
            levels.append(channels)
            strides.append(stride)
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides, self.num_features = tuple(levels), tuple(strides), channels
        self.head = PreactHead(channels, num_classes, dropout)
        init_relu_network(self)

    def units(self) -> list[PyramidUnit]:
        """All residual units, first to last."""
        return [unit for unit in self.modules() if isinstance(unit, PyramidUnit)]

    def delete_unit(self, k: int) -> PyramidNet:
        """A copy whose unit k (1 … N) passes on its shortcut alone: how much does the network need this unit?"""
        count = len(self.units())
        if not 1 <= k <= count:
            raise ValueError(f"this PyramidNet has the units 1 to {count}, got {k}.")
        lesioned = copy.deepcopy(self)
        lesioned.units()[k - 1].branch = None
        return lesioned


def cifar_pyramidnet(
    depth: int = 110,
    alpha: float = 48,
    num_classes: int = 10,
    in_channels: int = 3,
    block: Literal["basic", "bottleneck"] = "basic",
    growth: Growth = "additive",
) -> PyramidNet:
    """The network for images of 32 pixels: 6n + 2 layers of basic units, or 9n + 2 of bottlenecks, in three groups of n units."""
    group = 9 if block == "bottleneck" else 6
    if depth < group + 2 or (depth - 2) % group:
        raise ValueError(f"depth must be {group}n + 2 with {block} units, got {depth}.")
    return PyramidNet(((depth - 2) // group,) * 3, alpha, num_classes, in_channels, block, growth)


pyramidnet110_a48 = partial(cifar_pyramidnet, 110, 48)
pyramidnet110_a84 = partial(cifar_pyramidnet, 110, 84)
pyramidnet110_a270 = partial(cifar_pyramidnet, 110, 270)
pyramidnet164_a270_bottleneck = partial(cifar_pyramidnet, 164, 270, block="bottleneck")
pyramidnet200_a240_bottleneck = partial(cifar_pyramidnet, 200, 240, block="bottleneck")
pyramidnet272_a200_bottleneck = partial(cifar_pyramidnet, 272, 200, block="bottleneck")
pyramidnet200_a300 = partial(
    PyramidNet, (3, 24, 36, 3), 300, num_classes=1000, block="bottleneck", start=64, stem="imagenet"
)
pyramidnet200_a450 = partial(
    PyramidNet, (3, 24, 36, 3), 450, num_classes=1000, block="bottleneck", start=64, stem="imagenet", dropout=0.5
)
"""The last two are for ImageNet. Where the paper's dropout of 0.5 stands is our reading."""
