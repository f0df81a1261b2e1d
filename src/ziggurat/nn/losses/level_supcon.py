"""Supervised contrastive loss on every level of a hierarchy at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from ziggurat.data.label_levels import path_ids


class LevelLosses(NamedTuple):
    """The loss of each anchor on each level, and which anchors have a positive there; both (L, B), 0 where there is none."""

    values: Tensor
    counted: Tensor

    def mean(self) -> Float[Tensor, " L"]:
        """The mean of each level over the anchors that count."""
        return self.values.sum(1) / self.counted.sum(1).clamp_min(1)

    def mean_by_class(self, labels: Int64[Tensor, "B L"]) -> Float[Tensor, " L"]:
        """The mean of each level over its classes, of the mean over their anchors: large classes count as much as small ones."""
        ids = path_ids(labels).T
        zero = self.values.new_zeros(ids.shape)
        total, number = (zero.scatter_add(1, ids, x) for x in (self.values, self.counted.to(self.values.dtype)))
        present = (number > 0).sum(1).clamp_min(1)
        return (total / number.clamp_min(1)).sum(1) / present


def level_positives(labels: Int64[Tensor, "B L"]) -> Bool[Tensor, "L B B"]:
    """Which other samples share the way down to each level; those of a finer level are among those of the coarser ones."""
    ids = path_ids(labels).T
    same = ids[:, :, None] == ids[:, None, :]
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)


def level_supcon(
    embeddings: Float[Tensor, "*L B D"],
    labels: Int64[Tensor, "B L"],
    temperature: float,
    among: Bool[Tensor, "L B"] | None = None,
) -> LevelLosses:
    """Of every anchor on every level the mean over its positives of −log( exp(cos_ip / τ) / Σ_{k ≠ i} exp(cos_ik / τ) ).

    Arguments:
        embeddings: of any length; one for all levels, (B, D), or one for each, (L, B, D).
        labels: from the coarsest level to the finest.
        among: the samples that a level looks at; None takes all.
    """
    unit = normalize(embeddings, dim=-1)
    apart = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = level_positives(labels)
    if among is not None:
        positive = positive & among[:, :, None] & among[:, None, :]
        apart = apart | ~among[:, None, :]
    scores = unit @ unit.mT / temperature
    # the least number instead of −∞: the row of an anchor that is alone then has a softmax, and a gradient
    surprise = -scores.masked_fill(apart, torch.finfo(scores.dtype).min).log_softmax(-1)
    count = positive.sum(-1)
    values = torch.where(positive, surprise, 0).sum(-1) / count.clamp_min(1)
    return LevelLosses(values, count > 0)
