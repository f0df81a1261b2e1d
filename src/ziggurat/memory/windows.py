"""Graphs over the ranges of one field of numbers, for filters that ask for a range of it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64

from ziggurat.data.progress import measured
from ziggurat.memory.fields import EXACT
from ziggurat.memory.filtered.inner import Vamana, Vectors
from ziggurat.memory.filtered.window_search import WindowSearchTree
from ziggurat.memory.indexes import ExactIndex, in_order
from ziggurat.memory.stores import places
from ziggurat.memory.where import Comparison, Every, Filter

Interval = tuple[float, float]
EVERYTHING: Interval = (-math.inf, math.inf)
DEGREE, BEAM, ALPHA = 32, 100, 1.2
CUTOFF = 2_000  # runs of so many rows are scanned


def interval(where: Filter, field: str) -> Interval | None:
    """The closed interval of a field that a filter asks for, if it asks for nothing else."""
    if isinstance(where, Every):
        parts = [interval(part, field) for part in where.parts]
        if any(part is None for part in parts):
            return None
        lows, highs = zip(*(part for part in parts if part is not None), strict=True)
        return max(lows), min(highs)
    if not isinstance(where, Comparison) or where.field != field or isinstance(where.value, str | bool):
        return None
    if isinstance(where.value, int) and abs(where.value) > EXACT:
        return None
    value = float(where.value)
    return {
        "=": (value, value),
        "<=": (-math.inf, value),
        "<": (-math.inf, math.nextafter(value, -math.inf)),
        ">=": (value, math.inf),
        ">": (math.nextafter(value, math.inf), math.inf),
    }.get(where.sign)


class Windows:
    """A `WindowSearchTree` over the rows that have a number in a field; rows that came since are scanned, those that went are left out.

    Asked by "tree", which never computes many more distances than a scan: where a field follows the vectors, as years and prices may, the
    methods that search behind a filter can take several times as long as one.

    Arguments:
        field: its name.
        keys, vectors, labels: of the rows; vectors as the index has them.
    """

    def __init__(
        self, field: str, keys: Int64[np.ndarray, " n"], vectors: Vectors, labels: Float64[np.ndarray, " n"]
    ) -> None:
        self.field = field
        depth = max(0, math.ceil(math.log2(len(keys) / CUTOFF)))
        with measured(len(keys) * (depth + 1), f"graphs over {field}") as advance:

            def make(part: Vectors) -> Vamana:
                graph = Vamana(part, DEGREE, BEAM, ALPHA)
                advance(len(part))
                return graph

            self.tree = WindowSearchTree(keys, vectors, labels, make, cutoff=CUTOFF)
        self._keys = np.sort(keys)
        self._last: tuple[np.ndarray, Interval, tuple[int, np.ndarray]] | None = None

    def changed(self, within: Interval, selected: Int64[np.ndarray, " s"]) -> tuple[int, Int64[np.ndarray, " c"]]:
        """How many rows of an interval are there no more, and which of the selected ones came since."""
        if self._last is None or self._last[0] is not selected or self._last[1] != within:
            first, last = self.tree.points.windows(np.array(within[0]), np.array(within[1]), 1)
            came = selected[places(self._keys, selected, np.arange(len(self._keys))) < 0]
            gone = int(last[0] - first[0]) - (len(selected) - len(came))
            self._last = selected, within, (gone, came)
        return self._last[2]

    def search(
        self, index: ExactIndex, queries: Vectors, k: int, within: Interval, selected: Int64[np.ndarray, " s"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keys (m, k') and ascending distances, k' = min(k, selected).

        Arguments:
            index: that has all rows; it scans those that came since.
            selected: the keys of the interval that are there now, ascending.
        """
        gone, came = self.changed(within, selected)
        want, wide = min(k, len(selected)), k + gone
        found = self.tree.search(index.asked(queries, k), wide, *within, method="tree", beam=max(BEAM, wide)).ids
        found[places(selected, found.ravel(), np.arange(len(selected))).reshape(found.shape) < 0] = -1
        new = index.search(queries, k, came)[0] if len(came) else found[:, :0]
        keys, away = index.ranked(queries, np.concatenate([found, new], axis=1))
        keys, away = keys[:, :want], away[:, :want]
        if len(short := np.flatnonzero((keys < 0).any(1))):
            keys[short], away[short] = index.scan(queries[short], k, selected)
        return in_order(keys, away)
