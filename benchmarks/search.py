"""Exact and graph search of the memory's indexes; faiss and hnswlib beside them where they are installed.

The exact index is also asked for the neighbours of 1, 100 and 1,000 queries among 100,000 vectors of 128 dimensions beside faiss's flat
index, one thread each: first both must give the same distances.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.timing import show
from ziggurat.memory import ExactIndex, HNSWIndex

K, QUERIES = 10, (1, 100, 1000)


def unit_vectors(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Random directions."""
    x = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def both_indexes() -> None:
    """20,000 unit vectors of 64 dimensions, 100 queries, 10 neighbours, inner product."""
    x, q = unit_vectors(20_000, 64, 0), unit_vectors(100, 64, 1)
    exact, graph = ExactIndex(64, "ip"), HNSWIndex(64, "ip")
    for index in (exact, graph):
        index.add(np.arange(len(x)), x)
    truth = exact.search(q, K)[0]
    found = graph.search(q, K)[0]
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(truth, found, strict=True)])
    print(f"recall@{K} of the graph: {recall:.3f}")
    functions: dict[str, Callable[[], object]] = {
        "ziggurat exact": lambda: exact.search(q, K),
        "ziggurat hnsw": lambda: graph.search(q, K),
    }
    if importlib.util.find_spec("hnswlib"):
        import hnswlib

        other = hnswlib.Index("ip", 64)
        other.init_index(len(x), M=16, ef_construction=128)
        other.add_items(x)
        other.set_ef(200)
        functions["hnswlib"] = lambda: other.knn_query(q, K)
    if importlib.util.find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatIP(64)
        flat.add(x)
        functions["faiss flat"] = lambda: flat.search(q, K)
    show("search of 100 queries", functions)


def exact_against_flat(points: int = 100_000, dimensions: int = 128) -> None:
    """Inner product and squared Euclidean distance, one thread."""
    if not importlib.util.find_spec("faiss"):
        print("search: faiss absent, so the exact index of 100,000 vectors has nothing to be compared with.")
        return
    import faiss

    faiss.omp_set_num_threads(1)
    x = unit_vectors(points, dimensions, 0)
    for metric, kind in (("ip", faiss.IndexFlatIP), ("l2", faiss.IndexFlatL2)):
        exact, flat = ExactIndex(dimensions, metric), kind(dimensions)
        exact.add(np.arange(points), x)
        flat.add(x)
        for count in QUERIES:
            q = unit_vectors(count, dimensions, 1)
            own, other = exact.search(q, K)[1], flat.search(q, K)[0]
            if not np.allclose(own, 1 - other if metric == "ip" else other, atol=1e-5):
                raise AssertionError(f"{metric}, {count} queries: the distances are not those of faiss.")
            sides: dict[str, Callable[[], object]]
            sides = {"ziggurat exact": partial(exact.search, q, K), "faiss flat": partial(flat.search, q, K)}
            with threadpool_limits(1):  # numpy's products and faiss's
                show(f"{metric}, {count:,} of {points:,} x {dimensions}", sides, repeats=31 if count == 1 else 9)


def main() -> None:
    """Both."""
    both_indexes()
    exact_against_flat()


if __name__ == "__main__":
    main()
