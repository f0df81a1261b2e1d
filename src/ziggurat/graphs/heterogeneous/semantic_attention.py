"""Attention over meta-paths: one weight a path, the same for all nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SemanticAttention(nn.Module):
    """Σ_m w_m z_m with w = softmax_m(a · mean_n tanh(W z_m + b)). X. Wang et al., 2019, arXiv:1903.07293.

    Arguments:
        width: of the representations.

    Shapes: M times (N, width) -> (N, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(width, width), nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, views: Sequence[Float[Tensor, "N D"]]) -> Float[Tensor, "N D"]:
        z = torch.stack(list(views))
        weight = (self.hidden(z).tanh().mean(1) @ self.score).softmax(0)
        return (weight[:, None, None] * z).sum(0)
