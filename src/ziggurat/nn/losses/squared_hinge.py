"""Squared hinge: every wrong class must score a margin less than the right one; what is missing counts by its square."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot


def squared_hinge(
    logits: Float[Tensor, "B K"], labels: Int64[Tensor, " B"], margin: float = 1.0
) -> Float[Tensor, " B"]:
    """Σ_{k ≠ y} [margin − (s_y − s_k)]₊² of every sample: the loss of a multi-class SVM.

    Arguments:
        logits: scores s.
        labels: the right class y.
        margin: by which s_y should exceed the others.

    K. Crammer, Y. Singer, 2001; squared by Y. Tang, 2013, arXiv:1306.0239.
    """
    right = logits.gather(1, labels[:, None])
    missing = (margin - right + logits).clamp_min(0)
    wrong = 1 - one_hot(labels, logits.shape[1])
    return (wrong * missing.square()).sum(1)
