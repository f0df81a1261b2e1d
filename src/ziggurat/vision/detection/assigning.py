"""Which anchor or proposal stands for which object in training, and which of them are drawn for a step."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ziggurat.data.boxes import box_iou


def max_iou_assign(
    candidates: Float[Tensor, "n 4"],
    boxes: Float[Tensor, "m 4"],
    positive: float = 0.7,
    negative: float = 0.3,
    keep_best: bool = True,
) -> Int64[Tensor, " n"]:
    """Each candidate's object by largest overlap: index at IoU ≥ `positive`, −1 below `negative`, −2 between.

    Arguments:
        keep_best: also gives every object the candidates that overlap it most, however little.
    """
    if not 0 <= negative <= positive <= 1:
        raise ValueError(f"thresholds must satisfy 0 <= negative <= positive <= 1, got {negative} and {positive}.")
    if not len(boxes):
        return torch.full((len(candidates),), -1, dtype=torch.int64, device=candidates.device)
    overlap = box_iou(boxes, candidates)
    best, index = overlap.max(0)
    matched = torch.where(best >= positive, index, torch.where(best < negative, -1, -2))
    if keep_best:
        most = overlap.amax(1, keepdim=True)
        favourite = ((overlap == most) & (most > 0)).any(0)
        matched = torch.where(favourite, index, matched)
    return matched


def sample(
    matched: Int64[Tensor, " n"], count: int, positives: float, generator: torch.Generator | None = None
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """A random draw of at most `count` candidates, at most a share `positives` of them with an object: (positive, negative) masks."""

    def draw(mask: Tensor, most: int) -> Tensor:
        keys = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, 2.0)
        chosen = torch.zeros_like(mask)
        chosen[keys.argsort()[: min(most, int(mask.sum()))]] = True
        return chosen

    foreground = draw(matched >= 0, int(count * positives))
    return foreground, draw(matched == -1, count - int(foreground.sum()))
