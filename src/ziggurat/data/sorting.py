"""Sorting as a problem of positions: made anew for every step."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def sorting_problems(
    count: int, lengths: tuple[int, int], generator: torch.Generator
) -> tuple[Float[Tensor, "B N 1"], Bool[Tensor, "B N"], Int64[Tensor, "B T"]]:
    """Numbers uniform in [0, 1] and the positions that put them in ascending order.

    Arguments:
        lengths: fewest and most numbers of a problem; each draws its own.

    Returns numbers, mask, and targets: positions from 1, then 0 for the end, then −1; N is the most numbers, T = N + 1.
    """
    least, most = lengths
    if not 1 <= least <= most:
        raise ValueError(f"lengths must satisfy 1 <= fewest <= most, got {lengths}.")
    length = torch.randint(least, most + 1, (count, 1), generator=generator)
    mask = torch.arange(most) < length
    x = torch.rand(count, most, generator=generator)
    order = x.masked_fill(~mask, 2.0).argsort(1) + 1
    targets = torch.cat([order.masked_fill(~mask, -1), torch.full((count, 1), -1)], 1)
    targets = targets.scatter(1, length, 0)
    return x.masked_fill(~mask, 0.0)[..., None], mask, targets
