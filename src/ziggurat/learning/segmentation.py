"""How a segmenter learns: cross-entropy of every pixel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Pixels
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe, warmup_cosine

IGNORE = 255


class Segmentation(Learner):
    """Trains any segmenter; one value a sample, the mean over its pixels that have a class.

    Arguments:
        network: images (B, C, H, W) -> logits (B, K, H, W).
        lr: of AdamW with a short warm-up and a cosine; None is 2e-3.
        flip: turns half of the images over.
    """

    def __init__(self, network: nn.Module, lr: float | None = None, flip: bool = True) -> None:
        super().__init__(network, lr)
        self.flip = flip

    @property
    def feed(self) -> Pixels:
        return Pixels(self.flip)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        loss = cross_entropy(self.network(*batch.inputs), batch.target, ignore_index=IGNORE, reduction="none")
        counted = (batch.target != IGNORE).sum((1, 2)).clamp_min(1)
        return {"cross_entropy": loss.sum((1, 2)) / counted}

    def represent(self, *inputs: Any) -> Tensor:
        """Mean of the logits over the image (B, K)."""
        return self.network(*inputs).mean((2, 3))

    def recipe(self) -> Recipe:
        own = getattr(self.network, "recipe", None)
        if own is not None:
            return own(self.lr)
        trained = [p for p in self.parameters() if p.requires_grad]
        return Recipe(torch.optim.AdamW(trained, lr=self.lr or 2e-3, weight_decay=1e-4), warmup_cosine)
