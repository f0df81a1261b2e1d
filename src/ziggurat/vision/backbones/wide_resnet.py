"""Wide residual networks: few, wide pre-activated blocks learn as much as many thin ones, and much faster.

    y = conv(dropout(ReLU(BN(conv(a))))) + s(x),        a = ReLU(BN(x))

s is the identity, and where the shape changes a bare 1×1 convolution of a. A network of 6n + 4 layers has three stages of n blocks, with
16k, 32k and 64k channels; B(3, 3) above is the best block, others have other kernels in their branch.

S. Zagoruyko, N. Komodakis, Wide Residual Networks, 2016, arXiv:1605.07146.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from ziggurat.nn.conv import Norm, init_relu_network
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.resnet import Attention, Bottleneck, ResNet, Shortcut


def blocks_a_stage(depth: int, convolutions: int = 2) -> int:
    """n of a network of 3 l n + 4 layers, with l convolutions a block (6n + 4 for two)."""
    group = 3 * convolutions
    if depth < group + 4 or (depth - 4) % group:
        known = ", ".join(str(group * n + 4) for n in range(1, 6))
        raise ValueError(f"depth must be {group}n + 4 ({known} …), got {depth}.")
    return (depth - 4) // group


class PreactBlock(nn.Module):
    """BN – ReLU – convolution for each kernel, added to the input; where the size changes, to a 1×1 convolution of the activated input.

    Arguments:
        stride: of the first convolution.
        dropout: in front of the last convolution.
        kernels: of the branch: (3, 3) is B(3, 3), (3, 1, 1) is B(3, 1, 1); their number is the deepening factor l.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dropout: float = 0.0,
        kernels: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__()
        widths = (in_channels, *(out_channels for _ in kernels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(width, out_channels, k, 1 if i else stride, k // 2, bias=False)
            for i, (width, k) in enumerate(zip(widths, kernels))
        )
        self.dropout = nn.Dropout(dropout)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        active = y = relu(self.norms[0](x))
        for i, conv in enumerate(self.convs):
            y = relu(self.norms[i](y)) if i else y
            y = conv(self.dropout(y) if 0 < i == len(self.convs) - 1 else y)
        return y + (x if self.shortcut is None else self.shortcut(active))


class PreactHead(nn.Module):
    """The last normalisation and ReLU, global average, classifier."""

    def __init__(self, channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = Classifier(channels, num_classes, dropout=dropout)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return self.classifier(relu(self.norm(x)), pre_logits=pre_logits)


class WideResNet(Staged):
    """6n + 4 layers in three stages.

    Arguments:
        depth: 6n + 4; with l convolutions a block 3 l n + 4.
        width: k, of the stages 16k, 32k and 64k; the stem has 16 channels whatever k is. Fractions are rounded to whole channels.
        num_classes: 0 gives features.
        dropout: between the two convolutions of a block (the paper: 0.3 for CIFAR, 0.4 for SVHN).
        kernels: of a block's convolutions.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 1, 2, 4.
    """

    def __init__(
        self,
        depth: int = 28,
        width: float = 10,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.0,
        kernels: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__()
        count = blocks_a_stage(depth, len(kernels))
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.channels, self.strides = tuple(round(base * width) for base in (16, 32, 64)), (1, 2, 4)
        stages, channels = [], 16
        for k, out in enumerate(self.channels):
            blocks = []
            for i in range(count):
                blocks.append(PreactBlock(channels, out, 2 if k and not i else 1, dropout, kernels))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.num_features = channels
        self.head = PreactHead(channels, num_classes)
        init_relu_network(self)


class WideBottleneck(Bottleneck):
    """The ImageNet form: a bottleneck whose 3×3 convolution is twice as wide, between ends as before.

    Arguments: as of `Bottleneck`.
    """

    widening: ClassVar[int] = 2

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
        super().__init__(in_channels, width, stride, dilation, shortcut, norm, attention, avg_down, stride_in)
        inner, strides = self.widening * width, (self.conv1.stride, self.conv2.stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, strides[0], bias=False)  # type: ignore[arg-type]
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, strides[1], dilation, dilation, bias=False)  # type: ignore[arg-type]
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, self.expansion * width, 1, bias=False)


wrn_10_1 = partial(WideResNet, depth=10, width=1)
wrn_16_4 = partial(WideResNet, depth=16, width=4)
wrn_16_8 = partial(WideResNet, depth=16, width=8)
wrn_16_10 = partial(WideResNet, depth=16, width=10)
wrn_22_8 = partial(WideResNet, depth=22, width=8)
wrn_28_10 = partial(WideResNet, depth=28, width=10)
wrn_28_12 = partial(WideResNet, depth=28, width=12)
wrn_40_1 = partial(WideResNet, depth=40, width=1)
wrn_40_2 = partial(WideResNet, depth=40, width=2)
wrn_40_4 = partial(WideResNet, depth=40, width=4)
wrn_40_8 = partial(WideResNet, depth=40, width=8)
wide_resnet50_2 = partial(ResNet, block=WideBottleneck, layers=(3, 4, 6, 3))
wide_resnet101_2 = partial(ResNet, block=WideBottleneck, layers=(3, 4, 23, 3))
"""torchvision's weights of the last two load under the names of ResNet."""
