"""The cells of NASNet: five blocks, each of which picks two earlier states, applies an operation to each, and joins the results.

    b_i = left(h_j) + right(h_k),   cell = [states that stand in `outputs`]

h0 is the map that came in and h1 the one before it, both brought to F channels. A `Cell` says this as data, and prints as the paper's
figure reads; `NASNetCell` is the module of such a plan.

B. Zoph, V. Vasudevan, J. Shlens, Q. Le, Learning Transferable Architectures for Scalable Image Recognition, 2017, arXiv:1707.07012.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from ziggurat.nn.operators.scheduled_drop_path import ScheduledDropPath
from ziggurat.nn.separable import SeparableConv2d

OPERATIONS = (
    "identity", "1x3-3x1", "1x7-7x1", "dil3", "avg3", "max3", "max5", "max7", "1x1", "3x3", "sep3", "sep5", "sep7",
)  # fmt: skip
"""The 13 operations of the search space."""
make_norm = partial(nn.BatchNorm2d, eps=1e-3)


@dataclass(frozen=True)
class Block:
    """Two (operation, state) and how their results are joined. State 0 is h0, 1 is h1, 2 + i the result of block i."""

    left: tuple[str, int]
    right: tuple[str, int]
    combine: Literal["add", "concat"] = "add"

    def __str__(self) -> str:
        paths = [
            name_of(state) if op == "identity" else f"{op}({name_of(state)})" for op, state in (self.left, self.right)
        ]
        return " + ".join(paths) if self.combine == "add" else f"[{', '.join(paths)}]"


@dataclass(frozen=True)
class Cell:
    """The plan of a cell: its blocks, and the states that are concatenated at its end (None: those that no block reads)."""

    blocks: tuple[Block, ...]
    outputs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for i, block in enumerate(self.blocks):
            for op, state in (block.left, block.right):
                if op not in OPERATIONS:
                    raise ValueError(f"{op!r} is no operation; there are {', '.join(OPERATIONS)}.")
                if not 0 <= state < i + 2:
                    raise ValueError(f"block {i + 1} can read the states 0 to {i + 1}, got {state}.")
            if block.combine not in ("add", "concat"):
                raise ValueError(f"combine must be 'add' or 'concat', got {block.combine!r}.")
        if self.outputs is None:
            read = {state for block in self.blocks for _, state in (block.left, block.right)}
            object.__setattr__(self, "outputs", tuple(s for s in range(len(self.blocks) + 2) if s not in read))

    def __str__(self) -> str:
        lines = [f"{name_of(i)} = {block}" for i, block in enumerate(self.blocks, start=2)]
        return "\n".join([*lines, f"out = [{', '.join(name_of(state) for state in self.outputs or ())}]"])


@dataclass(frozen=True)
class Genotype:
    """What a search finds: a cell that keeps the size, and one that halves it."""

    normal: Cell
    reduction: Cell


def name_of(state: int) -> str:
    """h0, h1, b1, b2, …"""
    return f"h{state}" if state < 2 else f"b{state - 1}"


NASNET_A = Genotype(
    normal=Cell(
        (
            Block(("sep5", 0), ("sep3", 1)),
            Block(("sep5", 1), ("sep3", 1)),
            Block(("avg3", 0), ("identity", 1)),
            Block(("avg3", 1), ("avg3", 1)),
            Block(("sep3", 0), ("identity", 0)),
        ),
        outputs=(1, 2, 3, 4, 5, 6),
    ),
    reduction=Cell(
        (
            Block(("sep5", 0), ("sep7", 1)),
            Block(("max3", 0), ("sep7", 1)),
            Block(("avg3", 0), ("sep5", 1)),
            Block(("identity", 3), ("avg3", 2)),
            Block(("sep3", 2), ("max3", 0)),
        ),
        outputs=(3, 4, 5, 6),
    ),
)
"""The best cells of the paper (figure 4)."""


def relu_conv_norm(
    in_channels: int, width: int, kernel: int | tuple[int, int] = 1, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """ReLU, convolution, normalisation: the order of this paper."""
    height, across = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = ((height - 1) // 2 * dilation, (across - 1) // 2 * dilation)
    conv = nn.Conv2d(in_channels, width, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(OrderedDict(act=nn.ReLU(), conv=conv, norm=make_norm(width)))


def separable_twice(in_channels: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    """(ReLU, depthwise, pointwise, normalisation) two times, the first one with the stride."""
    return nn.Sequential(
        OrderedDict(
            act1=nn.ReLU(),
            first=SeparableConv2d(in_channels, width, kernel, stride),
            norm1=make_norm(width),
            act2=nn.ReLU(),
            second=SeparableConv2d(width, width, kernel),
            norm2=make_norm(width),
        )
    )


def make_operation(name: str, in_channels: int, width: int, stride: int) -> nn.Module:
    """An operation: (B, in_channels, H, W) -> (B, width, ceil(H / stride), ceil(W / stride))."""
    if name == "identity":
        same = stride == 1 and in_channels == width
        return nn.Identity() if same else relu_conv_norm(in_channels, width, 1, stride)
    side = int(name[-1])
    if name[:3] == "sep":
        return separable_twice(in_channels, width, side, stride)
    if name[:3] in ("avg", "max"):
        average = nn.AvgPool2d(side, stride, side // 2, count_include_pad=False)
        pool = average if name[:3] == "avg" else nn.MaxPool2d(side, stride, side // 2)
        narrow = nn.Conv2d(in_channels, width, 1, bias=False)
        return pool if in_channels == width else nn.Sequential(pool, narrow, make_norm(width))
    if "-" in name:
        side = int(name[2])
        across, down = (1, side), (side, 1)
        return nn.Sequential(relu_conv_norm(in_channels, width, across, stride), relu_conv_norm(width, width, down))
    if name == "dil3":
        return relu_conv_norm(in_channels, width, 3, stride, dilation=2)
    return relu_conv_norm(in_channels, width, side, stride)


class FactorizedReduction(nn.Module):
    """Half the size without losing places: two 1×1 convolutions of stride 2, the second one shifted by a pixel, side by side.

    With stride 1 it is a single 1×1 convolution. Shapes: (B, in_channels, H, W) -> (B, width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, width: int, stride: int = 2) -> None:
        super().__init__()
        shifted = width // 2 if stride == 2 else 0
        self.first = nn.Conv2d(in_channels, width - shifted, 1, stride, bias=False)
        self.second = nn.Conv2d(in_channels, shifted, 1, stride, bias=False) if shifted else None
        self.norm = make_norm(width)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.first(x)
        if self.second is not None:
            y = torch.cat([y, self.second(pad(x, (-1, 1, -1, 1)))], 1)
        return self.norm(y)


