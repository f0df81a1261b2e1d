"""How much of the true nearest neighbours an approximate search finds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


def neighbour_recall(
    found: Float32[np.ndarray, "m k"], truth: Float32[np.ndarray, "m k"], tolerance: float = 1e-5
) -> float:
    """Share of the true k nearest that were found, told by distances, so that equally near ones count alike.

    Arguments:
        found, truth: ascending distances, infinite where there are fewer than k.
        tolerance: relative, for distances that were computed differently.
    """
    if found.shape != truth.shape:
        raise ValueError(f"found and truth must have the same shape, got {found.shape} and {truth.shape}.")
    there = np.isfinite(truth)
    worst = np.where(there, truth, -1).max(1, keepdims=True, initial=-1)  # −1 where nothing is to be found
    hit = (found <= worst * (1 + tolerance) + 1e-12).sum(1)
    wanted = there.sum(1)
    some = wanted > 0
    return float((np.minimum(hit, wanted)[some] / wanted[some]).mean()) if some.any() else 1.0
