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
    warm-up and a cosine, which does well on most networks without tuning. A network with an auxiliary head, that is a method
    `auxiliary(features) -> logits` and an `auxiliary_weight` above 0, is also trained through it; its value is a term of its own.

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
        weight = getattr(self.network, "auxiliary_weight", 0.0)
        if not weight:
            return {"cross_entropy": self.loss(self.network(*batch.inputs), batch)}
        features = self.network.forward_features(*batch.inputs)  # type: ignore[operator]
        return {
            "cross_entropy": self.loss(self.network.forward_head(features), batch),  # type: ignore[operator]
            "auxiliary": weight * self.loss(self.network.auxiliary(features), batch),  # type: ignore[operator]
        }

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, one value a sample."""
        return cross_entropy(batch.pick(logits), batch.target, reduction="none", label_smoothing=self.label_smoothing)

    def recipe(self) -> Recipe:
        own = getattr(self.network, "recipe", None)
        if own is not None:
            return own(self.lr)
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr or 2e-3, weight_decay=self.weight_decay)
        return Recipe(optimizer, warmup_cosine)
