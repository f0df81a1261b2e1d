"""Boxes as xyxy pixels: (left, top, right, bottom), the far edges exclusive."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def mask_boxes(masks: Bool[Tensor, "n H W"]) -> Float[Tensor, "n 4"]:
    """The smallest box around each mask; zeros where the mask is empty."""
    corners = []
    for profile in (masks.any(1), masks.any(2)):
        first = profile.to(torch.uint8).argmax(1)
        last = profile.shape[1] - profile.flip(1).to(torch.uint8).argmax(1)
        corners += [first, torch.where(profile.any(1), last, 0)]
    return torch.stack([corners[0], corners[2], corners[1], corners[3]], 1).float()


def box_area(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Width times height."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of all pairs; 0 where both are empty."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)
    union = box_area(a)[:, None] + box_area(b)[None] - shared
    return shared / union.clamp_min(torch.finfo(union.dtype).tiny)


def clip_boxes(boxes: Float[Tensor, "n 4"], height: int, width: int) -> Float[Tensor, "n 4"]:
    """Boxes cut off at the image's edges."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp_min(0), limit)
