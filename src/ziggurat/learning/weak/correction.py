"""Labels that are kept, replaced or given up by what a network thinks of every class; shots, whose labels are certain, stay."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Corrected(NamedTuple):
    """What is to be done with each sample: keep (B,), whether it counts; label (B,), the given one or a new one; score (B,), of the
    given one."""

    keep: Bool[Tensor, " B"]
    label: Int64[Tensor, " B"]
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
    return Corrected(keep, torch.where(replaced, label, given), score)


def keep_first(
    scores: Float[Tensor, "B K"], given: Int64[Tensor, " B"], is_shot: Bool[Tensor, " B"], threshold: float
) -> Corrected:
    """The given label is kept where its score is above the threshold; else the best one replaces it if its score is.

    Shapes: scores are each in [0, 1], one for each pair of a sample and a class; several may be high.
    """
    score, (best, label) = _of_given(scores, given), scores.max(1)
    replaced = (best > threshold) & (score <= threshold) & ~is_shot
    keep = (best > threshold) | is_shot
    return Corrected(keep, torch.where(replaced, label, given), score)


def _of_given(scores: Float[Tensor, "B K"], given: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    return scores.gather(1, given[:, None]).squeeze(1)
