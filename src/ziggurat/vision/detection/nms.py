"""Non-maximum suppression: of boxes that overlap, the one with the best score stays."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.vision.detection._kernels import greedy_suppression


def nms(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    threshold: float,
    groups: Int64[Tensor, " n"] | None = None,
) -> Int64[Tensor, " kept"]:
    """Indices of the boxes that stay, best score first; equal scores in the order given.

    Arguments:
        threshold: a box goes when it overlaps a better one by a larger IoU.
        groups: boxes of different groups (classes, levels) do not suppress each other.
    """
    order = scores.argsort(descending=True, stable=True)
    placed = boxes.detach().double()
    if groups is not None and len(boxes):
        span = placed.max() - placed.min() + 1  # each group is moved to a place of its own
        placed = placed + groups[:, None].double() * span
    keep = greedy_suppression(placed[order].cpu().numpy(), float(threshold))
    return order[torch.from_numpy(keep).to(order.device)]
