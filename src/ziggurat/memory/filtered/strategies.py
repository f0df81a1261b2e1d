"""Search before the filter, after it, and the index of windows, behind one interface."""

from __future__ import annotations

import numpy as np

from ziggurat.memory.filtered.filters import Asked, Between, FilteredIndex, Where
from ziggurat.memory.filtered.inner import Found, Inner, MakeInner, Queries, Vamana
from ziggurat.memory.filtered.window_search import Method, WindowSearchTree


def graph_bytes(inner: object) -> int:
    """Of the edges of an index; 0 for one that has none."""
    return getattr(inner, "neighbours", np.empty(0)).nbytes


class PreFilter(FilteredIndex):
    """Filters first, and scans what is left: exact, and as many distances as the filter selects rows."""

    def _make(self) -> None:
        """There is nothing to build."""

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        return self._scan(queries, k, asked, beam)


class PostFilter(FilteredIndex):
    """Searches all vectors with a beam, drops what the filter does not select, and doubles the beam until k are left.

    Of the nearest k' a filter that selects a share s at random leaves s k', so that about k / s are needed. Where a beam would hold a
    quarter of all rows, the selected rows are scanned instead: they are no more.

    Arguments:
        make: the index of all vectors, such as `Vamana`, `Flat`, or a function that calls one with other settings.
    """

    def __init__(self, make: MakeInner = Vamana) -> None:
        super().__init__()
        self.make = make

    def _make(self) -> None:
        self.inner: Inner = self.make(self.vectors)

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        m = len(queries)
        rows, away = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32)
        computed, left, width = np.zeros(m, np.int64), np.arange(m), max(beam, k)
        while len(left):
            part = asked.of(left)
            if 4 * width >= len(self):
                rows[left], away[left], more = self._scan(queries[left], k, part, beam)
                computed[left] += more
                break
            found = self.inner.search(queries[left], width, width)
            computed[left] += found.computed
            good = part.masks[part.which[:, None], found.rows] & (found.rows >= 0)
            order = np.argsort(~good, axis=1, kind="stable")[:, :k]  # they come sorted by distance
            enough = good.sum(1) >= k
            done = left[enough]
            rows[done] = np.take_along_axis(found.rows, order, 1)[enough]
            away[done] = np.take_along_axis(found.distances, order, 1)[enough]
            left, width = left[~enough], 2 * width
        return Found(rows, away, computed)

    @property
    def bytes(self) -> int:
        return graph_bytes(self.inner)


class WindowFilter(FilteredIndex):
    """A `WindowSearchTree` for the ranges of one ordered attribute; it cannot search under any other filter.

    Arguments:
        field: the attribute.
        make, cutoff: of the tree.
        method: of its search.
    """

    def __init__(
        self,
        field: str,
        make: MakeInner = Vamana,
        cutoff: int = 1000,
        method: Method = "combined",
    ) -> None:
        super().__init__()
        self.field, self.make, self.cutoff, self.method = field, make, cutoff, method

    def answers(self, where: Where) -> bool:
        return isinstance(where, Between) and where.field == self.field

    def _make(self) -> None:
        labels = self.attributes.column(self.field).astype(np.float64)
        self.tree = WindowSearchTree(np.arange(len(self)), self.vectors, labels, self.make, cutoff=self.cutoff)

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        low, high = asked.ends()
        return Found(*self.tree.search(queries, k, low, high, self.method, beam))

    @property
    def bytes(self) -> int:
        return sum(graph_bytes(run.inner) for row in self.tree.rows for run in row if run.inner is not None)
