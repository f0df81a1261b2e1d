"""How a detector learns: the sum of the losses that it reports itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Objects
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe, warmup_cosine


class Detection(Learner):
    """Trains any detector: `network(images, targets)` in training gives a dict of losses.

    Arguments:
        network: a detector.
        lr: of AdamW with a short warm-up and a cosine; None is 1e-3.
        flip: turns half of the images over.
    """

    def __init__(self, network: nn.Module, lr: float | None = None, flip: bool = True) -> None:
        super().__init__(network, lr)
        self.flip = flip

    @property
    def feed(self) -> Objects:
        return Objects(self.flip)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.network(*batch.inputs, batch.target)

    def represent(self, *inputs: Any) -> Tensor:
        """Mean of the coarsest level (B, C)."""
        features: Any = self.network.features
        batch, _ = features.batch(*inputs)
        return features(batch)[-1].mean((2, 3))

    def predict(self, *inputs: Any) -> Any:
        """Boxes, scores and labels of each image."""
        return self.network(*inputs)

    def recipe(self) -> Recipe:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr or 1e-3, weight_decay=1e-4)
        return Recipe(optimizer, warmup_cosine)
