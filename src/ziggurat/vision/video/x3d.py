"""X3D: networks of video grown from a tiny network of images, one axis at a time; thin, and fine in space and time.

Block: 1×1×1 to the inner width – BN – ReLU – depthwise 3×3×3 – BN – [gate] – Swish – 1×1×1 – BN, added to its input, ReLU. Every
other block has a squeeze-excite gate. Time is never strided. The axes of the expansion, with X2D where all are 1:
frame rate γ_τ, length γ_t, resolution γ_s, width γ_w, inner width γ_b, depth γ_d; `architect.coordinate_expansion` takes them.

C. Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, 2020, arXiv:2004.04730.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import make_divisible
from ziggurat.nn.gates import SqueezeExcite
from ziggurat.nn.staged import Staged

KEYS = {
    r"^blocks\.0\.conv\.conv_t\.": "stem.space.",
    r"^blocks\.0\.conv\.conv_xy\.": "stem.time.",
    r"^blocks\.0\.norm\.": "stem.norm.",
    r"^blocks\.([1-4])\.res_blocks\.": r"stages.\1.",
    r"\.branch1_conv\.": ".shortcut.conv.",
    r"\.branch1_norm\.": ".shortcut.norm.",
    r"\.branch2\.conv_a\.": ".expand.conv.",
    r"\.branch2\.norm_a\.": ".expand.norm.",
    r"\.branch2\.conv_b\.": ".depthwise.conv.",
    r"\.branch2\.norm_b\.0\.": ".depthwise.norm.",
    r"\.branch2\.norm_b\.1\.block\.0\.": ".gate.reduce.",
    r"\.branch2\.norm_b\.1\.block\.2\.": ".gate.expand.",
    r"\.branch2\.conv_c\.": ".project.conv.",
    r"\.branch2\.norm_c\.": ".project.norm.",
    r"^blocks\.5\.pool\.pre_conv\.": "head.wide.conv.",
    r"^blocks\.5\.pool\.pre_norm\.": "head.wide.norm.",
    r"^blocks\.5\.pool\.post_conv\.": "head.hidden.",
    r"^blocks\.5\.proj\.": "head.fc.",
    **{rf"^stages\.{i + 1}\.": f"stages.{i}." for i in range(4)},
}
"""pytorchvideo's names and ours. Its gates and the hidden layer of its head are 1×1×1 convolutions: `from_pytorchvideo` flattens them."""


def from_pytorchvideo(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of pytorchvideo's X3D under our names and in our shapes."""
    from ziggurat.catalogue import translate

    linear = (".gate.reduce.weight", ".gate.expand.weight", "head.hidden.weight")
    return {name: v.flatten(1) if name.endswith(linear) else v for name, v in translate(state, KEYS).items()}


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: bool = False,
    norm: bool = True,
) -> nn.Sequential:
    """A convolution of space and time that strides in space only, normalisation, ReLU; named `conv`, `norm`, `act`."""
    conv = nn.Conv3d(in_channels, out_channels, kernel, (1, stride, stride), kernel // 2, groups=groups, bias=False)
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if norm:
        parts["norm"] = nn.BatchNorm3d(out_channels)
    if act:
        parts["act"] = nn.ReLU()
    return nn.Sequential(parts)


class X3DBlock(nn.Module):
    """An inverted bottleneck of space and time.

    Arguments:
        inner: width of the depthwise convolution.
        stride: of that convolution, in space.
        gate: a squeeze-excite with a sixteenth of the inner width, rounded to a multiple of 8, in front of the Swish.

    Shapes: (B, in_channels, T, H, W) -> (B, out_channels, T, ceil(H / stride), ceil(W / stride)). The shortcut is projected where
    the shape changes; its normalisation is there only where the width does.
    """

    def __init__(self, in_channels: int, out_channels: int, inner: int, stride: int = 1, gate: bool = True) -> None:
        super().__init__()
        self.expand = conv_norm(in_channels, inner, act=True)
        self.depthwise = conv_norm(inner, inner, 3, stride, groups=inner)
        self.gate = SqueezeExcite(inner, make_divisible(inner / 16)) if gate else nn.Identity()
        self.swish = nn.SiLU()
        self.project = conv_norm(inner, out_channels)
        wider = in_channels != out_channels
        projected = wider or stride != 1
        self.shortcut = conv_norm(in_channels, out_channels, 1, stride, norm=wider) if projected else nn.Identity()
        self.out = nn.ReLU()

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T h w"]:
        y = self.swish(self.gate(self.depthwise(self.expand(x))))
        return self.out(self.shortcut(x) + self.project(y))


class X3DHead(nn.Module):
    """1×1×1 to the inner width – BN – ReLU, mean over space and time, linear without bias – ReLU, dropout, classifier."""

    def __init__(self, channels: int, inner: int, hidden: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.wide = conv_norm(channels, inner, act=True)
        self.hidden, self.act = nn.Linear(inner, hidden, bias=False), nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        weight = self.hidden.weight
        self.fc: nn.Module = nn.Identity()
        if num_classes:
            self.fc = nn.Linear(weight.shape[0], num_classes, device=weight.device, dtype=weight.dtype)
            nn.init.normal_(self.fc.weight, 0, 0.01)
            nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "B C T H W"], pre_logits: bool = False) -> Float[Tensor, "B K"]:
        x = self.wide(x).flatten(2).mean(2)
        x = self.dropout(self.act(self.hidden(x)))
        return x if pre_logits else self.fc(x)


