"""What all indexes that walk a graph do."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from ziggurat.memory.indexes import ExactIndex, Keys, Vectors, in_order

FEW = 10_000  # rows that are scanned in no more time than a graph is walked
SO_FEW = "so few rows are scanned as quickly as a graph is walked"


class ApproximateIndex(ExactIndex):
    """A graph beside the vectors. Where few rows are selected, or the graph brings too few, these are scanned: there are always
    min(k, selected) rows.
    """

    def search(self, queries: np.ndarray, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]:
        asked = self.asked(queries, k)
        rows = None if allowed is None else self._rows(allowed)
        want = min(k, len(self) if rows is None else len(rows))
        if self.plan(k, None if rows is None else len(rows)).strategy == "scan" or not len(asked):
            return self._scan(asked, k, rows)
        near = self._walk(asked, want, rows)
        short = np.flatnonzero((near < 0).any(1))
        keys, away = self._keys[near], self._apart(asked, near)
        if len(short):
            keys[short], away[short] = self._scan(asked[short], k, rows)
        return in_order(keys, away)

    def _walk(self, queries: Vectors, k: int, rows: np.ndarray | None) -> Int64[np.ndarray, "m k"]:
        """The k nearest rows that the graph brings, of all or of some; −1 where there are fewer."""
        raise AssertionError("a graph says how it is walked")
