"""Xception: correlations between channels and correlations in space are decoupled entirely, by separable convolutions with shortcuts.

    y = BN(Σ_m p[n, m] (d[m] ∗ ReLU(x)[m])), twice or three times, + shortcut(x)

An Inception module mixes channels by a 1×1 convolution and then filters a few groups of them in space. With one group a channel the
groups are as many as they can be, and the module is a separable convolution; it works best with nothing between its two steps.

F. Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, 2016, arXiv:1610.02357.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import Activation, ConvNormAct, init_relu_network
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.separable import SeparableConv2d
from ziggurat.nn.staged import Classifier, Staged

Convolution = Callable[[int, int], nn.Module]
"""Makes a convolution that keeps the size, from its numbers of input and output channels."""

ENTRY, MIDDLE, BLOCKS, EXIT, LAST = (128, 256, 728), 728, 8, 1024, (1536, 2048)
"""Widths of the entry flow's blocks; width and number of the middle flow's; width of the exit flow's block, and of what follows it."""

_UNITS = {r"\.rep\.1\.": ".units.0.conv.", r"\.rep\.2\.": ".units.0.norm."} | {
    rf"\.rep\.{3 * i + k}\.": f".units.{i}.{part}." for i in (1, 2) for k, part in ((1, "conv"), (2, "norm"))
}
_PLACES = {1: "1.0", 2: "2.0", **{i: f"3.{i - 3}" for i in range(3, 12)}, 12: "4.0"}
KEYS = {
    r"^conv1\.": "stem.conv.",
    r"^bn1\.": "stem.norm.",
    r"^conv2\.": "stages.0.0.conv.",
    r"^bn2\.": "stages.0.0.norm.",
    r"^conv3\.": "stages.4.1.conv.",
    r"^bn3\.": "stages.4.1.norm.",
    r"^conv4\.": "stages.4.2.conv.",
    r"^bn4\.": "stages.4.2.norm.",
    **{
        rf"^block1\.rep\.{i}\.": f"block1.units.{place}."  # has no ReLU in front
        for i, place in {0: "0.conv", 1: "0.norm", 3: "1.conv", 4: "1.norm"}.items()
    },
    **_UNITS,
    r"\.skip\.": ".shortcut.conv.",
    r"\.skipbn\.": ".shortcut.norm.",
    **{rf"^block{i}\.": f"stages.{place}." for i, place in _PLACES.items()},
    r"\.conv\.conv1\.": ".conv.depthwise.",
    r"^fc\.": "head.fc.",
}
"""Names of timm's legacy_xception, and ours."""


class ActivatedSeparable(SeparableConv2d):
    """A separable convolution with an activation between its two steps: the paper's ablation (figure 10).

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, act: Activation = nn.ReLU) -> None:
        super().__init__(in_channels, out_channels)
        self.act = act()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        return self.pointwise(self.act(self.depthwise(x)))


class InceptionSpectrum(nn.Sequential):
    """The reduced Inception module: a 1×1 convolution, then `towers` 3×3 convolutions on disjoint segments of its channels.

    One tower is an ordinary convolution behind a 1×1; with as many towers as channels it is a separable convolution, its steps the other
    way round. Parameters are named `pointwise` and `spatial`; neither has a bias.

    Arguments:
        towers: divides out_channels; None takes one for each output channel.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, towers: int | None = None) -> None:
        super().__init__()
        groups = out_channels if towers is None else towers
        if groups < 1 or out_channels % groups:
            raise ValueError(f"towers must divide the {out_channels} output channels, got {towers}.")
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.spatial = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=groups, bias=False)


class Unit(nn.Sequential):
    """Activation, convolution, normalisation; the activation last, or nowhere, where `act` says so."""

    def __init__(self, conv: nn.Module, channels: int, act: Literal["first", "last"] | None = "first") -> None:
        super().__init__()
        if act == "first":
            self.act = nn.ReLU()
        self.conv, self.norm = conv, nn.BatchNorm2d(channels)
        if act == "last":
            self.act = nn.ReLU()


