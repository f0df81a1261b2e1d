"""The best weights of a training instead of the last ones, by a score that does not look at test data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Callback


class BestStep(Callback):
    """Scores a learner every few steps, and gives it back the weights of its best score when the training ends.

    Arguments:
        score: of a learner in evaluation mode, the higher the better; of equal scores the first one counts.
        every: steps between two looks.

    Attributes:
        best: the best score so far.
        step: after how many steps it was reached.
    """

    def __init__(self, score: Callable[[Any], float], every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 step or more, got {every}.")
        self.score, self.every = score, every
        self.best, self.step = float("-inf"), 0
        self._state: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: Any, learner: LightningModule, *_: Any) -> None:
        if trainer.global_step % self.every:
            return
        modes = {module: module.training for module in learner.modules()}
        learner.eval()
        with torch.no_grad():
            value = self.score(learner)
        for module, training in modes.items():
            module.training = training
        if value > self.best:
            self.best, self.step = value, trainer.global_step
            self._state = {name: item.detach().clone() for name, item in learner.state_dict().items()}

    def on_train_end(self, trainer: Any, learner: LightningModule) -> None:
        if self._state:
            learner.load_state_dict(self._state)
