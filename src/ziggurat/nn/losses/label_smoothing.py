"""Label smoothing: a little of the target's probability goes to every class, so that logits need not grow without end.

    q = (1 − ε) onehot(y) + ε / K,   loss = −Σ_k q_k log p_k = (1 − ε) CE(y) + ε mean_k(−log p_k)

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, 2015, arXiv:1512.00567, section 7.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int64
from torch import Tensor, nn


class LabelSmoothingCrossEntropy(nn.Module):
    """Cross-entropy against smoothed labels.

    Arguments:
        smoothing: ε, spread evenly over all K classes, the right one among them; 0 is plain cross-entropy.
        reduction: "mean", or "none" for one value a sample.

    Shapes: logits (B, K), labels (B,) -> scalar or (B,).
    """

    def __init__(self, smoothing: float = 0.1, reduction: Literal["mean", "none"] = "mean") -> None:
        super().__init__()
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing must be between 0 and 1, got {smoothing}.")
        if reduction not in ("mean", "none"):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}.")
        self.smoothing, self.reduction = smoothing, reduction

    def forward(self, logits: Float[Tensor, "B K"], labels: Int64[Tensor, " B"]) -> Float[Tensor, "*B"]:
        surprise = -logits.log_softmax(1)
        right = surprise.gather(1, labels[:, None])[:, 0]
        loss = (1 - self.smoothing) * right + self.smoothing * surprise.mean(1)
        return loss.mean() if self.reduction == "mean" else loss

    def extra_repr(self) -> str:
        return f"smoothing={self.smoothing:g}, reduction={self.reduction!r}"
