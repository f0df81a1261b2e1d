"""Search in windows of a label: queries a second at recall@10 of 0.95 and more, against faiss, hnswlib and LanceDB with their filters.

Up to 60,000 images of Fashion-MNIST in 48 principal components, beyond that patches of CIFAR-10 in 128; 300 queries, one thread. Labels are
random, or correlated: a principal component, so that a window is a slice of the data. Every contender takes the setting of its sweep that
is fastest among those that reach the recall; hnswlib's filter is a Python function, which is what its users have. Numbers in the table
are queries a second, «–» where no setting reaches the recall.

    python -m benchmarks.window_search [POINTS] [correlated]          writes benchmarks/window_search.png beside the table
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from benchmarks.memory import Patches
from ziggurat.data.loading import load
from ziggurat.data.windows import windows_of_share
from ziggurat.memory.filtered.inner import Vamana
from ziggurat.memory.filtered.window_search import SuperPostfilterIndex, WindowSearchTree
from ziggurat.metrics.load import busy
from ziggurat.metrics.neighbours import neighbour_recall

QUERIES, DIMENSIONS, K, RECALL, SECONDS = 300, 48, 10, 0.95, 0.3
POWERS, BEAMS = range(12), (10, 20, 40, 80, 160, 320, 640)
OURS = ("tree", "optimized", "three_split", "super")
Search = Callable[[], np.ndarray]
"""Distances (m, k) of one run over all queries."""


def images(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the points and of the queries."""
    x = load("fashion_mnist", "train").images[: points + QUERIES].float().flatten(1)
    middle = x - x[:points].mean(0)
    axes = torch.linalg.eigh(middle[:points].T @ middle[:points])[1][:, -DIMENSIONS:]
    found = (middle @ axes).numpy()
    return found[:points], found[points:]