class XceptionBlock(nn.Module):
    """Separable convolutions, each with a ReLU in front and BN behind, a max pooling 3/2 where it strides, and a shortcut around all.

    Arguments:
        widths: of the input and behind each convolution.
        stride: 2 adds the pooling.
        leading: False leaves out the first ReLU (the first block of the network).
        residual: False leaves out the shortcut (the ablation).
        conv: makes the convolutions.

    The shortcut is the identity, or a strided 1×1 with BN where the shape changes; nothing is activated behind the addition.
    Shapes: (B, widths[0], H, W) -> (B, widths[-1], ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        widths: Sequence[int],
        stride: int = 1,
        leading: bool = True,
        residual: bool = True,
        conv: Convolution = SeparableConv2d,
    ) -> None:
        super().__init__()
        self.units = nn.Sequential(
            *(
                Unit(conv(c_in, c_out), c_out, "first" if leading or i else None)
                for i, (c_in, c_out) in enumerate(pairwise(widths))
            )
        )
        self.pool = nn.Identity() if stride == 1 else nn.MaxPool2d(3, stride, 1)
        self.shortcut: nn.Module | None = None
        if residual:
            changes = stride != 1 or widths[0] != widths[-1]
            self.shortcut = ConvNormAct(widths[0], widths[-1], 1, stride, act=None) if changes else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.pool(self.units(x))
        return y if self.shortcut is None else y + self.shortcut(x)


class Xception(Staged):
    """Entry flow, middle flow, exit flow (the paper's figure 5); stages end where the stride changes.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        stem: widths of the two ordinary convolutions in front.
        entry: widths of the entry flow's blocks, two convolutions and a pooling each.
        blocks: number of the middle flow's blocks, three convolutions each, at the last width of the entry flow.
        exit_width: of the exit flow's block; a pooling closes it, too.
        last: widths of the convolutions behind it.
        stem_stride: of the first convolution: 2, or 1 for small images.
        padding: "valid" leaves the two ordinary convolutions without padding, as the paper does (299 pixels give 149 and 147 places); with
            "same" only strides change the size, which dense prediction and small images need.
        residual: False leaves out all shortcuts (the ablation).
        conv: makes all convolutions behind the stem; `ActivatedSeparable` and `InceptionSpectrum` are the paper's comparisons.
        dropout: in front of the classifier.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 2, 4, 8, 16, 32 and widths 64, 128, 256, 728, 2048.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: Sequence[int] = (32, 64),
        entry: Sequence[int] = ENTRY,
        blocks: int = BLOCKS,
        exit_width: int = EXIT,
        last: Sequence[int] = LAST,
        stem_stride: int = 2,
        padding: Literal["valid", "same"] = "valid",
        residual: bool = True,
        conv: Convolution = SeparableConv2d,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
        valid = padding == "valid"
        self.smallest = 2 * stem_stride + 3 if valid else 1
        self.stem = ConvNormAct(in_channels, stem[0], 3, stem_stride, padding=0 if valid else 1)
        stages: list[list[nn.Module]] = [[ConvNormAct(stem[0], stem[1], 3, padding=0 if valid else 1)]]
        widths = [stem[1]]
        for i, width in enumerate(entry):
            stages.append([XceptionBlock((widths[-1], width, width), 2, i > 0, residual, conv)])
            widths.append(width)
        middle = entry[-1]
        stages[-1] += [XceptionBlock((middle,) * 4, 1, True, residual, conv) for _ in range(blocks)]
        stages.append([XceptionBlock((middle, middle, exit_width), 2, True, residual, conv)])
        for c_in, c_out in zip((exit_width, *last[:-1]), last, strict=True):
            stages[-1].append(Unit(conv(c_in, c_out), c_out, "last"))
        widths.append(last[-1])
        self.stages = nn.ModuleList(nn.Sequential(*parts) for parts in stages)
        self.channels, self.strides = tuple(widths), tuple(stem_stride * 2**i for i in range(len(widths)))
        self.num_features = widths[-1]
        self.head = Classifier(self.num_features, num_classes, dropout=dropout)
        init_relu_network(self)

    def recipe(self, lr: float | None = None) -> Recipe:
        """The paper's optimiser: SGD at 0.045, momentum 0.9, weight decay 1e-5, the rate times 0.94 fifty times over the run."""
        optimizer = torch.optim.SGD(self.parameters(), lr or 0.045, 0.9, weight_decay=1e-5)
        return Recipe(optimizer, lambda fraction: 0.94 ** int(50 * fraction))


xception = Xception
