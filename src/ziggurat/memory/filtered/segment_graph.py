"""The segment graph: every edge knows the windows of an ordered attribute in which it exists, so that one graph stands for all of them."""

from __future__ import annotations

import numpy as np

from ziggurat.memory.filtered.filters import Asked, Between, FilteredIndex, Where
from ziggurat.memory.filtered.inner import Found, Queries
from ziggurat.memory.filtered.segments._kernels import build_segments, search_windows


class SegmentGraph(FilteredIndex):
    """SeRF: the points are inserted in the order of an attribute, and a walk in a window uses the edges that exist there.

    A window is a run of positions [a, b). An edge to an earlier point exists for the ends a of an interval: when so many of a point's
    pruned neighbours are out that they lie before a, others take their place, chosen among those met on the way to it. An edge to a
    later point exists for the ends b of an interval: from its insertion on, until pruning drops it. For a = 0 the graph of the first
    b points is the one that their insertion alone had made.

    Arguments:
        field: the ordered attribute.
        degree: neighbours kept to either side; to later points up to twice as many wait for pruning.
        beam: of the searches that find candidates while building, and the candidates looked at in every pruning.
        alpha: α of the pruning.
        leap: quantile of the kept neighbours' positions at which the next take their place; 1 is the paper's MaxLeap.

    C. Zuo, M. Qiao, W. Zhou, F. Li, D. Deng, SeRF: Segment Graph for Range-Filtering Approximate Nearest Neighbor Search, SIGMOD 2024.
    """

    def __init__(self, field: str, degree: int = 32, beam: int = 100, alpha: float = 1.0, leap: float = 0.5) -> None:
        super().__init__()
        if degree < 2 or beam < 1 or alpha < 1 or not 0 <= leap <= 1:
            raise ValueError(
                "degree must be 2 or more, beam 1 or more, alpha at least 1 and leap in [0, 1], "
                f"got {degree}, {beam}, {alpha} and {leap}."
            )
        self.field, self.degree, self.beam, self.alpha, self.leap = field, degree, beam, alpha, leap

    def answers(self, where: Where) -> bool:
        return isinstance(where, Between) and where.field == self.field

    def _make(self) -> None:
        labels = self.attributes.column(self.field).astype(np.float64)
        self.order = labels.argsort(kind="stable")
        self.labels, self.sorted = labels[self.order], np.ascontiguousarray(self.vectors[self.order])
        if np.isnan(self.labels).any():
            raise ValueError(
                f"the attribute {self.field!r} has missing values; a segment graph needs a number of each row."
            )
        degree = min(self.degree, max(len(self) - 1, 2))
        self.begin, self.earlier, self.later, dropped = build_segments(
            self.sorted, degree, self.beam, self.alpha, self.leap
        )
        dropped = dropped[dropped[:, 0].argsort(kind="stable")]
        self.ends = np.searchsorted(dropped[:, 0], np.arange(len(self) + 1))
        self.dropped = np.ascontiguousarray(dropped[:, 1:])

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        low, high = asked.ends()
        first, last = np.searchsorted(self.labels, low, "left"), np.searchsorted(self.labels, high, "right")
        graph = (self.begin, self.earlier, self.later, self.ends, self.dropped)
        rows, away, computed = search_windows(
            self.sorted, *graph, queries, first, last, k, min(max(beam, k), len(self))
        )
        return Found(np.where(rows >= 0, self.order[rows], -1), away, computed)

    @property
    def bytes(self) -> int:
        return sum(a.nbytes for a in (self.begin, self.earlier, self.later, self.ends, self.dropped, self.order))
