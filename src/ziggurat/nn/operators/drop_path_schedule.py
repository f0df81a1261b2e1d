"""Tells a network that is trained by Lightning how much of its training lies behind."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import nn

from ziggurat.nn.operators.scheduled_drop_path import set_progress


class DropPathSchedule(Callback):
    """The progress of every `ScheduledDropPath` before every step: 0 at the first one, 1 at the last."""

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: nn.Module, *_: Any) -> None:
        last = trainer.estimated_stepping_batches - 1
        set_progress(pl_module, min(trainer.global_step / last, 1.0) if last > 0 else 1.0)
