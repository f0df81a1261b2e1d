"""Residual networks: each unit learns what to add to its input, so that depth no longer makes a network harder to train.

    y = ReLU(F(x) + S(x))

BasicBlock F: 3×3 (stride) – BN – ReLU – 3×3 – BN. Bottleneck F: 1×1 – BN – ReLU – 3×3 – BN – ReLU – 1×1 (4×) – BN.
S is the identity, or where the shape changes: "A" sub-sampling and zero channels, without parameters, "B" a strided 1×1
convolution with BN; "C" projects everywhere. `None` leaves S out: a plain network.

K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct, Norm, ZeroPadShortcut, init_relu_network
from ziggurat.nn.staged import Classifier, Staged

Shortcut = Literal["A", "B", "C"] | None
Attention = Callable[[int], nn.Module]

KEYS = {
    r"^conv1\.": "stem.0.conv.",
    r"^bn1\.": "stem.0.norm.",
    r"^layer1\.": "stages.0.",
    r"^layer2\.": "stages.1.",
    r"^layer3\.": "stages.2.",
    r"^layer4\.": "stages.3.",
    r"\.downsample\.0\.": ".shortcut.conv.",
    r"\.downsample\.1\.": ".shortcut.norm.",
    r"^(fc|linear)\.": "head.fc.",
}
"""Names of torchvision's and timm's residual networks (and of the usual CIFAR ones), and what they are called here:
regular expressions and replacements, all applied in this order."""


class _Unit(nn.Module):
    """Residual arithmetic shared by the two blocks: `last` names the normalisation before the addition."""

    expansion: int
    last: str

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, norm: Norm, avg_down: bool
    ) -> None:
        super().__init__()
        self.shortcut: nn.Module | None = None
        changes = stride != 1 or in_channels != out_channels
        if shortcut is not None and not changes and shortcut != "C":
            self.shortcut = nn.Identity()
        elif shortcut == "A":
            self.shortcut = ZeroPadShortcut(in_channels, out_channels, stride)
        elif shortcut is not None and avg_down and stride != 1:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            project = ConvNormAct(in_channels, out_channels, 1, norm=norm, act=None)
            self.shortcut = nn.Sequential(pool, *project)
        elif shortcut is not None:
            self.shortcut = ConvNormAct(in_channels, out_channels, 1, stride, norm=norm, act=None)

    def residual(self, x: Tensor) -> Tensor:
        """F(x)."""
        raise TypeError(f"{type(self).__name__} does not define its residual function.")

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.residual(x)
        return self.out(y if self.shortcut is None else y + self.shortcut(x))


class BasicBlock(_Unit):
    """Two 3×3 convolutions and a shortcut.

    Arguments:
        width: of both convolutions, and of the output.
        stride: of the first convolution.
        dilation: of both convolutions.
        shortcut: "A", "B", "C" or None (see the module).
        attention: made for the output width and applied to F(x) before the addition.
    """

    expansion, last = 1, "bn2"

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        shortcut: Shortcut = "B",
        norm: Norm = nn.BatchNorm2d,
        attention: Attention | None = None,
        avg_down: bool = False,
        stride_in: Literal["1x1", "3x3"] = "3x3",
    ) -> None:
        super().__init__(in_channels, width, stride, shortcut, norm, avg_down)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = norm(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = norm(width)
        self.attention = nn.Identity() if attention is None else attention(width)
        self.out = nn.ReLU()

    def residual(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.attention(self.bn2(self.conv2(x)))


class Bottleneck(_Unit):
    """1×1 down to `width`, 3×3, 1×1 up to four times `width`, and a shortcut.

    Arguments: as of `BasicBlock`; `stride_in` says which convolution strides: "1x1" is the paper's, "3x3" the usual one since.
    """

    expansion, last = 4, "bn3"

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        shortcut: Shortcut = "B",
        norm: Norm = nn.BatchNorm2d,
        attention: Attention | None = None,
        avg_down: bool = False,
        stride_in: Literal["1x1", "3x3"] = "3x3",
    ) -> None:
        super().__init__(in_channels, 4 * width, stride, shortcut, norm, avg_down)
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = norm(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, second, dilation, dilation, bias=False)
        self.bn2 = norm(width)
        self.act2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.attention = nn.Identity() if attention is None else attention(4 * width)
        self.out = nn.ReLU()

    def residual(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.attention(self.bn3(self.conv3(x)))


BLOCKS: dict[str, type[_Unit]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def make_stem(
    kind: Literal["imagenet", "cifar", "deep"], in_channels: int, width: int, norm: Norm
) -> tuple[nn.Sequential, int]:
    """The first layers and their stride: 7×7/2 and a max pool, one 3×3 for small images, or three 3×3 and a max pool."""
    if kind == "cifar":
        return nn.Sequential(ConvNormAct(in_channels, width, 3, norm=norm)), 1
    if kind == "imagenet":
        return nn.Sequential(ConvNormAct(in_channels, width, 7, 2, norm=norm), nn.MaxPool2d(3, 2, 1)), 4
    if kind == "deep":
        half = width // 2
        convs = [
            ConvNormAct(in_channels, half, 3, 2, norm=norm),
            ConvNormAct(half, half, 3, norm=norm),
            ConvNormAct(half, width, 3, norm=norm),
        ]
        return nn.Sequential(*convs, nn.MaxPool2d(3, 2, 1)), 4
    raise ValueError(f"stem must be 'imagenet', 'cifar' or 'deep', got {kind!r}.")


class ResNet(Staged):
    """A residual network: a stem, stages of residual units, global average pooling and a linear classifier.

    Arguments:
        block: "basic", "bottleneck" or a class with their constructor and an `expansion`.
        layers: number of units of each stage.
        num_classes: 0 gives features.
        in_channels: of the images.
        widths: of the units of each stage (a bottleneck's output is four times as wide).
        stem: "imagenet" (7×7/2 and max pool), "cifar" (one 3×3), "deep" (three 3×3 and max pool).
        shortcut: "A", "B", "C", or None for a plain network.
        stride_in: which convolution of a bottleneck strides; "3x3" is the usual one, "1x1" the paper's.
        output_stride: 32 for all strides (relative to an ImageNet stem); at 16 or 8 the last stages dilate instead.
        avg_down: average pooling before the shortcut's projection.
        norm, attention: made for a width.
        zero_init: the last normalisation of each unit starts at scale zero, so that each unit starts as the identity.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32 ("cifar": 1, 2, 4, 8).
    """

    def __init__(
        self,
        block: str | type[_Unit],
        layers: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: Literal["imagenet", "cifar", "deep"] = "imagenet",
        shortcut: Shortcut = "B",
        stride_in: Literal["1x1", "3x3"] = "3x3",
        output_stride: Literal[8, 16, 32] = 32,
        avg_down: bool = False,
        norm: Norm = nn.BatchNorm2d,
        attention: Attention | None = None,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(block, str):
            if block not in BLOCKS:
                raise ValueError(f"block must be one of {sorted(BLOCKS)} or a class, got {block!r}.")
            block = BLOCKS[block]
        if len(layers) > len(widths):
            raise ValueError(f"{len(layers)} stages need as many widths, got {tuple(widths)}.")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}.")
        self.stem, stride = make_stem(stem, in_channels, widths[0], norm)
        most = output_stride * stride // 4
        channels, dilation, strides, stages = widths[0], 1, [], []
        for i, (depth, width) in enumerate(zip(layers, widths, strict=False)):
            step, first = (1 if i == 0 else 2), dilation
            if stride * step > most:
                dilation, step = dilation * step, 1
            stride *= step
            units: list[nn.Module] = []
            for j in range(depth):
                units.append(
                    block(
                        channels,
                        width,
                        stride=step if j == 0 else 1,
                        dilation=first if j == 0 else dilation,
                        shortcut=shortcut,
                        norm=norm,
                        attention=attention,
                        avg_down=avg_down,
                        stride_in=stride_in,
                    )
                )
                channels = width * block.expansion
            stages.append(nn.Sequential(*units))
            strides.append(stride)
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(width * block.expansion for width in widths[: len(layers)])
        self.strides, self.num_features = tuple(strides), channels
        self.head = Classifier(channels, num_classes)
        init_relu_network(self)
        if zero_init:
            for unit in self.modules():
                if isinstance(unit, _Unit):
                    nn.init.zeros_(getattr(unit, unit.last).weight)


resnet18 = partial(ResNet, "basic", (2, 2, 2, 2))
resnet34 = partial(ResNet, "basic", (3, 4, 6, 3))
resnet50 = partial(ResNet, "bottleneck", (3, 4, 6, 3))
resnet101 = partial(ResNet, "bottleneck", (3, 4, 23, 3))
resnet152 = partial(ResNet, "bottleneck", (3, 8, 36, 3))


def cifar_resnet(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "A",
    zero_init: bool = False,
) -> ResNet:
    """The paper's network for 32-pixel images: 6n + 2 layers in three stages of n basic blocks, shortcuts without parameters.

    Arguments: `depth` is one of 8, 14, 20, 32, 44, 56, 110, 1202 …; the others as of `ResNet`.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, 110 …), got {depth}.")
    blocks = (depth - 2) // 6
    return ResNet(
        "basic", (blocks,) * 3, num_classes, in_channels, widths, stem="cifar", shortcut=shortcut, zero_init=zero_init
    )


cifar_resnet20 = partial(cifar_resnet, 20)
cifar_resnet32 = partial(cifar_resnet, 32)
cifar_resnet44 = partial(cifar_resnet, 44)
cifar_resnet56 = partial(cifar_resnet, 56)
cifar_resnet110 = partial(cifar_resnet, 110)
cifar_resnet1202 = partial(cifar_resnet, 1202)
