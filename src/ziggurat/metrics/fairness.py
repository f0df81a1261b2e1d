"""How differently a classifier treats two groups: measures of demographic parity."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor


def positive_rates(positive: Bool[Tensor, " N"], protected: Bool[Tensor, " N"]) -> tuple[float, float]:
    """Share of positive decisions in the group that is not protected, and in the protected one."""
    if not protected.any() or protected.all():
        raise ValueError("there is one group only; parity is measured between two.")
    return float(positive[~protected].double().mean()), float(positive[protected].double().mean())


def demographic_disparity(positive: Bool[Tensor, " N"], protected: Bool[Tensor, " N"]) -> float:
    """|P(ŷ = 1 | s = 0) − P(ŷ = 1 | s = 1)|: 0 is parity."""
    a, b = positive_rates(positive, protected)
    return abs(a - b)


def disparate_impact(positive: Bool[Tensor, " N"], protected: Bool[Tensor, " N"]) -> float:
    """The smaller of the two rates over the larger one: 1 is parity. M. Feldman et al., 2015, arXiv:1412.3756."""
    low, high = sorted(positive_rates(positive, protected))
    return low / high if high else 1.0
