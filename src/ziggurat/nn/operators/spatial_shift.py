"""Spatial shift: quarters of the channels move by one place, each in a direction of its own, and so neighbours mix without parameters."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SpatialShift(nn.Module):
    """Moves four groups of channels by one place: down, up, right, left. A place without a neighbour there keeps its own numbers.

    Channels come last. Where 4 does not divide them, the last group is the largest.
    T. Yu, X. Li, Y. Cai, M. Sun, P. Li, S²-MLP, 2021, arXiv:2106.07477.

    Shapes: (B, H, W, C) -> (B, H, W, C).
    """

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        quarter = x.shape[3] // 4
        down, up, right, left = x.split([quarter, quarter, quarter, x.shape[3] - 3 * quarter], 3)
        down = torch.cat([down[:, :1], down[:, :-1]], 1)
        up = torch.cat([up[:, 1:], up[:, -1:]], 1)
        right = torch.cat([right[:, :, :1], right[:, :, :-1]], 2)
        left = torch.cat([left[:, :, 1:], left[:, :, -1:]], 2)
        return torch.cat([down, up, right, left], 3)