class CellBlock(nn.Module):
    """The two operations of a block, and what is dropped of them while training; an identity is never dropped."""

    def __init__(self, block: Block, widths: Sequence[int], width: int, stride: int, drop: float) -> None:
        super().__init__()
        self.block = block
        (left, first), (right, second) = block.left, block.right
        self.left = make_operation(left, widths[first], width, stride if first < 2 else 1)
        self.right = make_operation(right, widths[second], width, stride if second < 2 else 1)
        self.drop_left = ScheduledDropPath(0.0 if left == "identity" else drop)
        self.drop_right = ScheduledDropPath(0.0 if right == "identity" else drop)

    def forward(self, states: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B D h w"]:
        left = self.drop_left(self.left(states[self.block.left[1]]))
        right = self.drop_right(self.right(states[self.block.right[1]]))
        return left + right if self.block.combine == "add" else torch.cat([left, right], 1)


class NASNetCell(nn.Module):
    """The module of a plan.

    Arguments:
        in_channels: of the map that comes in.
        previous_channels: of the map before it; None where there is none: h1 is then the map itself, with all its channels.
        width: F.
        plan: the cell; NASNet-A's normal one by default.
        stride: 2 on operations that read h0 or h1 makes it a reduction.
        previous_stride: how much larger the map before is, 1 or 2; at 2 it goes through a `FactorizedReduction`.
        drop: probability at the end of the training, with which each path is dropped (`ScheduledDropPath`).

    Shapes: (B, in_channels, H, W), (B, previous_channels, h, w) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        previous_channels: int | None,
        width: int,
        plan: Cell = NASNET_A.normal,
        stride: int = 1,
        previous_stride: int = 1,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.current = relu_conv_norm(in_channels, width)
        if previous_channels is None:
            self.before: nn.Module = nn.Identity()
        elif previous_stride == 1:
            self.before = relu_conv_norm(previous_channels, width)
        else:
            self.before = nn.Sequential(nn.ReLU(), FactorizedReduction(previous_channels, width))
        widths = [width, in_channels if previous_channels is None else width]
        self.blocks = nn.ModuleList()
        for block in plan.blocks:
            self.blocks.append(CellBlock(block, widths, width, stride, drop))
            widths.append(width if block.combine == "add" else 2 * width)
        self.out = nn.ModuleDict()
        for state in plan.outputs or ():
            fits = state > 1 or (stride == 1 and widths[state] == width)
            self.out[name_of(state)] = nn.Identity() if fits else FactorizedReduction(widths[state], width, stride)
        self.out_channels = sum(widths[state] if state > 1 else width for state in plan.outputs or ())
        self.shape = f"{in_channels} -> {self.out_channels}, width={width}, stride={stride}"

    def forward(self, x: Float[Tensor, "B C H W"], previous: Float[Tensor, "B P G V"]) -> Float[Tensor, "B D h w"]:
        states = [self.current(x), self.before(previous)]
        for block in self.blocks:
            states.append(block(states))
        used = zip(self.out.values(), self.plan.outputs or (), strict=True)
        return torch.cat([module(states[state]) for module, state in used], 1)

    def __repr__(self) -> str:
        lines = str(self.plan).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.shape}\n  {lines}\n)"
