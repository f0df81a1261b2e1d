"""An optimiser and its schedule over a run whose length is not yet known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import Parameter

Schedule = Callable[[float], float]


def constant(fraction: float) -> float:
    """A schedule that never changes the learning rate."""
    return 1.0


def cosine(fraction: float) -> float:
    """Half a cosine from 1 to 0 over the run."""
    return 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))


def warmup_cosine(fraction: float, warmup: float = 0.05) -> float:
    """A straight rise over the first `warmup` of the run, then half a cosine to 0."""
    if fraction < warmup:
        return (fraction + 1e-3) / (warmup + 1e-3)
    return cosine((fraction - warmup) / (1 - warmup))


def steps(*at: float, factor: float = 0.1) -> Schedule:
    """Multiplies the learning rate by `factor` at each of the given fractions of the run."""
    return lambda fraction: factor ** sum(fraction >= where for where in at)


@dataclass
class Recipe:
    """An optimiser and its schedule: the factor on the learning rate as a function of the fraction of the run, in [0, 1].

    `schedule` is one function for all parameter groups, or one for each group.
    """

    optimizer: torch.optim.Optimizer
    schedule: Schedule | Sequence[Schedule] = constant

    def add(self, parameters: Iterable[Parameter]) -> None:
        """Trains these too, those it has already left out, by the options of the optimiser and the schedule of the last group."""
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        added = [p for p in parameters if id(p) not in known]
        if added:
            self.optimizer.add_param_group({"params": added})
            if not callable(self.schedule):
                self.schedule = [*self.schedule, self.schedule[-1]]
