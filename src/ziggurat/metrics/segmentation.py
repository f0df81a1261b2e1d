"""The four measures of semantic segmentation, from one confusion matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int, Int64
from torch import Tensor


class SegmentationScores(NamedTuple):
    """Pixel accuracy Σ n_ii / Σ t_i; mean accuracy, mean n_ii / t_i; mean IU, mean n_ii / (t_i + p_i − n_ii); the last weighted by t_i.

    Classes that neither occur nor are predicted are left out of the means.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    weighted_iou: float


def confusion(
    predicted: Int[Tensor, "*n"], truth: Int[Tensor, "*n"], num_classes: int, ignore: int = 255
) -> Int64[Tensor, "K K"]:
    """Counts of pixels by true class (rows) and predicted class (columns); pixels of class `ignore` are not counted."""
    valid = truth != ignore
    pairs = truth[valid].long() * num_classes + predicted[valid].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def segmentation_scores(counts: Int64[Tensor, "K K"]) -> SegmentationScores:
    """The measures of a confusion matrix; matrices of parts of the data may be added up first."""
    table = counts.double()
    right, true, said = table.diagonal(), table.sum(1), table.sum(0)
    there, seen = true > 0, true + said > 0
    overlap = right / (true + said - right).clamp_min(1)
    total = true.sum().clamp_min(1)
    return SegmentationScores(
        float(right.sum() / total),
        float((right / true.clamp_min(1))[there].mean()),
        float(overlap[seen].mean()),
        float((overlap * true).sum() / total),
    )
