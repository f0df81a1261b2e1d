"""Verification: are two samples of one identity? Decided by one threshold on the distance of their embeddings.

    VAL(d) = share of the pairs of one identity with distance ≤ d,   FAR(d) = share of the pairs of two identities with distance ≤ d

F. Schroff, D. Kalenichenko, J. Philbin, 2015, arXiv:1503.03832, section 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FOLDS = 10


class Verification(NamedTuple):
    """VAL and FAR at the threshold, and the accuracy over ten folds, each by the threshold that is best on the nine others."""

    val: float
    far: float
    threshold: float
    accuracy: float


def verify(distance: Float[Tensor, " P"], same: Bool[Tensor, " P"], far: float = 1e-3) -> Verification:
    """How well the distances tell pairs of one identity from pairs of two.

    Arguments:
        distance: of each pair; squared or not makes no difference.
        same: which pairs are of one identity.
        far: the false accepts allowed. The threshold is the largest distance at which there are no more; below every distance
            (−∞) where there is none.
    """
    if not 0 <= far < 1:
        raise ValueError(f"far must be 0 or more and below 1, got {far}.")
    pairs, others = int(same.sum()), int((~same).sum())
    if min(pairs, others) < FOLDS:
        raise ValueError(
            f"{pairs} pairs of one identity and {others} of two are too few; {FOLDS} folds need {FOLDS} of each kind."
        )
    first_refused = distance[~same].sort().values[int(far * others + 1e-9)]
    below = distance[distance < first_refused]
    threshold = below.max() if len(below) else torch.full_like(first_refused, -torch.inf)
    val, found = ((distance[kind] <= threshold).double().mean() for kind in (same, ~same))
    return Verification(float(val), float(found), float(threshold), fold_accuracy(distance, same))


def fold_accuracy(distance: Float[Tensor, " P"], same: Bool[Tensor, " P"], folds: int = FOLDS) -> float:
    """Mean over folds of the share of right decisions, by the threshold that is right most often on all the other folds.

    Both kinds of pairs are spread evenly over the folds, in the order in which they come.
    """
    fold = torch.empty(len(distance), dtype=torch.int64, device=distance.device)
    for kind in (same, ~same):
        fold[kind] = torch.arange(int(kind.sum()), device=distance.device) % folds
    shares = []
    for held in range(folds):
        rest = fold != held
        threshold = best_threshold(distance[rest], same[rest])
        shares.append(((distance[~rest] <= threshold) == same[~rest]).double().mean())
    return float(torch.stack(shares).mean())


def best_threshold(distance: Float[Tensor, " P"], same: Bool[Tensor, " P"]) -> Float[Tensor, ""]:
    """The least of the distances at which most pairs are decided rightly (one identity: distance ≤ threshold)."""
    ordered, order = distance.sort()
    sign = torch.where(same[order], 1, -1)
    gain = sign.cumsum(0)  # right decisions gained over refusing every pair
    last = torch.ones_like(same)
    last[:-1] = ordered[1:] > ordered[:-1]  # of equal distances all are accepted or none
    return ordered[gain.masked_fill(~last, -len(same)).argmax()]
