"""How good an order of the nearest samples is: recall, precision and mean average precision, by the classes of what was found.

All take the k nearest labels of every query in order, as `nearest_labels` gives them, which never holds more than a block of distances.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def nearest_labels(
    queries: Float[Tensor, "Q D"],
    gallery: Float[Tensor, "G D"],
    labels: Int64[Tensor, " G"],
    k: int,
    itself: bool = False,
    block: int = 1024,
) -> Int64[Tensor, "Q k"]:
    """Labels of the k nearest gallery samples by the cosine, the nearest first; equally near ones in the order of the gallery.

    Arguments:
        itself: query i is gallery sample i and is left out.
        block: queries at once.
    """
    most = len(gallery) - int(itself)
    if not 1 <= k <= most:
        raise ValueError(f"k must be between 1 and the {most} samples that can be found, got {k}.")
    if itself and len(queries) != len(gallery):
        raise ValueError(
            f"with itself there must be as many queries as gallery samples, got {len(queries)} and {len(gallery)}."
        )
    unit, found = normalize(gallery, dim=1), []
    for start in range(0, len(queries), block):
        scores = normalize(queries[start : start + block], dim=1) @ unit.T
        if itself:
            rows = torch.arange(len(scores), device=scores.device)
            scores[rows, start + rows] = -torch.inf
        found.append(labels[scores.sort(dim=1, descending=True, stable=True).indices[:, :k]])
    return torch.cat(found)


def hits(found: Int64[Tensor, "Q k"], labels: Int64[Tensor, " Q"]) -> Bool[Tensor, "Q k"]:
    """Which of the found samples are of the query's class."""
    return found == labels[:, None]


def recall_at(found: Int64[Tensor, "Q k"], labels: Int64[Tensor, " Q"], k: int) -> float:
    """Share of queries with one sample of their class among the first k."""
    _check(found, k)
    return float(hits(found, labels)[:, :k].any(1).double().mean())


def precision_at(found: Int64[Tensor, "Q k"], labels: Int64[Tensor, " Q"], k: int) -> float:
    """Share of the first k that are of the query's class."""
    _check(found, k)
    return float(hits(found, labels)[:, :k].double().mean())


def map_at_r(found: Int64[Tensor, "Q k"], labels: Int64[Tensor, " Q"], relevant: Int64[Tensor, " Q"]) -> float:
    """Mean over queries of 1/R Σ_{i ≤ R} precision at i where the i-th is right; R is how many there are of the query's class.

    Arguments:
        found: at least max(R) columns.
        relevant: R of each query, the query itself not counted; queries with R = 0 are left out.

    K. Musgrave, S. Belongie, S. Lim, A Metric Learning Reality Check, 2020, arXiv:2003.08505.
    """
    if int(relevant.max()) > found.shape[1]:
        raise ValueError(
            f"some query has {int(relevant.max())} samples of its class, and only {found.shape[1]} were looked for."
        )
    return _average_precision(found, labels, relevant, relevant)


def mean_average_precision(
    found: Int64[Tensor, "Q k"], labels: Int64[Tensor, " Q"], relevant: Int64[Tensor, " Q"]
) -> float:
    """Mean over queries of the average precision: of all k found, divided by min(R, k)."""
    depth = torch.full_like(relevant, found.shape[1])
    return _average_precision(found, labels, relevant, depth)


def mean_reciprocal_rank(found: Int64[Tensor, "Q k"], labels: Int64[Tensor, " Q"]) -> float:
    """Mean of 1 / rank of the first sample of the query's class; 0 where none was found."""
    right = hits(found, labels)
    first = right.double().argmax(1)
    return float((right.any(1) / (1.0 + first)).double().mean())


def _average_precision(found: Tensor, labels: Tensor, relevant: Tensor, depth: Tensor) -> float:
    place = torch.arange(1, found.shape[1] + 1, device=found.device)
    right = hits(found, labels) & (place <= depth[:, None])
    precision = right.cumsum(1).double() / place
    total = (precision * right).sum(1) / torch.minimum(relevant, depth).clamp_min(1)
    return float(total[relevant > 0].mean())


def _check(found: Tensor, k: int) -> None:
    if not 1 <= k <= found.shape[1]:
        raise ValueError(f"k must be between 1 and the {found.shape[1]} samples that were looked for, got {k}.")
