"""One quiet call of Lightning's Trainer: what tests, experiments and short trainings have in common."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from ziggurat.data.seeds import derive
from ziggurat.nn.learner import Learner


class Fixed:
    """The same batches in every epoch, as a loader. (Lightning would take a plain list for several loaders.)"""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Keep(Callback):
    """Writes a checkpoint now and then, whole or not at all, so that a killed training can go on where it was.

    Arguments:
        path: of the checkpoint.
        seconds: between two of them; 0 writes one after every step.
    """

    def __init__(self, path: Path, seconds: float = 30.0) -> None:
        self.path, self.seconds, self.last = path, seconds, time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if time.monotonic() - self.last < self.seconds:
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self.last = time.monotonic()


def fit(
    learner: Learner,
    batches: Iterable[Any],
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    keep: Keep | None = None,
) -> Learner:
    """Trains `learner` for a number of steps or epochs and returns it in evaluation mode.

    Arguments:
        batches: a loader of `ziggurat.data.feed`, or a list of batches.
        steps, epochs: exactly one of the two.
        seed: of every step; the loader has its own.
        device: "cpu", "cuda", "mps", or "auto".
        clip: largest norm of the gradient; None does not clip.
        callbacks: of Lightning.
        keep: writes checkpoints while it trains. Where its file is there already, the training goes on from it, and ends in the same
            weights as one that was never stopped. Whoever has put the result into safety removes the file.
    """
    if (steps is None) == (epochs is None):
        raise ValueError("give either steps or epochs, not both and not neither.")
    learner.seed = seed
    quiet = logging.getLogger("lightning.pytorch")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(derive(seed, "fit"))
            trainer = lightning.Trainer(
                max_steps=-1 if steps is None else steps,
                max_epochs=-1 if epochs is None else epochs,
                accelerator={"cuda": "gpu"}.get(device, device),
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                gradient_clip_val=clip,
                callbacks=[*callbacks, *([keep] if keep else [])],
            )
            start = keep.path if keep is not None and keep.path.is_file() else None
            loader = Fixed(batches) if isinstance(batches, list | tuple) else batches
            trainer.fit(learner, loader, ckpt_path=start, weights_only=True if start else None)
    finally:
        quiet.setLevel(level)
    return learner.eval()
