"""Window search: the nearest vectors whose label lies in an interval, by many small indexes over ranges of the sorted labels.

Sorted by label, a window is a run of positions [a, b), m = b − a. The β-tree splits all n positions into β runs again and again, down to a
cutoff, and every run has an index of its own; n (1 + ⌈log_β(n / cutoff)⌉) vectors are indexed. The super index has rows of overlapping
runs instead, each half as long as those of the row before and half a run apart, so that every window lies in a run of about 4 m at most.

    prefilter      scans the window
    postfilter     searches all n and drops what lies outside, with wider and wider beams until k are left
    tree           the largest runs inside the window, then smaller ones to its left and right, and a scan of the ends
    optimized      postfilter in the smallest run that holds the window
    three_split    the largest runs inside the window, and `optimized` for what is left of it on either side
    super          postfilter in the smallest overlapping run that holds the window

J. Engels, B. Landrum, S. Yu, L. Dhulipala, J. Shun, Approximate Nearest Neighbor Search with Window Filters, 2024, arXiv:2402.00943.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from ziggurat.memory.filtered._kernels import scan_windows
from ziggurat.memory.filtered.inner import Found, Inner, MakeInner, Queries, Vamana, Vectors, checked
from ziggurat.memory.filtered.sorted_points import Answers, Positions, SortedPoints

Method = Literal["prefilter", "postfilter", "tree", "optimized", "three_split", "combined", "super"]
BLOCK = 1 << 23  # distances brought by one search behind a filter


class Run(NamedTuple):
    """Positions [first, last) with an index of their own; None where a scan is as fast."""

    first: int
    last: int
    inner: Inner | None


class Asked(NamedTuple):
    """Some of the queries, by number, and the window of positions of each."""

    query: Positions
    first: Positions
    last: Positions

    def of(self, chosen: np.ndarray) -> Asked:
        return Asked(self.query[chosen], self.first[chosen], self.last[chosen])


class WindowHits(NamedTuple):
    """Ids of the nearest (m, k), −1 where the window holds fewer, their squared distances, and the distances computed (m,)."""

    ids: Int64[np.ndarray, "m k"]
    distances: Float32[np.ndarray, "m k"]
    computed: Int64[np.ndarray, " m"]


def cut(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """Consecutive runs of nearly equal length."""
    ends = [first + (last - first) * i // parts for i in range(parts + 1)]
    return list(pairwise(ends))


class WindowIndex:
    """What both families share: the sorted vectors, and searches in single runs.

    Arguments:
        ids, vectors, labels: of the points; ids are whole numbers.
        make: the index of a run, such as `Vamana`, `Flat`, or a function that calls one with other settings.
    """

    def __init__(self, ids: Positions, vectors: Vectors, labels: Float64[np.ndarray, " _"], make: MakeInner) -> None:
        self.points, self.make = SortedPoints(ids, vectors, labels), make

    def __len__(self) -> int:
        return len(self.points)

    def _run(self, first: int, last: int) -> Run:
        return Run(first, last, self.make(self.points.vectors[first:last]))

    @property
    def indexed(self) -> int:
        """How many vectors are held by all the runs together."""
        return sum(run.last - run.first for row in self.rows for run in row)

    rows: list[list[Run]]

    def _scan(self, queries: Queries, asked: Asked, answers: Answers) -> None:
        """Every vector of each window."""
        window = (asked.first, asked.last, answers.rows.shape[1])
        answers.merge(asked.query, *scan_windows(self.points.vectors, queries[asked.query], *window))
        answers.count(asked.query, asked.last - asked.first)

    def _take(self, found: Found, first: int, query: Positions, answers: Answers) -> None:
        rows = np.where(found.rows >= 0, found.rows + first, -1)
        answers.merge(query, rows, found.distances)
        answers.count(query, found.computed)

    def _inside(self, queries: Queries, run: Run, query: Positions, beam: int, answers: Answers) -> None:
        """Searches a run that lies in the window as a whole."""
        assert run.inner is not None
        self._take(run.inner.search(queries[query], answers.rows.shape[1], beam), run.first, query, answers)

    def _postfilter(
        self, queries: Queries, run: Run, asked: Asked, beam: int, final_multiply: int, answers: Answers
    ) -> None:
        """Searches a run and drops what lies outside: beams double until k are left, then one more search is wider by a factor.

        Where a beam would hold a quarter of the run, the window is scanned instead: it has no more points than the run.
        """
        assert run.inner is not None
        k, size = answers.rows.shape[1], run.last - run.first
        left, width = np.arange(len(asked.query)), max(beam, k)
        want = np.minimum(k, asked.last - asked.first)
        while len(left):
            if 4 * width >= size:
                self._scan(queries, asked.of(left), answers)
                return
            if len(left) > 1 and len(left) * width * final_multiply > BLOCK:
                for part in np.array_split(left, 2):  # what a search brings must fit into memory
                    self._postfilter(queries, run, asked.of(part), width, final_multiply, answers)
                return
            kept = self._survivors(queries, run, asked.of(left), width, answers)
            enough = (kept.rows >= 0).sum(1) >= want[left]
            done = asked.of(left[enough])
            if final_multiply > 1 and len(done.query):
                last = self._survivors(queries, run, done, min(width * final_multiply, size), answers)
                answers.merge(done.query, last.rows, last.distances)
            else:
                answers.merge(done.query, kept.rows[enough], kept.distances[enough])
            left, width = left[~enough], 2 * width

    def _postfilter_each(
        self,
        queries: Queries,
        asked: Asked,
        level: Positions,
        number: Positions,
        beam: int,
        final_multiply: int,
        answers: Answers,
    ) -> None:
        """Every window in the run of its row and number."""
        for chosen in _groups(number, level):
            run = self.rows[level[chosen[0]]][number[chosen[0]]]
            self._postfilter(queries, run, asked.of(chosen), beam, final_multiply, answers)

    def _survivors(self, queries: Queries, run: Run, asked: Asked, width: int, answers: Answers) -> Found:
        """The nearest of each window among the `width` that one search of the run brings."""
        assert run.inner is not None
        k = answers.rows.shape[1]
        found = run.inner.search(queries[asked.query], width, width)
        rows = np.where(found.rows >= 0, found.rows + run.first, -1)
        good = (rows >= asked.first[:, None]) & (rows < asked.last[:, None])
        order = np.argsort(~good, axis=1, kind="stable")[:, :k]  # they come sorted by distance
        kept = np.take_along_axis(good, order, 1)
        answers.count(asked.query, found.computed)
        near = np.where(kept, np.take_along_axis(rows, order, 1), -1)
        away = np.where(kept, np.take_along_axis(found.distances, order, 1), np.float32(np.inf))
        if (short := k - near.shape[1]) > 0:
            near = np.pad(near, ((0, 0), (0, short)), constant_values=-1)
            away = np.pad(away, ((0, 0), (0, short)), constant_values=np.inf)
        return Found(near, away, found.computed)

    def _hits(self, answers: Answers) -> WindowHits:
        ids = np.where(answers.rows >= 0, self.points.ids[answers.rows], -1)
        return WindowHits(ids, answers.distances, answers.computed)

    def _asked(
        self, queries: np.ndarray, k: int, low: np.ndarray, high: np.ndarray, beam: int, final_multiply: int
    ) -> tuple[Queries, Asked, Answers]:
        if min(k, beam, final_multiply) < 1:
            raise ValueError(f"k, beam and final_multiply must be 1 or more, got {k}, {beam} and {final_multiply}.")
        queries = checked(queries, self.points.vectors.shape[1])
        first, last = self.points.windows(low, high, len(queries))
        asked = Asked(np.arange(len(queries)), first, last)
        return queries, asked.of(np.flatnonzero(last > first)), Answers(len(queries), k)


def _groups(*keys: Positions) -> Iterator[Positions]:
    """Places with equal keys together."""
    if not len(keys[0]):
        return
    order = np.lexsort(keys)
    same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    yield from np.split(order, np.flatnonzero(~same) + 1)


class WindowSearchTree(WindowIndex):
    """The β-tree: row 0 is one run of all positions; each run has β children, down to the cutoff.

    Arguments:
        ids, vectors, labels: of the points; ids are whole numbers.
        make: the index of a run (default: `Vamana` with R = 64, L = 500, α = 1).
        beta: children of a run.
        cutoff: runs of so many positions are not split.
        ratio: of window to run, below which "combined" takes the tree.
    """

    def __init__(
        self,
        ids: Positions,
        vectors: Vectors,
        labels: Float64[np.ndarray, " _"],
        make: MakeInner = Vamana,
        beta: int = 2,
        cutoff: int = 1000,
        ratio: float = 0.05,
    ) -> None:
        super().__init__(ids, vectors, labels, make)
        if beta < 2 or cutoff < 1 or not 0 <= ratio <= 1:
            raise ValueError(
                f"beta must be 2 or more, cutoff 1 or more and ratio in [0, 1], got {beta}, {cutoff}, {ratio}."
            )
        self.beta, self.cutoff, self.ratio = beta, cutoff, ratio
        n = len(self)
        depth = max(0, math.ceil(math.log(n / cutoff, beta) - 1e-9)) if n > cutoff else 0
        self.rows = [[self._run(*ends) for ends in cut(0, n, beta**level)] for level in range(depth + 1)]

    def search(
        self,
        queries: Float32[np.ndarray, "m d"],
        k: int,
        low: Shaped[np.ndarray, "..."] | float,
        high: Shaped[np.ndarray, "..."] | float,
        method: Method = "combined",
        beam: int = 40,
        final_multiply: int = 1,
    ) -> WindowHits:
        """The nearest vectors with labels in [low, high], one window for all queries or one each.

        Arguments:
            method: see the module; "combined" is "optimized", but "tree" where the window is a small part of the run that holds it.
            beam: of each search; wider is slower and finds more.
            final_multiply: by how much the last search behind a filter is wider.
        """
        queries, asked, answers = self._asked(queries, k, np.asarray(low), np.asarray(high), beam, final_multiply)
        if method == "prefilter":
            self._scan(queries, asked, answers)
        elif method == "postfilter":
            self._postfilter(queries, self.rows[0][0], asked, beam, final_multiply, answers)
        elif method == "tree":
            self._tree(queries, asked, beam, answers, smaller=True)
        elif method == "optimized":
            self._optimized(queries, asked, beam, final_multiply, answers, 0.0)
        elif method == "three_split":
            left = self._tree(queries, asked, beam, answers, smaller=False)
            self._optimized(queries, left, beam, final_multiply, answers, 0.0)
        elif method == "combined":
            self._optimized(queries, asked, beam, final_multiply, answers, self.ratio)
        else:
            known = "prefilter, postfilter, tree, optimized, three_split or combined"
            raise ValueError(f"method must be {known}, got {method!r}.")
        return self._hits(answers)

    def _number(self, row: list[Run], position: Positions) -> Positions:
        """The run of a row that holds each position."""
        return np.searchsorted([run.first for run in row], position, "right") - 1

    def _tree(self, queries: Queries, asked: Asked, beam: int, answers: Answers, smaller: bool) -> Asked:
        """Searches the largest runs inside each window; `smaller` goes on with smaller ones and a scan, else what is left is given back."""
        rest, waiting = [], asked
        for row in self.rows:
            starts = np.array([run.first for run in row])
            ends = np.array([run.last for run in row])
            low = np.searchsorted(starts, waiting.first, "left")  # the first run that begins inside
            high = np.searchsorted(ends, waiting.last, "right")  # behind the last that ends inside
            some = high > low
            for number in range(int(low.min(initial=len(row))), int(high.max(initial=0))):
                inside = some & (low <= number) & (number < high)
                if inside.any():
                    self._inside(queries, row[number], waiting.query[inside], beam, answers)
            found = waiting.of(some)
            left = Asked(found.query, found.first, starts[low[some]])
            right = Asked(found.query, ends[high[some] - 1], found.last)
            sides = Asked(*(np.concatenate(pair) for pair in zip(left, right, strict=True)))
            sides = sides.of(sides.last > sides.first)
            none = waiting.of(~some)
            if smaller:
                waiting = Asked(*(np.concatenate(pair) for pair in zip(none, sides, strict=True)))
            else:
                rest.append(sides)
                waiting = none
        if smaller:
            self._scan(queries, waiting, answers)
            return waiting.of(np.zeros(len(waiting.query), bool))
        return Asked(*(np.concatenate(parts) for parts in zip(waiting, *rest, strict=True)))

    def _optimized(
        self, queries: Queries, asked: Asked, beam: int, final_multiply: int, answers: Answers, ratio: float
    ) -> None:
        """Postfilter in the smallest run that holds the window; windows below a quarter of the cutoff, or the ratio, go to the tree."""
        level, number = np.zeros((2, len(asked.query)), np.int64)  # of the smallest run
        for i, row in enumerate(self.rows):
            one, two = self._number(row, asked.first), self._number(row, asked.last - 1)
            level, number = np.where(one == two, i, level), np.where(one == two, one, number)
        size = asked.last - asked.first
        small = (4 * size < self.cutoff) | (size < ratio * len(self) / self.beta**level)
        self._tree(queries, asked.of(small), beam, answers, smaller=True)
        self._postfilter_each(queries, asked.of(~small), level[~small], number[~small], beam, final_multiply, answers)


class SuperPostfilterIndex(WindowIndex):
    """Rows of overlapping runs, each shorter than those of the row before by a factor and a share of a run apart.

    Arguments:
        ids, vectors, labels: of the points; ids are whole numbers.
        make: the index of a run.
        cutoff: runs of so many positions are the last row.
        split: factor between the lengths of two rows' runs.
        shift: how far the runs of a row begin from each other, in runs.
    """

    def __init__(
        self,
        ids: Positions,
        vectors: Vectors,
        labels: Float64[np.ndarray, " _"],
        make: MakeInner = Vamana,
        cutoff: int = 1000,
        split: float = 2.0,
        shift: float = 0.5,
    ) -> None:
        super().__init__(ids, vectors, labels, make)
        if cutoff < 1 or not split > 1 or not 0 < shift <= 1:
            raise ValueError(
                f"cutoff must be 1 or more, split above 1 and shift in (0, 1], got {cutoff}, {split}, {shift}."
            )
        self.cutoff, self.split, self.shift = cutoff, split, shift
        self.rows, n, size = [], len(self), len(self)
        while True:
            step = max(1, math.ceil(size * shift))
            starts = range(0, max(n - size, 0) + step, step)
            ends = [(min(start, n - size), min(start, n - size) + size) for start in starts]
            self.rows.append([self._run(*pair) for pair in dict.fromkeys(ends)])
            if size <= cutoff:
                break
            size = math.ceil(size / split)

    def search(
        self,
        queries: Float32[np.ndarray, "m d"],
        k: int,
        low: Shaped[np.ndarray, "..."] | float,
        high: Shaped[np.ndarray, "..."] | float,
        beam: int = 40,
        final_multiply: int = 1,
    ) -> WindowHits:
        """As that of the tree, in the smallest run that holds each window."""
        queries, asked, answers = self._asked(queries, k, np.asarray(low), np.asarray(high), beam, final_multiply)
        level, number = np.zeros((2, len(asked.query)), np.int64)  # of the smallest run that holds the window
        for i, row in enumerate(self.rows):
            latest = (
                np.searchsorted([run.first for run in row], asked.first, "right") - 1
            )  # of those that begin in time
            holds = np.array([run.last for run in row])[latest] >= asked.last
            level, number = np.where(holds, i, level), np.where(holds, latest, number)
        self._postfilter_each(queries, asked, level, number, beam, final_multiply, answers)
        return self._hits(answers)
