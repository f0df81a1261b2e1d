"""Anchors: boxes of fixed shapes around every position of a map, and boxes written as offsets from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_LOG_RATIO = math.log(1000 / 16)


def base_anchors(sides: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """Boxes around the origin: areas side² with height / width = ratio, sides outer, ratios inner."""
    side = torch.tensor(sides, dtype=torch.float32)[:, None]
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()[None]
    width, height = (side / root).flatten(), (side * root).flatten()
    return torch.stack([-width, -height, width, height], 1) / 2


def grid_anchors(
    shapes: Sequence[Sequence[int]],
    strides: Sequence[int],
    sides: Sequence[Sequence[float]],
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
) -> list[Float[Tensor, "n 4"]]:
    """Anchors of each level, in the order (row, column, anchor); centres at (j + ½) · stride.

    Arguments:
        shapes: (height, width) of each level.
        strides: pixels of the image between two positions.
        sides: of each level's anchors, in pixels of the image.
    """
    found = []
    for (height, width, *_), stride, own in zip(shapes, strides, sides, strict=True):
        x = (torch.arange(width) + 0.5) * stride
        y = (torch.arange(height) + 0.5) * stride
        centre = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).repeat(1, 1, 2)
        found.append((centre[:, :, None] + base_anchors(own, ratios)).flatten(0, 2))
    return found


def encode(
    boxes: Float[Tensor, "n 4"],
    anchors: Float[Tensor, "n 4"],
    scales: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "n 4"]:
    """Offsets (dx / w, dy / h, log w' / w, log h' / h) of boxes from anchors, each times its scale."""
    size, target = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + target / 2 - anchors[:, :2] - size / 2) / size
    return torch.cat([shift, (target / size).log()], 1) * anchors.new_tensor(scales)


def decode(
    offsets: Float[Tensor, "n 4"],
    anchors: Float[Tensor, "n 4"],
    scales: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "n 4"]:
    """The inverse of `encode`; sides grow 62.5-fold at most."""
    offsets = offsets / offsets.new_tensor(scales)
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + size / 2 + offsets[:, :2] * size
    half = size * offsets[:, 2:].clamp_max(LARGEST_LOG_RATIO).exp() / 2
    return torch.cat([centre - half, centre + half], 1)
