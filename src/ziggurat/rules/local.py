"""Layer-local training: the parts of a network, each with a loss of its own, and no error crossing from one to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.nn.learner import Learner
from ziggurat.nn.staged import walk


def trainable_parts(network: nn.Module, by: Literal["stage", "block"]) -> list[nn.Module]:
    """The parts of a sequential network, those without parameters joined to the one before (or, in front, to the one after)."""
    parts: list[list[nn.Module]] = []
    for _, part in walk(network, by):
        starts = any(True for _ in part.parameters())
        open_front = len(parts) == 1 and not any(True for module in parts[0] for _ in module.parameters())
        if parts and (not starts or open_front):
            parts[-1].append(part)
        else:
            parts.append([part])
    return [part[0] if len(part) == 1 else nn.Sequential(*part) for part in parts]


@torch.no_grad()
def part_shapes(parts: list[nn.Module], input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape of one sample behind each part. A `ValueError` where a part hands on more than one tensor."""
    shapes, modes = [], [part.training for part in parts]
    first = next(p for part in parts for p in part.parameters())
    x = torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device)
    for part in parts:
        x = part.eval()(x)
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{type(part).__name__} hands on more than one tensor, so its stages cannot be trained one after the other; "
                "ziggurat.rules.stagewise.StagewiseMonoForward trains them inside the network."
            )
        shapes.append(tuple(x.shape[1:]))
    for part, mode in zip(parts, modes, strict=True):
        part.train(mode)
    return shapes


class LocalLearner(Learner):
    """What layer-local rules share: one loss a part, taken and applied while the batch passes through the network.

    A subclass yields (name, loss) from `stream`, part by part, each from a detached input. With `immediate`, the part is
    updated and its graph freed before the next one starts: that is where memory is saved. Otherwise all losses are summed
    and differentiated once, which gives the same gradients and keeps all graphs.
    """

    def __init__(self, network: nn.Module, lr: float | None = None, immediate: bool = True) -> None:
        super().__init__(network, lr)
        self.automatic_optimization = not immediate

    def stream(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """(name, loss a sample) of each part, lazily."""
        raise TypeError(f"{type(self).__name__} does not say what its parts lose: define stream(batch).")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return dict(self.stream(batch))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        if self.automatic_optimization:
            return super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        terms: dict[str, Tensor] = {}
        # Only the last update goes through Lightning, which counts optimiser steps: a batch is one step.
        pending = False
        for name, loss in self.stream(batch):
            if pending:
                optimizer.optimizer.step()
            self.check_finite({name: loss}, batch)
            optimizer.zero_grad()
            self.manual_backward(self.total({name: loss}, batch))
            terms[name] = loss.detach()
            pending = True
        optimizer.step()
        optimizer.zero_grad()
        self.lr_schedulers().step()  # type: ignore[union-attr]
        total = self.total(terms, batch)
        self.report(terms, total, batch)
        return {"loss": total, "losses": terms}
