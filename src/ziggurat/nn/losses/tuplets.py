"""Losses of triplets and pairs, from distances or similarities of a batch and what a miner chose; one value a triplet or anchor."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def triplet_margin(
    distance: Float[Tensor, "N N"], triplets: Int64[Tensor, "T 3"], margin: float = 0.2
) -> Float[Tensor, " T"]:
    """max(0, d_ap − d_an + m)."""
    anchor, positive, negative = triplets.T
    apart = distance[anchor, positive] - distance[anchor, negative]
    return apart.add_(margin).clamp_min(0)  # in place: there may be millions


def mean_of_active(values: Float[Tensor, " T"]) -> Float[Tensor, ""]:
    """The mean over the values above 0, and 0 where there is none: over all, it would vanish as the training succeeds."""
    return values.sum() / (values > 0).count_nonzero().clamp_min(1)


def multi_similarity(
    similarity: Float[Tensor, "N N"],
    positive: Bool[Tensor, "N N"],
    negative: Bool[Tensor, "N N"],
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
) -> Float[Tensor, " N"]:
    """1/α log(1 + Σ_p exp(−α (s_ip − λ))) + 1/β log(1 + Σ_n exp(β (s_in − λ))) of each anchor.

    Arguments:
        positive, negative: the pairs that count, of `multi_similarity_pairs` or all of them (`same_class`).
        alpha, beta: α and β, how sharply positives and negatives are weighed.
        base: λ.

    X. Wang, X. Han, W. Huang, D. Dong, M. Scott, 2019, arXiv:1904.06627.
    """
    zero = similarity.new_zeros(len(similarity), 1)  # the 1 in each logarithm
    drawn = (-alpha * (similarity - base)).masked_fill(~positive, -torch.inf)
    pushed = (beta * (similarity - base)).masked_fill(~negative, -torch.inf)
    near, far = (torch.cat([zero, part], 1).logsumexp(1) for part in (drawn, pushed))
    return near / alpha + far / beta


def contrastive(
    distance: Float[Tensor, "N N"],
    positive: Bool[Tensor, "N N"],
    negative: Bool[Tensor, "N N"],
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
) -> tuple[Float[Tensor, " P"], Float[Tensor, " Q"]]:
    """(max(0, d − m_p) of the positive pairs, max(0, m_n − d) of the negative ones)."""
    # `masked_select` and not an index: the gradient goes back in one pass, without a list of the places
    near, far = distance.masked_select(positive), distance.masked_select(negative)
    return (near - positive_margin).clamp_min(0), (negative_margin - far).clamp_min(0)
