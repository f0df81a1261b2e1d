"""Parallel branches whose outputs stand side by side, and the notation in which the tables of the Inception networks are written.

    y = [b₁(x), b₂(x), …]        along the channels

A block is a tuple of branches, a branch a tuple of steps, and a step is one of

    (kernel, width), (kernel, width, stride), (kernel, width, 1, "V")    convolution – BN – ReLU; a kernel is a side or (height, width)
    ("max", side, stride), ("avg", side)                                 pooling
    (branch, branch, …)                                                  a fork: branches again

"V" is the papers' sign for a convolution without padding. Steps with a stride have none either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct

Step = Sequence[Any]
Branch = Sequence[Step]
Block = Sequence[Branch]
NORM = partial(nn.BatchNorm2d, eps=1e-3)
"""The normalisation of the released Inception networks."""


class Branches(nn.ModuleList):
    """Modules that read the same map; their outputs are concatenated along the channels.

    Shapes: (B, C, H, W) -> (B, sum of the branches' widths, h, w).
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return torch.cat([branch(x) for branch in self], 1)


@dataclass(frozen=True)
class Style:
    """What the steps of a network have in common.

    Arguments:
        valid: strided and "V" steps are not padded; False pads every step, so that only strides change the size.
        count_padding: average pools divide by all places of the window, also at the border.
        width: factor on every width, rounded, at least 1.
        norm: makes the normalisation of a width.
    """

    valid: bool = True
    count_padding: bool = False
    width: float = 1.0
    norm: Callable[[int], nn.Module] = NORM

    def scaled(self, width: int) -> int:
        """A width of the table times the factor."""
        return max(1, round(width * self.width))


def is_pool(step: Step) -> bool:
    """Whether a step is a pooling."""
    return isinstance(step[0], str)


def is_fork(step: Step) -> bool:
    """Whether a step consists of branches."""
    return not is_pool(step) and not isinstance(step[0], int) and not isinstance(step[0][0], int)


def stride_of(branch: Branch) -> int:
    """By how much a branch reduces the size."""
    return prod(stride_of(step[0]) if is_fork(step) else (*step, 1, 1)[2] for step in branch)


def side_needed(branch: Branch, side: int = 1) -> int:
    """Side of the smallest map from which a branch without padding makes one of `side`."""
    for step in reversed(branch):
        if is_fork(step):
            side = max(side_needed(inner, side) for inner in step)
            continue
        kernel, stride = step[1] if is_pool(step) else step[0], (*step, 1, 1)[2]
        if stride > 1 or "V" in step[3:]:
            side = (side - 1) * stride + (kernel if isinstance(kernel, int) else max(kernel))
    return side


def make_step(in_channels: int, step: Step, style: Style) -> tuple[nn.Module, int]:
    """The module of a step, and its width."""
    if is_fork(step):
        return make_branches(in_channels, step, style)
    stride = (*step, 1, 1)[2]
    padded = not style.valid or (stride == 1 and "V" not in step[3:])
    if is_pool(step):
        kind, side = step[:2]
        if kind not in ("max", "avg"):
            raise ValueError(f"a pooling is 'max' or 'avg', got {kind!r}.")
        padding = side // 2 if padded else 0
        if kind == "max":
            return nn.MaxPool2d(side, stride, padding), in_channels
        return nn.AvgPool2d(side, stride, padding, count_include_pad=style.count_padding), in_channels
    kernel, width = step[0] if isinstance(step[0], int) else tuple(step[0]), style.scaled(step[1])
    padding = None if padded else 0
    return ConvNormAct(in_channels, width, kernel, stride, norm=style.norm, padding=padding), width


def make_branch(in_channels: int, branch: Branch, style: Style) -> tuple[nn.Sequential, int]:
    """A branch, and its width."""
    steps = []
    for step in branch:
        module, in_channels = make_step(in_channels, step, style)
        steps.append(module)
    return nn.Sequential(*steps), in_channels


def make_branches(in_channels: int, block: Block, style: Style) -> tuple[Branches, int]:
    """A block, and its width."""
    made = [make_branch(in_channels, branch, style) for branch in block]
    return Branches(module for module, _ in made), sum(width for _, width in made)


def make_stages(
    in_channels: int, stride: int, table: Sequence[Sequence[Block]], style: Style
) -> tuple[nn.ModuleList, tuple[int, ...], tuple[int, ...]]:
    """Stages of blocks, one `Sequential` for each, with their widths and strides; `stride` is that of what comes in."""
    stages, widths, strides = nn.ModuleList(), [], []
    for blocks in table:
        stage, in_channels = make_branch(in_channels, blocks, style)  # a block is a fork
        stride *= stride_of(blocks)
        stages.append(stage)
        widths.append(in_channels)
        strides.append(stride)
    return stages, tuple(widths), tuple(strides)
