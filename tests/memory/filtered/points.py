"""Points with attributes of every kind, and the answers of brute force."""

import numpy as np
import pandas as pd

from ziggurat.memory.filtered.acorn import Acorn1Index, AcornIndex
from ziggurat.memory.filtered.filtered_vamana import FilteredVamana
from ziggurat.memory.filtered.filters import Between, Contains, Equals
from ziggurat.memory.filtered.inner import Vamana
from ziggurat.memory.filtered.segment_graph import SegmentGraph
from ziggurat.memory.filtered.strategies import PostFilter, PreFilter, WindowFilter

N, D, K = 600, 8, 5
METHODS = {
    "pre": PreFilter,
    "post": lambda: PostFilter(graph),
    "acorn": lambda: AcornIndex(degree=8, gamma=6, direct=16),
    "acorn1": lambda: Acorn1Index(graph),
    "kind": lambda: FilteredVamana("kind", degree=12, beam=40),
    "tags": lambda: FilteredVamana("tags", degree=16, beam=40),
    "segments": lambda: SegmentGraph("size", degree=10, beam=40),
    "windows": lambda: WindowFilter("size", graph, cutoff=60),
}


def graph(vectors):
    return Vamana(vectors, 12, 40)


def points():
    """Ids that are no row numbers, vectors, and attributes: a word, a number with ties, a set of numbers, and what all share."""
    rng = np.random.default_rng(0)
    kinds = np.array(["ant", "bee", "cat", "dog", "eel"])[rng.choice(5, N, p=(0.5, 0.3, 0.15, 0.045, 0.005))]
    tags = [frozenset((0, *rng.choice(np.arange(1, 30), 3, replace=False).tolist())) for _ in range(N)]
    table = pd.DataFrame({"kind": kinds, "size": rng.integers(200, size=N).astype(float), "tags": tags, "all": 1})
    return rng.permutation(10 * N)[:N].astype(np.int64), rng.normal(size=(N, D)).astype(np.float32), table


def queries(count=40):
    return np.random.default_rng(1).normal(size=(count, D)).astype(np.float32)


def filters(count=40):
    """Of all kinds and selectivities; some select nothing."""
    rng = np.random.default_rng(2)
    low, high = np.sort(rng.uniform(-5, 205, size=(2, count)), axis=0)
    found = [Equals("kind", kind) for kind in rng.choice(["ant", "bee", "cat", "dog", "eel", "fox"], count)]
    found += [Between("size", float(a), float(b)) for a, b in zip(low, high, strict=True)]
    found += [Contains("tags", int(tag)) for tag in rng.integers(31, size=count)]
    return [*found, Between("size", 7.0, 7.0), Between("size", -np.inf, np.inf), Between("size", 7.2, 7.8)]


def selected(where, table):
    """Rows that a filter selects, one by one."""
    if isinstance(where, Equals):
        return np.array([value == where.value for value in table[where.field]])
    if isinstance(where, Between):
        return np.array([where.low <= value <= where.high for value in table[where.field]])
    return np.array([where.value in tags for tags in table[where.field]])


def brute(given, query, where, k=K):
    """Ids and distances of the nearest that a filter selects, in float64."""
    ids, vectors, table = given
    rows = np.flatnonzero(selected(where, table))
    away = ((vectors[rows].astype(np.float64) - query) ** 2).sum(1)
    order = away.argsort(kind="stable")[:k]
    found, far = np.full(k, -1), np.full(k, np.inf)
    found[: len(order)], far[: len(order)] = ids[rows[order]], away[order]
    return found, far


def filled(name):
    index = METHODS[name]()
    index.add(*points())
    return index
