"""How a network learns, as a LightningModule: which batches it wants, what it loses, and what happens after a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Labelled, ManyGraphs, WholeGraph
from ziggurat.data.protocols import Kind
from ziggurat.data.seeds import derive
from ziggurat.nn.recipe import Recipe, Schedule


class Learner(LightningModule):
    """A network together with the way it learns. Lightning's Trainer runs it; there is no other training loop.

    A subclass says `feed` (which batches), `losses` (pure), and where it needs to, `after_step`, `recipe`, `represent`,
    `predict` and `score`. It keeps state that outlives a step (teachers, queues, prototypes) in buffers.

    Arguments:
        network: any module; a `Staged` one gives its features to `represent`.
        lr: learning rate of the recipe; None takes the paper's.

    Attributes:
        score: how a comparison turns the learner into an accuracy: "predict", "linear_probe", "knn" or "prototypes".
        seed: torch is seeded from (seed, global step) before every step, which makes a resumed run exact.
    """

    score: Literal["predict", "linear_probe", "knn", "prototypes"] = "predict"

    def __init__(self, network: nn.Module, lr: float | None = None) -> None:
        super().__init__()
        if lr is not None and not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}.")
        self.network = network
        self.lr = lr
        self.seed = 0

    @property
    def feed(self) -> Kind | WholeGraph:
        """The kind of batches this learner wants: what its network takes decides, a whole graph, several graphs or labelled samples."""
        precompute, kind = getattr(self.network, "precompute", None), getattr(self.network, "input", "image")
        if precompute is not None or kind in ("graph", "hypergraph"):
            return WholeGraph(precompute=precompute)
        return ManyGraphs() if kind == "graphs" else Labelled()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named terms of the loss, each a scalar or one value per sample; pure, so that it can be called at any time."""
        raise TypeError(f"{type(self).__name__} does not say what it loses: define losses(batch).")

    def after_step(self, batch: Batch) -> None:
        """What follows a step: moving averages, queues, prototypes. By default nothing."""

    def recipe(self) -> Recipe:
        """The paper's optimiser and schedule; here Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))

    def represent(self, *inputs: Any) -> Tensor:
        """Representation (B, D) of samples, or (N, D) of nodes: the vector before the classifier."""
        features = getattr(self.network, "forward_features", None)
        if features is None:
            return self.network(*inputs)
        head: Any = self.network.forward_head
        return head(features(*inputs), pre_logits=True)

    def predict(self, *inputs: Any) -> Tensor:
        """Logits (B, K)."""
        return self.network(*inputs)

    # What follows is the same for every learner.

    def total(self, terms: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Sum over the terms of their mean over samples, weighted by `batch.weight` where a term has one value per sample."""
        means = []
        for value in terms.values():
            if value.ndim and batch.weight is not None:
                value = value * batch.weight / batch.weight.mean().clamp_min(1e-12)
            means.append(value.mean())
        return torch.stack(means).sum()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(derive(self.seed, "step", self.trainer.global_step, self.trainer.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        self._batch = batch
        terms = self.losses(batch)
        self.check_finite(terms, batch)
        total = self.total(terms, batch)
        self.report(terms, total, batch)
        return {"loss": total, "losses": {name: value.detach() for name, value in terms.items()}}

    def check_finite(self, terms: Mapping[str, Tensor], batch: Batch) -> None:
        """Stops, with the step and the samples, when a term is not finite."""
        for name, value in terms.items():
            if not torch.isfinite(value).all():
                bad = batch.index[~torch.isfinite(value)] if value.shape == batch.index.shape else batch.index
                raise FloatingPointError(
                    f"the loss {name!r} is not finite at step {self.trainer.global_step} for samples "
                    f"{bad[:8].tolist()}; look at those samples, lower the learning rate (lr={self.lr}) or clip gradients."
                )

    def report(self, terms: Mapping[str, Tensor], total: Tensor, batch: Batch) -> None:
        """Logs the loss and its terms."""
        self.log("loss", total.detach(), batch_size=len(batch), prog_bar=True)
        if len(terms) > 1:
            self.log_dict({f"loss/{k}": v.detach().mean() for k, v in terms.items()}, batch_size=len(batch))

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """The step, and at once what follows it: a checkpoint that a callback writes behind the batch then holds both."""
        super().optimizer_step(*arguments, **named)
        with torch.no_grad():
            self.after_step(self._batch)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if not self.automatic_optimization:
            with torch.no_grad():
                self.after_step(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        terms = self.losses(batch)
        self.log("valid/loss", self.total(terms, batch), batch_size=len(batch))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def fraction(self, step: int) -> float:
        """How much of the run lies behind after `step` steps."""
        total = self.trainer.estimated_stepping_batches if self._trainer is not None else 0
        return min(step / total, 1.0) if total and math.isfinite(total) else 0.0

    def _factor(self, schedule: Schedule, step: int) -> float:
        return schedule(self.fraction(step))

    def configure_optimizers(self) -> Any:
        recipe = self.recipe()
        groups = len(recipe.optimizer.param_groups)
        schedules = [recipe.schedule] * groups if callable(recipe.schedule) else list(recipe.schedule)
        if len(schedules) != groups:
            raise ValueError(
                f"the recipe has {groups} parameter groups but {len(schedules)} schedules; give one for each."
            )
        factors: list[Callable[[int], float]] = [partial(self._factor, schedule) for schedule in schedules]
        scheduler = torch.optim.lr_scheduler.LambdaLR(recipe.optimizer, factors)
        return {"optimizer": recipe.optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
