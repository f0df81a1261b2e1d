"""A benchmark of search under filters: recall, queries a second and distances of every method, apart by filter and selectivity."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32

from ziggurat.memory.filtered.filters import Between, Contains, Equals, FilteredIndex, Where
from ziggurat.memory.filtered.inner import Vectors, checked
from ziggurat.memory.filtered.strategies import PreFilter
from ziggurat.memory.filtered.window_search import WindowHits
from ziggurat.metrics.neighbours import neighbour_recall

BEAMS = (10, 20, 40, 80, 160, 320, 640)
SECONDS = 0.01  # a search is timed again until it took so long
CELL = ["filter", "bin"]
KINDS = {Equals: "EM", Between: "R", Contains: "EMIS", str: "text"}


class FilteredANNBenchmark:
    """Queries under filters, and what the methods make of them.

    A filter is an exact match (EM), a range (R), an exact match in a set (EMIS) or a text. It selects a share of the rows, and what is
    good for one share is bad for another, so that an average over all would hide where a method fails: queries are kept apart by the
    kind of their filter and by the bin of its selectivity, round(−log2(share)).

    Arguments:
        vectors: (n, d).
        attributes: a row each.
        queries: a vector (d,) and its filter each; every filter selects at least one row.

    P. Iff, P. Brügger, M. Chrapek, M. Besta, T. Hoefler, Benchmarking Filtered Approximate Nearest Neighbor Search Algorithms on
    Transformer-based Embedding Vectors, 2025, arXiv:2507.21989.
    """

    def __init__(
        self, vectors: Vectors, attributes: pd.DataFrame, queries: Sequence[tuple[Float32[np.ndarray, " d"], Where]]
    ) -> None:
        if not queries:
            raise ValueError("a benchmark needs at least one query.")
        self.exact = PreFilter()
        self.exact.add(np.arange(len(vectors)), vectors, attributes)
        self.queries = checked(np.stack([vector for vector, _ in queries]), vectors.shape[1])
        self.filters = [where for _, where in queries]
        counts = {one: int(self.exact.attributes.mask(one).sum()) for one in set(self.filters)}
        for one, count in counts.items():
            if count == 0:
                raise ValueError(f"the filter {one!r} selects no row; leave its queries out.")
        share = np.array([counts[one] for one in self.filters]) / len(vectors)
        kinds = [KINDS[type(one)] for one in self.filters]
        self.cells = pd.DataFrame({"filter": kinds, "bin": np.rint(-np.log2(share)).astype(int), "selectivity": share})

    def run(
        self, methods: Mapping[str, FilteredIndex], k: int = 10, beams: Sequence[int] = BEAMS, enough: float = 1.0
    ) -> pd.DataFrame:
        """Every method with every beam in every cell that it can search.

        Arguments:
            methods: by name; empty ones are filled and built, those that hold these rows are taken as they are.
            beams: ascending; a wider one costs more and finds more.
            enough: recall at which a method's wider beams are left out in a cell.

        Returns a table with the columns method, beam, filter, bin, selectivity (mean share), queries, recall (at k), qps (queries a
        second of this thread's CPU time, evaluation of the filters included), ndis (mean distances computed), build_s and bytes.
        """
        for name, method in methods.items():
            if not len(method):
                method.add(self.exact.ids, self.exact.vectors, self.exact.attributes.table)
            if len(method) != len(self.exact):
                raise ValueError(f"the method {name!r} holds {len(method)} rows instead of {len(self.exact)}.")
            method.build()
        rows = []
        for (kind, number), cell in self.cells.groupby(CELL):
            at = cell.index.to_numpy()
            queries, filters = self.queries[at], [self.filters[i] for i in at]
            truth = self.exact.search(queries, k, filters).distances
            for name, method in methods.items():
                if not all(method.answers(one) for one in set(filters)):
                    continue
                for beam in beams:
                    hits, seconds = _timed(partial(method.search, queries, k, filters, beam))
                    recall = neighbour_recall(hits.distances, truth)
                    cost = {"recall": recall, "qps": len(at) / seconds, "ndis": float(hits.computed.mean())}
                    about = {"selectivity": cell["selectivity"].mean(), "queries": len(at)}
                    built = {"build_s": method.build_seconds, "bytes": method.bytes}
                    rows.append({"method": name, "beam": beam, "filter": kind, "bin": number} | about | cost | built)
                    if recall >= enough:
                        break
        return pd.DataFrame(rows)


def _timed(search: Callable[[], WindowHits]) -> tuple[WindowHits, float]:
    """What a search finds, and its seconds of CPU, the least of several where it is quick: other programs cost it none."""
    least = spent = 0.0
    while spent < SECONDS:
        start = time.thread_time()
        hits = search()
        took = time.thread_time() - start
        least, spent = min(took, least or took), spent + took
    return hits, least


def pareto(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of `run`: in every cell the rows than which no other has at least their recall at a higher rate."""
    ordered = table.sort_values([*CELL, "recall", "qps"], ascending=[True, True, False, False])
    faster = ordered["qps"] > ordered.groupby(CELL)["qps"].transform(lambda qps: qps.cummax().shift(fill_value=-np.inf))
    return ordered[faster]


def qps_at(table: pd.DataFrame, recall: float) -> pd.DataFrame:
    """The highest rate of every method with at least this recall: a row a cell, a column a method; missing where none has it."""
    return _best(table, recall, "qps", "max")


def ndis_at(table: pd.DataFrame, recall: float) -> pd.DataFrame:
    """The fewest distances of every method with at least this recall, as `qps_at`."""
    return _best(table, recall, "ndis", "min")


def _best(table: pd.DataFrame, recall: float, column: str, best: Literal["min", "max"]) -> pd.DataFrame:
    good = table[table["recall"] >= recall]
    found = good.pivot_table(index=CELL, columns="method", values=column, aggfunc=best)
    cells = table.set_index(CELL).index.unique().sort_values()
    return found.reindex(index=cells, columns=table["method"].unique())
