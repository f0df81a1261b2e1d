"""What a training is given and what it gives: data made ready, and the numbers of one row of a comparison."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ziggurat.data.loading import Splits
from ziggurat.graphs.links import LinkSplit
from ziggurat.workflows.methods import Shape

Task = Literal["classes", "links"]
CLASSES, LINKED, VALUES = ("accuracy", "macro F1"), ("AUC", "HR@50"), ("R²", "rank correlation")
"""What the two scores of an outcome are: of classes, of links, of values."""


@dataclass
class Outcome:
    """What one training gave; the numbers of one row of a comparison."""

    method: str
    seed: int
    accuracy: float = math.nan
    macro_f1: float = math.nan
    valid_accuracy: float = math.nan
    parameters: int = 0
    macs: int = 0
    train_seconds: float = math.nan
    peak_memory_mb: float = math.nan
    inference_per_second: float = math.nan
    steps: int = 0
    score: str = "predict"
    curve: list[tuple[int, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str = ""


@dataclass
class Prepared:
    """Data ready for every method: three parts of samples, one graph with three masks, or one with three parts of its links."""

    name: str
    shape: Shape
    parts: Splits | None = None
    graph: Any = None
    links: LinkSplit | None = None
    normalize: tuple[Tensor, Tensor] | None = None
    notes: tuple[str, ...] = ()
    measures: tuple[str, str] = CLASSES


def peak_memory_mb() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
