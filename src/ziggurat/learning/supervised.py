"""Supervised classification: cross-entropy between a network's logits and the labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.data.batch import Batch
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe, warmup_cosine


class Supervised(Learner):
    """Trains any classifier by cross-entropy, one value a sample.

    A network that has a `recipe(lr)` of its own (its paper's optimiser) is trained with it; otherwise AdamW with a short
    warm-up and a cosine, which does well on most networks without tuning.

    Arguments:
        network: a classifier.
        lr: learning rate; None takes the recipe's.
        label_smoothing: probability spread over the other classes.
        weight_decay: of AdamW.
    """

    def __init__(
        self, network: nn.Module, lr: float | None = None, label_smoothing: float = 0.0, weight_decay: float = 0.01
    ) -> None:
        super().__init__(network, lr)
        self.label_smoothing, self.weight_decay = label_smoothing, weight_decay

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = batch.pick(self.network(*batch.inputs))
        loss = cross_entropy(logits, batch.target, reduction="none", label_smoothing=self.label_smoothing)
        return {"cross_entropy": loss}

    def recipe(self) -> Recipe:
        own = getattr(self.network, "recipe", None)
        if own is not None:
            return own(self.lr)
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr or 2e-3, weight_decay=self.weight_decay)
        return Recipe(optimizer, warmup_cosine)
