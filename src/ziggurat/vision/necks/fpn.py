"""Feature pyramid: a top-down path and lateral connections give every level of a backbone strong semantics.

    M_top = lat(C_top),   M_i = lat(C_i) + upsample(M_{i+1}),   P_i = conv3×3(M_i)

Lateral connections are 1×1 convolutions, upsampling takes the nearest pixel. There is neither normalisation nor activation: the neck is
an affine map.

T.-Y. Lin, P. Dollár, R. Girshick, K. He, B. Hariharan, S. Belongie, Feature Pyramid Networks for Object Detection, 2016,
arXiv:1612.03144.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

Extra = Literal["pool", "p6p7"]


class FPN(nn.Module):
    """The neck.

    Arguments:
        in_channels, in_strides: of the backbone's maps, finest first.
        width: d, of every level.
        extra: "pool" adds a level of twice the stride by sub-sampling the last one; "p6p7" adds RetinaNet's two, by 3×3 convolutions of
            stride 2 (a ReLU before the second).
        top_down: False leaves out the path from coarse to fine (the ablation of a bottom-up pyramid).
        lateral: False keeps only the lateral connection of the coarsest map (the ablation of the path alone).
        single_level: gives this level alone (the ablation of the pyramid).

    Attributes: `channels` and `strides` of the levels it gives.

    Shapes: list of (B, C_i, H / s_i, W / s_i) -> list of (B, width, H / s_i, W / s_i), with an extra level one or two more.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        width: int = 256,
        extra: Extra | None = None,
        top_down: bool = True,
        lateral: bool = True,
        single_level: int | None = None,
    ) -> None:
        super().__init__()
        if len(in_channels) != len(in_strides) or not in_channels:
            raise ValueError(f"every map needs a width and a stride, got {tuple(in_channels)} and {tuple(in_strides)}.")
        if extra not in (None, "pool", "p6p7"):
            raise ValueError(f"extra must be 'pool', 'p6p7' or None, got {extra!r}.")
        if not top_down and not lateral:
            raise ValueError("without the top-down path nothing but the lateral connections is left; keep one of them.")
        count = len(in_channels)
        if single_level is not None and (extra is not None or not 0 <= single_level < count):
            raise ValueError(f"single_level must be 0 … {count - 1} and excludes extra, got {single_level}.")
        self.top_down, self.single_level = top_down, single_level
        first = 0 if lateral else count - 1
        self.lateral = nn.ModuleDict({str(i): nn.Conv2d(in_channels[i], width, 1) for i in range(first, count)})
        given = range(count) if single_level is None else (single_level,)
        self.output = nn.ModuleDict({str(i): nn.Conv2d(width, width, 3, padding=1) for i in given})
        self.extra: nn.Module | None = {None: lambda: None, "pool": Subsample, "p6p7": lambda: LevelsP6P7(width)}[
            extra
        ]()
        more = {None: 0, "pool": 1, "p6p7": 2}[extra]
        strides = [in_strides[i] for i in given]
        self.strides = (*strides, *(strides[-1] * 2 ** (k + 1) for k in range(more)))
        self.channels = (width,) * len(self.strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Levels, finest first."""
        merged: dict[str, Tensor] = {}
        above: Tensor | None = None
        for i in reversed(range(len(features))):
            level = self.lateral[str(i)](features[i]) if str(i) in self.lateral else None
            if self.top_down and above is not None:
                down = interpolate(above, size=features[i].shape[2:], mode="nearest")
                level = down if level is None else level + down
            assert level is not None
            merged[str(i)] = above = level
        levels = [conv(merged[name]) for name, conv in self.output.items()]
        return levels if self.extra is None else levels + self.extra(levels[-1])

    def extra_repr(self) -> str:
        return f"channels={self.channels}, strides={self.strides}"


class Subsample(nn.Module):
    """Every second pixel of the coarsest level, as one more level."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [max_pool2d(x, 1, 2)]


class LevelsP6P7(nn.Module):
    """RetinaNet's two extra levels: 3×3 convolutions of stride 2, with a ReLU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(width, width, 3, 2, 1)
        self.p7 = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        p6 = self.p6(x)
        return [p6, self.p7(relu(p6))]
