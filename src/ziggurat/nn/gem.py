"""Generalised-mean pooling: between the average and the maximum of a map, by one exponent.

    g_c = (1 / HW · Σ_p max(x_cp, ε)^p)^(1/p)

F. Radenović, G. Tolias, O. Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, 2017, arXiv:1711.02512.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6


class GeM(nn.Module):
    """p = 1 is the average of what is positive, p → ∞ the maximum.

    Arguments:
        p: at the start; it is learnt with the other weights.

    Shapes: (B, C, H, W) -> (B, C), not negative.
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        if not p > 0:
            raise ValueError(f"p must be positive, got {p}.")
        self.p = nn.Parameter(torch.tensor(float(p)))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        positive = x.clamp_min(EPSILON)
        top = positive.amax(
            (2, 3), keepdim=True
        )  # divided out, so that a large exponent neither vanishes nor overflows
        return top[..., 0, 0] * (positive / top).pow(self.p).mean((2, 3)).pow(1 / self.p)
