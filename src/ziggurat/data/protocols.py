"""What the library asks of a data set, a network and a sampler, as protocols: your own class needs no base class of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Dataset(Protocol):
    """A finite set of samples, addressed by integer ids 0 … len − 1."""

    name: str
    kind: str  # the kind of input it feeds: "image", "graph", "table", "points", "sequence", …
    task: str  # "classification", "detection", "segmentation", "node classification", …

    def __len__(self) -> int: ...

    def describe(self) -> str:
        """One line for people: how many samples and classes, and what was skipped."""
        ...


@runtime_checkable
class Labelled(Dataset, Protocol):
    """A data set with one class a sample."""

    classes: tuple[str, ...]

    @property
    def labels(self) -> Tensor: ...

    def inputs(self, index: Tensor) -> Tensor:
        """Samples as floats (images: in [0, 1]), batched, for int64 ids (B,)."""
        ...


@runtime_checkable
class Order(Protocol):
    """The samples of an epoch, in their order: a pure function of the epoch."""

    def __call__(self, epoch: int) -> Tensor: ...


@runtime_checkable
class Kind(Protocol):
    """How a feed turns a data set into batches (see `ziggurat.data.feeds`)."""

    def order(
        self, dataset: Any, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]: ...

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Any: ...
