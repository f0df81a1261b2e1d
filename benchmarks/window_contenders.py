"""Searches in windows of a label, as the benchmark of window search asks for them: ours, and those of other libraries.

Each contender is built from vectors and labels, and then gives, for queries and the ends of their windows, its settings from narrow to
wide. All of them are built with all processors and search with one thread, but for LanceDB, which has threads of its own.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np

from ziggurat.memory.filtered.inner import Found, Queries, Vamana, Vectors
from ziggurat.memory.filtered.window_search import SuperPostfilterIndex, WindowSearchTree

K, BEAMS = 10, (10, 20, 40, 80, 160, 320, 640, 1280, 2560)
OURS = ("scan", "postfilter", "tree", "optimized", "three_split", "super")
Search = Callable[[], tuple[np.ndarray, float]]
"""One run over all queries: distances (m, K), and how many were computed for a query, not a number where that is not told."""
Settings = Callable[[np.ndarray, np.ndarray, np.ndarray], Iterator[Search]]
"""From queries (m, d) and the lower and upper ends of their windows (m,) to one search for each setting."""


class Graph:
    """Vamana, built meanwhile by a thread of a pool."""

    def __init__(self, pool: Executor, vectors: Vectors) -> None:
        self.size, self.built = len(vectors), pool.submit(Vamana, vectors, 32, 100)

    def __len__(self) -> int:
        return self.size

    def search(self, queries: Queries, k: int, beam: int) -> Found:
        return self.built.result().search(queries, k, beam)


def ours(vectors: np.ndarray, labels: np.ndarray, pool: Executor) -> dict[str, Settings]:
    """Every way to ask of both families."""
    points = (np.arange(len(vectors)), vectors, labels, partial(Graph, pool))
    tree, overlapping = WindowSearchTree(*points), SuperPostfilterIndex(*points)
    for family in (tree, overlapping):
        for row in family.rows:
            for run in row:
                run.inner.built.result()  # type: ignore[union-attr]

    def told(search: Callable[..., Any], *given: Any, **beam: int) -> tuple[np.ndarray, float]:
        hits = search(*given, **beam)
        return hits.distances, float(hits.computed.mean())

    def swept(search: Callable[..., Any], q: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[Search]:
        return (partial(told, search, q, K, low, high, beam=beam) for beam in BEAMS)

    ways = {name: partial(swept, partial(tree.search, method=name)) for name in OURS[1:-1]}
    return (
        {"scan": lambda q, low, high: iter([partial(told, tree.search, q, K, low, high, "prefilter")])}
        | ways
        | {"super": partial(swept, overlapping.search)}
    )


def exact_slice(vectors: np.ndarray, labels: np.ndarray) -> Settings:
    """Exact pre-filter in numpy: rows sorted by label, and a product with the slice of the window."""
    order = labels.argsort()
    rows, ordered = vectors[order], labels[order]
    squares = np.einsum("nd,nd->n", rows, rows)

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, float]:
        first, last = np.searchsorted(ordered, low), np.searchsorted(ordered, high, "right")
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            away = squares[a:b] - 2 * rows[a:b] @ q[i]
            if len(away) > K:
                away = np.partition(away, K - 1)[:K]
            found[i, : len(away)] = np.sort(away) + q[i] @ q[i]
        return found, float((last - first).mean())

    return lambda q, low, high: iter([partial(search, q, low, high)])


def faiss_hnsw(vectors: np.ndarray, labels: np.ndarray) -> Settings:
    """HNSW over rows sorted by label, with a range of rows as the filter of each query."""
    import faiss

    order = labels.argsort()
    index, ordered = faiss.IndexHNSWFlat(vectors.shape[1], 16), labels[order]
    index.hnsw.efConstruction = 100
    faiss.omp_set_num_threads(os.cpu_count())
    index.add(vectors[order])
    faiss.omp_set_num_threads(1)

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
        faiss.cvar.hnsw_stats.reset()
        first, last = np.searchsorted(ordered, low), np.searchsorted(ordered, high, "right")
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            given = faiss.SearchParametersHNSW(efSearch=max(beam, K), sel=faiss.IDSelectorRange(a, b))
            away, rows = index.search(q[i : i + 1], K, params=given)
            found[i] = np.where(rows[0] >= 0, away[0], np.inf)
        return found, faiss.cvar.hnsw_stats.ndis / len(q)

    return lambda q, low, high: (partial(search, q, low, high, beam) for beam in BEAMS)


def hnswlib_filter(vectors: np.ndarray, labels: np.ndarray) -> Settings:
    """HNSW with a Python function that says which keys may stay."""
    import hnswlib

    index = hnswlib.Index("l2", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100, random_seed=0)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=os.cpu_count())
    index.set_num_threads(1)

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
        index.set_ef(max(beam, K))
        found = np.full((len(q), K), np.inf, np.float32)
        for i in range(len(q)):
            try:
                found[i] = index.knn_query(q[i], K, filter=lambda key, i=i: low[i] <= labels[key] <= high[i])[1][0]
            except RuntimeError:  # fewer than K were found
                continue
        return found, float("nan")

    return lambda q, low, high: (partial(search, q, low, high, beam) for beam in BEAMS)


def lancedb_where(vectors: np.ndarray, labels: np.ndarray, folder: str) -> Settings:
    """HNSW inside one cell, rows that the condition selects looked up first: LanceDB's default."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import BTree, HnswSq

    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = lancedb.connect(folder).create_table("points", pa.table({"vector": values, "label": labels}))
    table.create_index("vector", config=HnswSq(distance_type="l2", num_partitions=1, m=16, ef_construction=100))
    table.create_index("label", config=BTree())

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            query = table.search(q[i]).where(f"label >= {a!r} AND label <= {b!r}").ef(max(beam, 2 * K)).refine_factor(2)
            away = query.limit(K).select(["_distance"]).to_arrow()["_distance"].to_numpy()
            found[i, : len(away)] = away
        return found, float("nan")

    return lambda q, low, high: (partial(search, q, low, high, beam) for beam in BEAMS)


def theirs(vectors: np.ndarray, labels: np.ndarray, folder: str) -> dict[str, Settings]:
    """The exact pre-filter, and those of the libraries that are installed."""
    libraries: dict[str, tuple[str, Callable[[], Settings]]] = {
        "lancedb": ("LanceDB", lambda: lancedb_where(vectors, labels, folder)),
        "faiss": ("HNSW (faiss)", lambda: faiss_hnsw(vectors, labels)),
        "hnswlib": ("HNSW (hnswlib)", lambda: hnswlib_filter(vectors, labels)),
    }
    found = {name: build() for package, (name, build) in libraries.items() if importlib.util.find_spec(package)}
    return {"exact (numpy)": exact_slice(vectors, labels)} | found


def shared_out(settings: Settings, pool: Executor, threads: int) -> Settings:
    """The same settings with the queries shared out among threads."""

    def joined(searches: tuple[Search, ...]) -> tuple[np.ndarray, float]:
        found = list(pool.map(lambda search: search(), searches))
        return np.concatenate([distances for distances, _ in found]), float("nan")

    def asked(q: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[Search]:
        parts = zip(*(np.array_split(given, threads) for given in (q, low, high)), strict=True)
        return (partial(joined, searches) for searches in zip(*(settings(*part) for part in parts), strict=True))

    return asked
