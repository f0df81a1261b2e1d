"""MobileNetV2: thin linear bottlenecks joined by shortcuts, with the filtering done in a wide layer between them.

InvertedResidual: 1×1 to t·c – BN – ReLU6 – 3×3 depthwise (stride s) – BN – ReLU6 – 1×1 to c_out – BN, with no activation behind it;
x is added when s = 1 and the widths agree. A ReLU in the narrow layer would destroy information that the wide one can spare.

M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018,
arXiv:1801.04381.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct, init_relu_network, make_divisible
from ziggurat.nn.staged import Classifier, Staged

TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""The paper's table 2: expansion t, width c, blocks n, stride s of the first block."""

KEYS = {
    r"^features\.0\.0\.": "stem.conv.",
    r"^features\.0\.1\.": "stem.norm.",
    r"^features\.18\.0\.": "last.conv.",
    r"^features\.18\.1\.": "last.norm.",
    r"^features\.1\.conv\.0\.0\.": "features.1.depthwise.conv.",
    r"^features\.1\.conv\.0\.1\.": "features.1.depthwise.norm.",
    r"^features\.1\.conv\.1\.": "features.1.project.conv.",
    r"^features\.1\.conv\.2\.": "features.1.project.norm.",
    r"\.conv\.0\.0\.": ".expand.conv.",
    r"\.conv\.0\.1\.": ".expand.norm.",
    r"\.conv\.1\.0\.": ".depthwise.conv.",
    r"\.conv\.1\.1\.": ".depthwise.norm.",
    r"\.conv\.2\.": ".project.conv.",
    r"\.conv\.3\.": ".project.norm.",
    **{
        rf"^features\.{place}\.": f"stages.{stage}.{block}."
        for place, (stage, block) in enumerate(
            [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)] + [(3, i) for i in range(7)] + [(4, i) for i in range(4)],
            start=1,
        )
    },
    r"^classifier\.1\.": "head.fc.",
}
"""torchvision's names and ours. Stages end where the stride changes: rows 4 and 5 of the table are one stage, and 6 and 7."""


class InvertedResidual(nn.Module):
    """A linear bottleneck.

    Arguments:
        in_channels, out_channels: of the thin ends.
        stride: of the depthwise convolution.
        expansion: t; with 1 the first convolution is left out.
        kernel, dilation: of the depthwise convolution.
        linear: False puts a ReLU6 behind the projection (the ablation).
        shortcut: "bottleneck" joins the thin ends; "expansion" the wide layers, before and behind the depthwise convolution; None nothing.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expansion: int = 6,
        kernel: int = 3,
        linear: bool = True,
        shortcut: Literal["bottleneck", "expansion"] | None = "bottleneck",
        dilation: int = 1,
    ) -> None:
        super().__init__()
        if shortcut not in ("bottleneck", "expansion", None):
            raise ValueError(f"shortcut must be 'bottleneck', 'expansion' or None, got {shortcut!r}.")
        wide = in_channels * expansion
        self.expand = nn.Identity() if expansion == 1 else ConvNormAct(in_channels, wide, 1, act=nn.ReLU6)
        self.depthwise = ConvNormAct(wide, wide, kernel, stride, dilation, wide, act=nn.ReLU6)
        self.project = ConvNormAct(wide, out_channels, 1, act=None if linear else nn.ReLU6)
        self.adds_thin = shortcut == "bottleneck" and stride == 1 and in_channels == out_channels
        self.adds_wide = shortcut == "expansion" and stride == 1

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        wide = self.expand(x)
        filtered = self.depthwise(wide)
        y = self.project(filtered + wide if self.adds_wide else filtered)
        return y + x if self.adds_thin else y


class MobileNetV2(Staged):
    """The network of table 2; stages end where the stride changes.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        width: the multiplier α; widths are rounded to multiples of 8, and the last 1×1 grows only for α > 1.
        table: (t, c, n, s) rows.
        stem: width of the first convolution.
        last: width of the last 1×1 convolution.
        stem_stride: 2, or 1 for small images.
        dropout: in front of the classifier.
        linear, shortcut: of every block (the ablations).
        output_stride: 16 keeps the last two rows at stride 16, their filters with holes (for segmentation).

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 2, 4, 8, 16, 32 and widths 16, 24, 32, 96, 320.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        table: Sequence[Sequence[int]] = TABLE,
        stem: int = 32,
        last: int = 1280,
        stem_stride: int = 2,
        dropout: float = 0.2,
        linear: bool = True,
        shortcut: Literal["bottleneck", "expansion"] | None = "bottleneck",
        output_stride: Literal[16, 32] = 32,
    ) -> None:
        super().__init__()
        if output_stride not in (16, 32):
            raise ValueError(f"output_stride must be 16 or 32, got {output_stride}.")
        channels = make_divisible(stem * width)
        self.stem = ConvNormAct(in_channels, channels, 3, stem_stride, act=nn.ReLU6)
        stages: list[list[nn.Module]] = []
        widths, strides, stride, dilation = [], [], stem_stride, 1
        for t, c, n, s in table:
            out = make_divisible(c * width)
            first = dilation
            if s != 1 or not stages:
                stages.append([])
                if stride * s > output_stride:
                    s, dilation = 1, dilation * s
                stride *= s
                widths.append(out)
                strides.append(stride)
            widths[-1] = out
            for i in range(n):
                spread = first if i == 0 else dilation
                stages[-1].append(
                    InvertedResidual(channels, out, s if i == 0 else 1, t, 3, linear, shortcut, dilation=spread)
                )
                channels = out
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.channels, self.strides = tuple(widths), tuple(strides)
        self.num_features = make_divisible(last * max(width, 1.0))
        self.last = ConvNormAct(channels, self.num_features, 1, act=nn.ReLU6)
        self.head = Classifier(self.num_features, num_classes, dropout=dropout)
        init_relu_network(self)
        if num_classes:
            nn.init.normal_(self.head.fc.weight, 0, 0.01)
            nn.init.zeros_(self.head.fc.bias)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(self.last(features[-1]), pre_logits=pre_logits)


mobilenet_v2 = MobileNetV2
mobilenet_v2_050 = partial(MobileNetV2, width=0.5)
mobilenet_v2_140 = partial(MobileNetV2, width=1.4)
