"""How well scores tell links from pairs that are none; AUC and average precision are scikit-learn's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def hits_at_k(positive: Float[Tensor, " P"], negative: Float[Tensor, " Q"], k: int) -> float:
    """Share of the positive scores above the k-th best negative one; ties do not count. With fewer than k negatives it is 1."""
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}.")
    if not len(positive):
        raise ValueError("there are no positive scores; give at least one.")
    if len(negative) < k:
        return 1.0
    return float((positive > negative.topk(k).values[-1]).double().mean())


def mean_reciprocal_rank(positive: Float[Tensor, " P"], negative: Float[Tensor, "P Q"]) -> float:
    """Mean of 1 / rank of each positive score among its own negatives; among equals it stands in the middle."""
    if not len(positive):
        raise ValueError("there are no positive scores; give at least one.")
    above = (negative > positive[:, None]).double().sum(1)
    beside = (negative == positive[:, None]).double().sum(1)
    return float(torch.reciprocal(1 + above + beside / 2).mean())
