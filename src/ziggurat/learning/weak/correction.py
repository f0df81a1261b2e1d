"""Labels that are kept, replaced or given up by what a network thinks of every class; shots, whose labels are certain, stay."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Corrected(NamedTuple):
    """What is to be done with each sample.

    keep (B,): whether it counts; label (B,): the given one or a new one; sure (B,): shots, and samples with a t above the threshold;
    score (B,): of the given label.
    """

    keep: Bool[Tensor, " B"]
    label: Int64[Tensor, " B"]
    sure: Bool[Tensor, " B"]
    score: Float[Tensor, " B"]


def relabel_first(
    scores: Float[Tensor, "B K"], given: Int64[Tensor, " B"], is_shot: Bool[Tensor, " B"], threshold: float
) -> Corrected:
    """The label becomes arg-max t where max t is above the threshold, even where the given one would do; else that is kept if its score
    is above 1 / K.

    Shapes: scores t are probabilities of the classes.
    """
    score, (best, label) = _of_given(scores, given), scores.max(1)
    replaced = (best > threshold) & ~is_shot
    keep = replaced | (score > 1 / scores.shape[1]) | is_shot
    return Corrected(keep, torch.where(replaced, label, given), replaced | is_shot, score)


def keep_first(
    relations: Float[Tensor, "B K"],
    scores: Float[Tensor, "B K"],
    given: Int64[Tensor, " B"],
    is_shot: Bool[Tensor, " B"],
    threshold: float,
) -> Corrected:
    """The given label is kept where its relation is above the threshold; else arg-max t replaces it where max t is.

    Shapes: relations r are each in [0, 1], and several may be high; scores t are probabilities of the classes. The score of the given
    label is its relation.
    """
    score, (best, label) = _of_given(relations, given), scores.max(1)
    kept = (score > threshold) | is_shot
    replaced = (best > threshold) & ~kept
    return Corrected(kept | replaced, torch.where(replaced, label, given), (best > threshold) | is_shot, score)


def _of_given(scores: Float[Tensor, "B K"], given: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    return scores.gather(1, given[:, None]).squeeze(1)
