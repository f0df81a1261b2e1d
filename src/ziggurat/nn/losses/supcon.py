"""Supervised contrastive loss: samples of one class are drawn together, all others are pushed away."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class SupConLoss(nn.Module):
    """Of every anchor the mean over its positives of −log( exp(cos_ip / τ) / Σ_{k ≠ i} exp(cos_ik / τ) ).

    Positives are the other samples of its class. An anchor without any loses 0 and counts in no mean.

    Arguments:
        temperature: τ.
        reduction: "mean" over the anchors that have positives, or "none" for one value an anchor.

    Shapes: embeddings (B, D) of any length, labels (B,) -> scalar or (B,). P. Khosla et al., 2020, arXiv:2004.11362.
    """

    def __init__(self, temperature: float = 0.07, reduction: str = "mean") -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        if reduction not in ("mean", "none"):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}.")
        self.temperature, self.reduction = temperature, reduction

    def forward(self, embeddings: Float[Tensor, "B D"], labels: Int64[Tensor, " B"]) -> Float[Tensor, "*B"]:
        unit = nn.functional.normalize(embeddings, dim=1)
        self_pair = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        scores = (unit @ unit.T / self.temperature).masked_fill(self_pair, -torch.inf)
        surprise = -scores.log_softmax(1)
        positive = (labels[:, None] == labels) & ~self_pair
        count = positive.sum(1)
        loss = surprise.masked_fill(~positive, 0).sum(1) / count.clamp_min(1)
        return loss if self.reduction == "none" else loss.sum() / (count > 0).sum().clamp_min(1)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}, reduction={self.reduction!r}"
