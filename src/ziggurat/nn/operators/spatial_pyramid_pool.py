"""Spatial pyramid pooling: a map of any size becomes a vector of one length, by pooling it on grids of several sizes.

Bin (i, j) of a grid of n × n on a map of a × b covers the rows floor(i a / n) … ceil((i + 1) a / n) − 1 and the columns likewise.
The same pooling describes any window of an image from the map of the whole image, which is computed once.

K. He, X. Zhang, S. Ren, J. Sun, Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, 2014, arXiv:1406.4729.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, max_pool2d

LEVELS = (6, 3, 2, 1)
"""The paper's 50 bins."""


class SpatialPyramidPool(nn.Module):
    """The largest number of each channel in each bin of several grids; ordered by grid, then channel, then bin row by row.

    Arguments:
        levels: n of each grid, in the order of the result.
        mode: "max" is exact for every size; "window" slides a window of ceil(a / n) by floor(a / n), which equals it where n divides a,
            and refuses sizes at which that does not give n × n bins.

    Shapes: (B, C, H, W) -> (B, C · Σ n²).
    """

    def __init__(self, levels: Sequence[int] = LEVELS, mode: Literal["max", "window"] = "max") -> None:
        super().__init__()
        if mode not in ("max", "window"):
            raise ValueError(f"mode must be 'max' or 'window', got {mode!r}.")
        check_levels(levels)
        self.levels, self.mode = tuple(levels), mode

    @property
    def bins(self) -> int:
        """Σ n², the numbers that each channel gives."""
        return sum(n * n for n in self.levels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        pool = adaptive_max_pool2d if self.mode == "max" else sliding_pool
        return torch.cat([pool(x, n).flatten(1) for n in self.levels], 1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, mode={self.mode!r}"


def check_levels(levels: Sequence[int]) -> None:
    """A `ValueError` for a pyramid without a grid or with an empty one."""
    if not levels or min(levels) < 1:
        raise ValueError(f"levels must be one or more sides of grids, each 1 or more, got {tuple(levels)}.")


def sliding_pool(x: Float[Tensor, "B C H W"], n: int) -> Float[Tensor, "B C n n"]:
    """Largest numbers in windows of ceil(a / n), floor(a / n) apart: the form of fixed sizes."""
    sides = x.shape[2:]
    window, step = [-(-a // n) for a in sides], [a // n for a in sides]
    fits = all(s > 0 and (a - w) // s + 1 == n for a, w, s in zip(sides, window, step, strict=True))
    if not fits:
        raise ValueError(
            f"sliding windows do not cut a map of {sides[0]}×{sides[1]} into {n}×{n} bins; take mode 'max'."
        )
    return max_pool2d(x, window, step)


def spp_regions(
    features: Float[Tensor, "B C H W"],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    stride: int,
    levels: Sequence[int] = LEVELS,
) -> Float[Tensor, "N D"]:
    """The pyramid of every window, from maps that were computed once.

    A window takes the cells whose centres lie inside it, cell c being centred on pixel `stride` · c; see `box_cells`. A grid of n is
    pooled from one of m bins where n divides m: its bins are unions of theirs.

    Arguments:
        features: of B images.
        boxes: of each image, xyxy in pixels.
        stride: pixels from cell to cell.

    Returns (Σ N_i, C · Σ n²), image by image, each row as of `SpatialPyramidPool`.
    """
    check_levels(levels)
    if len(boxes) != len(features):
        raise ValueError(f"{len(features)} images need as many tensors of boxes, got {len(boxes)}.")
    height, width = features.shape[2:]
    windows = [
        one[:, :, top : bottom + 1, left : right + 1]
        for one, own in zip(features.split(1), boxes, strict=True)
        for left, top, right, bottom in box_cells(own, stride, height, width).tolist()
    ]
    if not windows:
        return features.new_zeros(0, features.shape[1] * sum(n * n for n in levels))
    pooled: dict[int, Tensor] = {}
    for n in sorted(set(levels), reverse=True):
        finer = next((m for m in pooled if m % n == 0), None)
        pooled[n] = (
            torch.cat([adaptive_max_pool2d(window, n) for window in windows])
            if finer is None
            else adaptive_max_pool2d(pooled[finer], n)
        )
    return torch.cat([pooled[n].flatten(1) for n in levels], 1)


def box_cells(boxes: Float[Tensor, "N 4"], stride: int, height: int, width: int) -> Int64[Tensor, "N 4"]:
    """The first and last column and row (left, top, right, bottom, inclusive) of a map that windows of an image take.

    left = floor(x₀ / stride) + 1, right = ceil(x₁ / stride) − 1, where x₀ = 0 counts as −1, so that the whole image takes the whole
    map. A window without a cell takes the one nearest to its middle.
    """
    starts, stops = boxes[:, :2], boxes[:, 2:]
    starts = torch.where(starts <= 0, -1.0, starts)
    sides = torch.tensor([width, height], device=boxes.device)
    first = (torch.floor(starts / stride).long() + 1).clamp_min(0)
    last = torch.minimum(torch.ceil(stops / stride).long() - 1, sides - 1)
    middle = torch.minimum(torch.round((boxes[:, :2] + stops) / 2 / stride).long().clamp_min(0), sides - 1)
    empty = last < first
    return torch.cat([torch.where(empty, middle, first), torch.where(empty, middle, last)], 1)


def nearest_scale(boxes: Float[Tensor, "N 4"], scales: Sequence[float], side: float = 224.0) -> Int64[Tensor, " N"]:
    """For each window the index of the image scale at which its area is closest to side²."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    factors = torch.tensor(scales, dtype=boxes.dtype, device=boxes.device)
    return (area[:, None] * factors**2 - side**2).abs().argmin(1)
