"""Supervised regression: squared error between a network's one output and a value."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe, warmup_cosine


class Regression(Learner):
    """Trains any network with one output on values that are standardised inside, one squared error a sample.

    Arguments:
        network: gives (B, 1).
        mean, std: of the training values; `predict` gives values in their unit.
        lr: learning rate; None is 2e-3.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: float = 0.0,
        std: float = 1.0,
        lr: float | None = None,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(network, lr)
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}: values that are all equal cannot be learnt from.")
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))
        self.weight_decay = weight_decay

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        target = (batch.target - self.mean) / self.std
        return {"squared_error": (self.network(*batch.inputs)[:, 0] - target).square()}

    def predict(self, *inputs: object) -> Float[Tensor, " B"]:
        return self.network(*inputs)[:, 0] * self.std + self.mean

    def recipe(self) -> Recipe:
        """AdamW with a short warm-up and a cosine."""
        return Recipe(
            torch.optim.AdamW(self.parameters(), self.lr or 2e-3, weight_decay=self.weight_decay), warmup_cosine
        )
