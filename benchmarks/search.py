"""Exact and graph search of the memory's indexes; faiss and hnswlib beside them where they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from benchmarks.timing import show
from ziggurat.memory import ExactIndex, HNSWIndex


def main() -> None:
    """20,000 unit vectors of 64 dimensions, 100 queries, 10 neighbours, inner product."""
    rng = np.random.default_rng(0)
    x, q = (rng.normal(size=(n, 64)).astype(np.float32) for n in (20_000, 100))
    x, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, q))
    exact, graph = ExactIndex(64, "ip"), HNSWIndex(64, "ip")
    for index in (exact, graph):
        index.add(np.arange(len(x)), x)
    truth = exact.search(q, 10)[0]
    found = graph.search(q, 10)[0]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)])
    print(f"recall@10 of the graph: {recall:.3f}")
    functions: dict[str, Callable[[], object]] = {
        "ziggurat exact": lambda: exact.search(q, 10),
        "ziggurat hnsw": lambda: graph.search(q, 10),
    }
    if importlib.util.find_spec("hnswlib"):
        import hnswlib

        other = hnswlib.Index("ip", 64)
        other.init_index(len(x), M=16, ef_construction=128)
        other.add_items(x)
        other.set_ef(200)
        functions["hnswlib"] = lambda: other.knn_query(q, 10)
    if importlib.util.find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatIP(64)
        flat.add(x)
        functions["faiss flat"] = lambda: flat.search(q, 10)
    show("search of 100 queries", functions)


if __name__ == "__main__":
    main()
