"""Focal loss: cross-entropy in which what is already easy counts little."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def focal_loss(
    logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*n"]:
    """−α_t (1 − p_t)^γ log p_t of every entry, p_t the probability given to the truth.

    Arguments:
        target: 0 or 1.
        alpha: weight of the ones; the zeros have 1 − α.

    T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv:1708.02002.
    """
    plain = binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    wrong = p * (1 - target) + (1 - p) * target
    return (alpha * target + (1 - alpha) * (1 - target)) * wrong**gamma * plain
