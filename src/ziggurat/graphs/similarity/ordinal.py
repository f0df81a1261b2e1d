"""Ordered levels as cumulative bits: 0 = 000, 1 = 100, 2 = 110, 3 = 111, so that a network errs by neighbouring levels first."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def ordinal_targets(levels: Int64[Tensor, " N"], count: int) -> Float[Tensor, "N bits"]:
    """Bit j of a level is 1 where the level is above j; `count` levels have count − 1 bits."""
    if count < 2:
        raise ValueError(f"there must be 2 levels or more, got {count}.")
    if len(levels) and (int(levels.min()) < 0 or int(levels.max()) >= count):
        raise ValueError(
            f"levels must be between 0 and {count - 1}, got {int(levels.min())} to {int(levels.max())}; "
            "say how many levels there are."
        )
    return (levels[:, None] > torch.arange(count - 1, device=levels.device)).float()


def decode_levels(bits: Float[Tensor, "N bits"]) -> Int64[Tensor, " N"]:
    """The level that the last active bit names, 0 where none is. A bit is active above 0: a logit, or a bit itself."""
    places = torch.arange(1, bits.shape[1] + 1, device=bits.device)
    return ((bits > 0) * places).amax(1)