class X3D(Staged):
    """The network; every stage begins with a stride of 2 in space and keeps the length.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the frames.
        width: γ_w, times the base widths; products are rounded to multiples of `divisor`.
        bottleneck: γ_b, inner width of a block over its output width.
        depth: γ_d, times the base depths, rounded up.
        widths, depths: of the stages where γ_w and γ_d are 1; the stem is as wide as the first.
        hidden: width of the vector before the classifier.
        dropout: in front of the classifier.
        stem_stride: 2, or 1 for small frames.
        divisor: widths are its multiples, and at least it.

    Shapes: (B, in_channels, T, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32 in space and 1 in time.
    """

    input = "video"

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        width: float = 2.0,
        bottleneck: float = 2.25,
        depth: float = 2.2,
        widths: Sequence[int] = (12, 24, 48, 96),
        depths: Sequence[int] = (1, 2, 5, 3),
        hidden: int = 2048,
        dropout: float = 0.5,
        stem_stride: int = 2,
        divisor: int = 8,
    ) -> None:
        super().__init__()
        channels = make_divisible(widths[0] * width, divisor)
        space = nn.Conv3d(in_channels, channels, (1, 3, 3), (1, stem_stride, stem_stride), (0, 1, 1), bias=False)
        time = nn.Conv3d(channels, channels, (5, 1, 1), padding=(2, 0, 0), groups=channels, bias=False)
        self.stem = nn.Sequential(OrderedDict(space=space, time=time, norm=nn.BatchNorm3d(channels), act=nn.ReLU()))
        stages, inner = [], 0
        for base, count in zip(widths, depths, strict=True):
            out = make_divisible(base * width, divisor)
            inner = int(bottleneck * out)
            blocks = []
            for i in range(math.ceil(count * depth)):
                blocks.append(X3DBlock(channels, out, inner, 2 if i == 0 else 1, gate=i % 2 == 0))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(make_divisible(base * width, divisor) for base in widths)
        self.strides = tuple(stem_stride * 2 ** (i + 1) for i in range(len(widths)))
        self.num_features = hidden
        self.head = X3DHead(channels, inner, hidden, num_classes, dropout)
        self.initialise()

    def initialise(self) -> None:
        """Kaiming-normal by fan-out, a classifier of deviation 0.01, and blocks that start as their shortcut."""
        for part in self.modules():
            if isinstance(part, nn.Conv3d | nn.Linear) and part is not self.head.fc:
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            elif isinstance(part, X3DBlock):
                nn.init.zeros_(part.project.norm.weight)  # type: ignore[arg-type]


x3d_xs = x3d_s = x3d_m = X3D
x3d_l = partial(X3D, depth=5.0)
x3d_xl = partial(X3D, width=2.9, depth=5.0)

CLIPS = {
    "x3d_xs": (4, 12, 160),
    "x3d_s": (13, 6, 160),
    "x3d_m": (16, 5, 224),
    "x3d_l": (16, 5, 312),
    "x3d_xl": (16, 5, 312),
}
"""Frames of a clip, frames of the video between two of them, and side in pixels. The first three are one network."""


@dataclass(frozen=True)
class Expansion:
    """A clip and a network on it: a point with the six axes of the paper. The default is X2D, a network of single frames.

    Arguments:
        frames: of the clip, γ_t.
        every: frames of the video between two of the clip, γ_τ; the frame rate is its inverse.
        size: side of the frames in pixels, 112 γ_s.
        width, bottleneck, depth: of `X3D`.
    """

    frames: int = 1
    every: float = 1.0
    size: int = 112
    width: float = 2.0
    bottleneck: float = 1.0
    depth: float = 1.0


def faster(point: Expansion, by: float) -> Expansion:
    """`by` times the frame rate, in a clip as long as before."""
    frames = round(point.frames * by)
    return replace(point, frames=frames, every=point.every * point.frames / frames)


def longer(point: Expansion, by: float) -> Expansion:
    """`by` times the frames: both the clip's duration and the frame rate grow by its root."""
    frames = round(point.frames * by)
    return replace(point, frames=frames, every=point.every * math.sqrt(point.frames / frames))


def larger(point: Expansion, by: float) -> Expansion:
    """`by` times the resolution."""
    return replace(point, size=round(point.size * by))


def wider(point: Expansion, by: float) -> Expansion:
    """`by` times the width of all layers."""
    return replace(point, width=point.width * by)


def stouter(point: Expansion, by: float) -> Expansion:
    """`by` times the inner width of the blocks."""
    return replace(point, bottleneck=point.bottleneck * by)


def deeper(point: Expansion, by: float) -> Expansion:
    """`by` times the depth of each stage."""
    return replace(point, depth=point.depth * by)


AXES = {
    "fast": faster,
    "temporal": longer,
    "spatial": larger,
    "width": wider,
    "bottleneck": stouter,
    "depth": deeper,
}
"""The six axes along which `expand` may go from an `Expansion`."""
