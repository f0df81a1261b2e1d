"""Points in the order of their labels, and the answers of several searches merged into one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ziggurat.memory.filtered.inner import Vectors, checked

Positions = Int64[np.ndarray, " _"]


class SortedPoints:
    """Vectors sorted by label, and the answers of a batch of queries while they are collected."""

    def __init__(self, ids: Positions, vectors: Vectors, labels: Float64[np.ndarray, " _"]) -> None:
        vectors, labels = checked(vectors), np.asarray(labels, np.float64)
        if not len(vectors) or len(labels) != len(vectors) or len(ids) != len(vectors):
            raise ValueError(
                f"ids, vectors and labels must be equally many and at least one, got {len(ids)}, {len(vectors)}, {len(labels)}."
            )
        if not np.isfinite(labels).all():
            raise ValueError("labels must be finite numbers.")
        if len(np.unique(ids)) < len(ids):
            raise ValueError("an id occurs twice; every vector needs its own.")
        order = labels.argsort(kind="stable")
        self.ids, self.vectors, self.labels = np.asarray(ids, np.int64)[order], vectors[order], labels[order]

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self, low: np.ndarray, high: np.ndarray, m: int) -> tuple[Positions, Positions]:
        """Positions of labels in [low, high], all equal ones at both ends among them."""
        low, high = (np.broadcast_to(np.asarray(end, np.float64), (m,)) for end in (low, high))
        if not (low <= high).all():
            raise ValueError("every window needs low <= high; they may be infinite, but not NaN.")
        return np.searchsorted(self.labels, low, "left"), np.searchsorted(self.labels, high, "right")


class Answers:
    """The best k of every query, merged from several searches."""

    def __init__(self, m: int, k: int) -> None:
        self.rows = np.full((m, k), -1, np.int64)
        self.distances = np.full((m, k), np.inf, np.float32)
        self.computed = np.zeros(m, np.int64)

    def merge(self, query: Positions, rows: Int64[np.ndarray, "q j"], distances: Float32[np.ndarray, "q j"]) -> None:
        """Takes in more candidates (−1 at ∞ for none); a query may come twice. Of equal distances the lower position comes first."""
        k = self.rows.shape[1]
        while len(query):
            once = np.unique(query, return_index=True)[1]
            near = np.concatenate([self.rows[query[once]], rows[once]], 1)
            away = np.concatenate([self.distances[query[once]], distances[once]], 1)
            order = np.lexsort((near, away))[:, :k]
            self.rows[query[once]] = np.take_along_axis(near, order, 1)
            self.distances[query[once]] = np.take_along_axis(away, order, 1)
            again = np.setdiff1d(np.arange(len(query)), once)
            query, rows, distances = query[again], rows[again], distances[again]

    def count(self, query: Positions, computed: Positions) -> None:
        """Adds to the distances computed for each query."""
        np.add.at(self.computed, query, computed)
