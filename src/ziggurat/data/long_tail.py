"""Long tails: a few classes have most of the samples, and many classes have few."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.seeds import generator


def long_tail_counts(classes: int, largest: int, imbalance: float) -> list[int]:
    """How many samples the classes have from the most frequent to the rarest: ⌊largest · imbalance^(−i / (classes − 1))⌋.

    Arguments:
        largest: samples of the most frequent class.
        imbalance: how many times as many it has as the rarest one.
    """
    if classes < 2:
        raise ValueError(f"a long tail needs two classes or more, got {classes}.")
    if imbalance < 1:
        raise ValueError(f"imbalance is largest / smallest and at least 1, got {imbalance}.")
    counts = [int(largest * imbalance ** (-i / (classes - 1)) + 1e-9) for i in range(classes)]
    if counts[-1] < 1:
        raise ValueError(
            f"with {largest} samples of the largest class and an imbalance of {imbalance:g} the rarest class has none; "
            "take a larger class or a smaller imbalance."
        )
    return counts


def long_tailed(
    labels: Int64[Tensor, " N"],
    largest: int,
    imbalance: float = 100.0,
    order: Sequence[int] | None = None,
    seed: int = 0,
) -> Int64[Tensor, " n"]:
    """Rows of a long-tailed part of a data set, ascending; which samples of a class are in it is drawn.

    Arguments:
        labels: classes in 0 … K − 1.
        largest, imbalance: as of `long_tail_counts`.
        order: the classes from the most frequent to the rarest; None: 0, 1, 2, …
        seed: of the draw.
    """
    have = torch.bincount(labels)
    order = range(len(have)) if order is None else order
    if sorted(order) != list(range(len(have))):
        raise ValueError(f"order must name each of the {len(have)} classes once, got {list(order)}.")
    rows = []
    for label, count in zip(order, long_tail_counts(len(have), largest, imbalance), strict=True):
        members = (labels == label).nonzero().flatten()
        if len(members) < count:
            raise ValueError(f"class {label} has {len(members)} samples, fewer than the {count} it should keep.")
        rows.append(members[torch.randperm(len(members), generator=generator(seed, "long tail", label))[:count]])
    return torch.cat(rows).sort().values
