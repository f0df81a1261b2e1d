"""What every loader yields: named inputs, a target, and the ids of the samples."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def map_tensors(value: Any, function: Any) -> Any:
    """`function` on every tensor inside tuples, lists and dicts; everything else as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(item, function) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    return value.to_device(function) if hasattr(value, "to_device") else value


@dataclass
class Batch:
    """One step's samples; `network(*batch.inputs)` is always the right call.

    Arguments:
        inputs: what the network takes, in the fixed order of its kind of input.
        target: what it should say: one row for each row that `pick` returns.
        index: int64 ids of the samples in their data set, one for each target.
        weight: how much each sample counts in a loss; None means equally.

    Kinds of batch that need more subclass it with named fields (`Views`, `Episode`, `GraphBatch`, …).
    """

    inputs: tuple
    target: Any
    index: Int64[Tensor, " B"]
    weight: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved = {
            f.name: map_tensors(getattr(self, f.name), lambda t: t.to(device, non_blocking=non_blocking))
            for f in fields(self)
        }
        return replace(self, **moved)

    def pick(self, output: Tensor) -> Tensor:
        """The rows of a network's output that `target`, `index` and `weight` speak of (here: all)."""
        return output

    def __len__(self) -> int:
        return len(self.index)


@dataclass
class Views(Batch):
    """Two or more augmented views of the same images: `views` are tensors like `inputs[0]`, which is left as it was."""

    views: tuple[Tensor, ...] = ()


@dataclass
class Triplets(Batch):
    """Anchors, positives of the same class and negatives of another one, each (B, …); `inputs` holds the anchors."""

    positive: Tensor | None = None
    negative: Tensor | None = None


@dataclass
class Episode(Batch):
    """A few-shot task: `support` (N, K, …) for N classes of K examples; `inputs` holds the queries, `target` their classes in 0 … N−1."""

    support: Tensor | None = None


@dataclass
class GraphBatch(Batch):
    """A graph trained whole: `inputs` are all nodes, and `mask` (nodes,) says which of them have a target in this step."""

    mask: Bool[Tensor, " N"] | None = None

    def pick(self, output: Tensor) -> Tensor:
        return output if self.mask is None else output[self.mask]
