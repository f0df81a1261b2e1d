"""Many samples with doubtful labels and a few with certain ones, fed together: images of the web, and shots of the real world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from ziggurat.data.batch import Views
from ziggurat.data.datasets import Index, as_index
from ziggurat.data.feeds import Labelled


class WebAndShots:
    """The samples of `web`, and behind them those of `shots`, as one data set.

    Arguments:
        web: labels may be wrong; `Images`, `Table` or `Clouds`.
        shots: of the same kind and with the same classes; labels are certain.

    `is_shot` (N,) says which samples are shots.
    """

    def __init__(self, web: Any, shots: Any) -> None:
        if (web.kind, web.classes) != (shots.kind, shots.classes):
            raise ValueError(
                f"{web.name} and its shots {shots.name} differ in their kind or classes; give both the same."
            )
        self.web, self.shots = web, shots
        self.name, self.kind, self.task, self.classes = web.name, web.kind, web.task, web.classes
        self.labels: Int64[Tensor, " N"] = torch.cat([web.labels, shots.labels])
        self.is_shot: Bool[Tensor, " N"] = torch.arange(len(self)) >= len(web)

    def __len__(self) -> int:
        return len(self.web) + len(self.shots)

    def inputs(self, index: Index) -> Tensor:
        """Samples of both, in the order of `index`."""
        rows = as_index(index, len(self))
        shot = self.is_shot[rows]
        web, sure = self.web.inputs(rows[~shot]), self.shots.inputs(rows[shot] - len(self.web))
        return torch.cat([web, sure])[torch.cat([(~shot).nonzero(), shot.nonzero()]).flatten().argsort()]

    def relabelled(self, keep: Bool[Tensor, " N"], labels: Int64[Tensor, " N"]) -> WebAndShots:
        """The kept samples of the web under new labels; all shots stay as they are."""
        count = len(self.web)
        return WebAndShots(replace(self.web, labels=labels[:count]).subset(keep[:count]), self.shots)

    def describe(self) -> str:
        return f"{self.web.describe()}, and {len(self.shots)} shots"


@dataclass
class GuidedViews(Views):
    """`views` are a weak and a strong one of each sample, and `inputs` the weak one; `is_shot` (B,) says whose label is certain."""

    is_shot: Bool[Tensor, " B"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))


@dataclass(frozen=True)
class Guided:
    """A weak and a strong view of each sample: `GuidedViews((weak,), labels, index, views=(weak, strong), is_shot=…)`.

    Of a data set that is no `WebAndShots` no sample is a shot.

    Arguments:
        weak, strong: make the views of training batches; None leaves samples as they are.
    """

    weak: nn.Module | Callable[[Tensor], Tensor] | None = None
    strong: nn.Module | Callable[[Tensor], Tensor] | None = None

    order = Labelled.order

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> GuidedViews:
        x = dataset.inputs(index)
        weak, strong = (x if view is None else view(x) for view in (self.weak, self.strong))
        shots = getattr(dataset, "is_shot", None)
        is_shot = torch.zeros(len(index), dtype=torch.bool) if shots is None else shots[index]
        return GuidedViews((weak,), dataset.labels[index], index, views=(weak, strong), is_shot=is_shot)
