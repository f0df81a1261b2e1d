"""Miners: which triplets and pairs of a batch a loss should look at, from distances or similarities and the labels.

Everything is taken at once from the (N, N) matrix of the batch. A miner looks at detached numbers; the loss takes the gradient. Triplets
are chosen in a table with a row for each positive pair and a column for each sample, and only the chosen ones are listed: all of them are
62 million for 2,048 samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Strategy = Literal["all", "hard", "semi_hard", "easy"]

KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "all": lambda gap, margin: gap <= margin,
    "hard": lambda gap, margin: gap <= 0,
    "semi_hard": lambda gap, margin: (gap > 0) & (gap <= margin),
    "easy": lambda gap, margin: gap > margin,
}
"""Which triplets a strategy takes, by d_an − d_ap."""


def same_class(labels: Int64[Tensor, " N"]) -> tuple[Bool[Tensor, "N N"], Bool[Tensor, "N N"]]:
    """(pairs of different samples of one class, pairs of two classes)."""
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


def _listed(
    anchor: Int64[Tensor, " P"], near: Int64[Tensor, " P"], chosen: Bool[Tensor, "P N"]
) -> Int64[Tensor, "T 3"]:
    """The triplets that are chosen of a table of positive pairs and samples, row by row."""
    row, far = chosen.nonzero().T
    triplets = anchor.new_empty(3, len(row))
    for column, of_pairs in zip(triplets, (anchor, near)):
        torch.index_select(
            of_pairs, 0, row, out=column
        )  # in its place: to stack them would copy the largest thing here
    triplets[2] = far
    return triplets.T


def all_triplets(labels: Int64[Tensor, " N"]) -> Int64[Tensor, "T 3"]:
    """Every (anchor, positive, negative)."""
    positive, negative = same_class(labels)
    anchor, near = positive.nonzero().T
    return _listed(anchor, near, negative[anchor])


def margin_triplets(
    distance: Float[Tensor, "N N"], labels: Int64[Tensor, " N"], margin: float, strategy: Strategy = "all"
) -> Int64[Tensor, "T 3"]:
    """The triplets of a kind, by how much farther the negative is than the positive, d_an − d_ap.

    Arguments:
        margin: m of the loss.
        strategy: "all" that cost something, below m; "hard", at most 0; "semi_hard", between 0 and m; "easy", above m.
    """
    if strategy not in KINDS:
        raise ValueError(f"strategy must be one of {', '.join(KINDS)}, got {strategy!r}.")
    positive, negative = same_class(labels)
    anchor, near = positive.nonzero().T
    d = distance.detach()
    gap = d[anchor] - d[anchor, near, None]
    return _listed(anchor, near, negative[anchor] & KINDS[strategy](gap, margin))


def batch_hard(distance: Float[Tensor, "N N"], labels: Int64[Tensor, " N"]) -> Int64[Tensor, "T 3"]:
    """Of every anchor that has both: its farthest positive and its nearest negative. A. Hermans et al., 2017, arXiv:1703.07737."""
    positive, negative = same_class(labels)
    d = distance.detach()
    far = d.masked_fill(~positive, -torch.inf).argmax(1)
    near = d.masked_fill(~negative, torch.inf).argmin(1)
    anchor = (positive.any(1) & negative.any(1)).nonzero().flatten()
    return torch.stack([anchor, far[anchor], near[anchor]], 1)


def multi_similarity_pairs(
    similarity: Float[Tensor, "N N"], labels: Int64[Tensor, " N"], epsilon: float = 0.1
) -> tuple[Bool[Tensor, "N N"], Bool[Tensor, "N N"]]:
    """(positive, negative) pairs worth a look: negatives above an anchor's least positive − ε, positives below its largest negative + ε.

    An anchor without positives keeps no negatives, and one without negatives no positives. X. Wang et al., 2019, arXiv:1904.06627.
    """
    positive, negative = same_class(labels)
    s = similarity.detach()
    least = s.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    most = s.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    return positive & (s - epsilon < most), negative & (s + epsilon > least)
