"""Indexes of a fixed set of vectors, by squared Euclidean distance: what the families of indexes under filters are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from ziggurat.data.seeds import derive
from ziggurat.memory.filtered._kernels import build, search_graph
from ziggurat.memory.indexes import nearest

Vectors = Float32[np.ndarray, "n d"]
Queries = Float32[np.ndarray, "m d"]


class Found(NamedTuple):
    """Rows of the nearest vectors (m, k), −1 where there are no more, their squared distances, and the distances computed (m,)."""

    rows: Int64[np.ndarray, "m k"]
    distances: Float32[np.ndarray, "m k"]
    computed: Int64[np.ndarray, " m"]


class Inner(Protocol):
    """What a family asks of each of its members."""

    def __len__(self) -> int: ...

    def search(self, queries: Queries, k: int, beam: int) -> Found: ...


MakeInner = Callable[[Vectors], Inner]


def checked(vectors: np.ndarray, dimension: int | None = None) -> Float32[np.ndarray, "n d"]:
    """Finite float32 rows; a `ValueError` says what else came."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or (dimension is not None and vectors.shape[1] != dimension):
        raise ValueError(f"vectors must have the shape (n, {dimension or 'd'}), got {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors hold numbers that are not finite; drop those rows first.")
    return vectors


class Flat:
    """Every distance. Of equal distances the first rows are taken, and come first."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = checked(vectors)
        self.squares = np.einsum("nd,nd->n", self.vectors, self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Queries, k: int, beam: int = 0) -> Found:
        """The k nearest of each query by one matrix product; `beam` changes nothing."""
        m, n, have = len(queries), len(self), min(k, len(self))
        rows, away = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32)
        if have:
            products = queries @ self.vectors.T
            apart = np.maximum(self.squares - 2 * products + np.einsum("md,md->m", queries, queries)[:, None], 0)
            rows[:, :have], away[:, :have] = nearest(apart, np.arange(n), have)
        return Found(rows, away, np.full(m, n, np.int64))


class Vamana:
    """A navigable graph: every node keeps the neighbours that no other kept one is closer to; a beam search walks it from one start.

    robust prune of node p: of its candidates, nearest first, keep c unless a kept c' has α ‖c' − c‖ ≤ ‖p − c‖; at most R.

    Arguments:
        vectors: (n, d).
        degree: R.
        beam: L, of the searches that find candidates while building.
        alpha: α; above 1 longer edges stay.
        random_state: of the order in which nodes are inserted.

    S. Subramanya et al., DiskANN: Fast Accurate Billion-point Nearest Neighbor Search on a Single Node, 2019.
    """

    def __init__(
        self, vectors: Vectors, degree: int = 64, beam: int = 500, alpha: float = 1.0, random_state: int = 0
    ) -> None:
        if degree < 2 or beam < 1 or alpha < 1:
            raise ValueError(
                f"degree must be 2 or more, beam 1 or more and alpha at least 1, got {degree}, {beam}, {alpha}."
            )
        self.vectors = checked(vectors)
        n = len(self.vectors)
        if not n:
            raise ValueError("a graph needs at least one vector.")
        self.start = int(np.square(self.vectors - self.vectors.mean(0)).sum(1).argmin())
        order = np.random.default_rng(derive(random_state, "vamana")).permutation(n)
        self.neighbours = build(self.vectors, order, min(degree, max(n - 1, 2)), min(beam, n), alpha, self.start)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Queries, k: int, beam: int) -> Found:
        """The k nearest nodes that a beam search ends with; a beam below k is k."""
        width = min(max(beam, k), len(self))
        return Found(*search_graph(self.vectors, self.neighbours, self.start, checked(queries), k, width))