def patches(points: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of patches, which are more."""
    drawn = Patches()
    return drawn.draw(0, points)[0], drawn.draw(1, QUERIES)[0]


def ours(
    vectors: np.ndarray, labels: np.ndarray
) -> dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Iterator[Search]]]:
    """Every way to ask of both families."""

    def graph(part: np.ndarray) -> Vamana:
        return Vamana(part, 32, 100)

    points = (np.arange(len(vectors)), vectors, labels)
    tree, overlapping = WindowSearchTree(*points, graph), SuperPostfilterIndex(*points, graph)

    def swept(search: Callable[..., Any], q: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[Search]:
        return ((lambda beam=beam: search(q, K, low, high, beam=beam).distances) for beam in BEAMS)

    contenders = {
        name: partial(swept, partial(tree.search, method=name))
        for name in ("postfilter", "tree", "optimized", "three_split")
    }
    return (
        {"prefilter": lambda q, low, high: iter([lambda: tree.search(q, K, low, high, "prefilter").distances])}
        | contenders
        | {"super": partial(swept, overlapping.search)}
    )


def faiss_hnsw(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """HNSW over rows sorted by label, with a range of rows as the filter of each query."""
    import faiss

    faiss.omp_set_num_threads(1)
    order = labels.argsort()
    index, ordered = faiss.IndexHNSWFlat(vectors.shape[1], 16), labels[order]
    index.hnsw.efConstruction = 100
    index.add(vectors[order])

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> np.ndarray:
        first, last = np.searchsorted(ordered, low), np.searchsorted(ordered, high, "right")
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            given = faiss.SearchParametersHNSW(efSearch=max(beam, K), sel=faiss.IDSelectorRange(a, b))
            away, rows = index.search(q[i : i + 1], K, params=given)
            found[i] = np.where(rows[0] >= 0, away[0], np.inf)
        return found

    return lambda q, low, high: ((lambda beam=beam: search(q, low, high, beam)) for beam in BEAMS)


def hnswlib_filter(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """HNSW with a Python function that says which keys may stay."""
    import hnswlib

    index = hnswlib.Index("l2", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100, random_seed=0)
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)))

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> np.ndarray:
        index.set_ef(max(beam, K))
        found = np.full((len(q), K), np.inf, np.float32)
        for i in range(len(q)):
            try:
                found[i] = index.knn_query(q[i], K, filter=lambda key, i=i: low[i] <= labels[key] <= high[i])[1][0]
            except RuntimeError:  # fewer than K were found
                continue
        return found

    return lambda q, low, high: ((lambda beam=beam: search(q, low, high, beam)) for beam in BEAMS[::2])


def lancedb_where(vectors: np.ndarray, labels: np.ndarray, folder: str) -> Any:
    """HNSW inside one cell, rows that the condition selects looked up first: LanceDB's default."""
    import lancedb
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = lancedb.connect(folder).create_table("points", pa.table({"vector": values, "label": labels}))
    table.create_index(
        "l2", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=100
    )
    table.create_scalar_index("label")

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> np.ndarray:
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            query = table.search(q[i]).where(f"label >= {a!r} AND label <= {b!r}").ef(max(beam, 2 * K)).refine_factor(2)
            away = query.limit(K).select(["_distance"]).to_arrow()["_distance"].to_numpy()
            found[i, : len(away)] = away
        return found

    return lambda q, low, high: ((lambda beam=beam: search(q, low, high, beam)) for beam in BEAMS[::2])


def rate(search: Search) -> float:
    """Queries a second, the best of several runs."""
    least, spent = float("inf"), 0.0
    while spent < SECONDS:
        start = time.perf_counter()
        search()
        took = time.perf_counter() - start
        least, spent = min(least, took), spent + took
    return QUERIES / least


def fastest(searches: Iterator[Search], truth: np.ndarray) -> float:
    """Rate of the first setting that reaches the recall, which is the fastest of a sweep from narrow to wide; not a number if none does."""
    for search in searches:
        if neighbour_recall(search(), truth) >= RECALL:
            return rate(search)
    return float("nan")


def draw(found: dict[str, list[float]], path: Path) -> None:
    """Rates of all contenders against the share of the points that a window holds."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, rates in found.items():
        axes.plot([2.0**-p for p in POWERS], rates, marker="o", ms=3, label=name, ls="--" if "(" in name else "-")
    axes.set(xscale="log", yscale="log", xlabel="share of the points in the window", ylabel="queries a second")
    axes.set_title(f"recall@{K} of {RECALL} and more, one thread")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    """Prints the table and draws the picture."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 40_000
    before = busy()
    vectors, queries = images(count) if count <= 60_000 - QUERIES else patches(count)
    correlated = "correlated" in sys.argv
    labels = (
        vectors[:, -1 if count <= 60_000 - QUERIES else 0].astype(np.float64)
        if correlated
        else np.random.default_rng(0).random(count)
    )
    folder = tempfile.TemporaryDirectory()
    contenders = ours(vectors, labels) | {"LanceDB": lancedb_where(vectors, labels, folder.name)}
    if importlib.util.find_spec("faiss"):
        contenders["HNSW (faiss)"] = faiss_hnsw(vectors, labels)
    if importlib.util.find_spec("hnswlib"):
        contenders["HNSW (hnswlib)"] = hnswlib_filter(vectors, labels)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    print(f"{count:,} points, {QUERIES} queries\n{'share':>8} " + " ".join(f"{name:>15}" for name in contenders))
    for power in POWERS:
        low, high = windows_of_share(labels, 2.0**-power, QUERIES, 0)
        truth = next(iter(contenders["prefilter"](queries, low, high)))()
        for name, searches in contenders.items():
            found[name].append(fastest(searches(queries, low, high), truth))
        row = (f"{rates[-1]:15,.0f}" if np.isfinite(rates[-1]) else f"{'–':>15}" for rates in found.values())
        print(f"   2^-{power:<3d} " + " ".join(row), flush=True)
    best = np.nanmax([rates for name, rates in found.items() if name not in OURS], axis=0)
    own = np.nanmax([found[name] for name in ("prefilter", *OURS)], axis=0)
    print("best of ours / best of the others and the two filters: " + " ".join(f"{ratio:.2f}" for ratio in own / best))
    if reason := before or busy():
        print(f"not judged: {reason}")
    draw(found, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
