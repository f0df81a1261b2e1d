"""Search in windows of a label: recall@10 against queries a second, beside faiss, hnswlib and LanceDB with their filters.

Up to 60,000 images of Fashion-MNIST in 48 principal components, beyond that patches of CIFAR-10 in 128; 300 queries, one thread. Labels are
random, or correlated: a principal component, so that a window is a slice of the data. The adversarial set has 10 clusters whose queries
lie near one and ask for the labels of another. hnswlib's filter is a Python function, which is what its users have; usearch's Python
package has no filter. Every contender is swept from narrow to wide until it reaches 0.99. Tables have the rate of the fastest setting that
reaches a recall, «–» where none does, and behind it the distances computed for a query, where the contender tells them.

    python -m benchmarks.window_search [POINTS] [random | correlated | adversarial]   random labels also draw benchmarks/window_search.png
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch

from benchmarks.memory import Patches
from ziggurat.data.loading import load
from ziggurat.data.windows import adversarial_windows, windows_of_share
from ziggurat.memory.filtered.inner import Vamana
from ziggurat.memory.filtered.window_search import SuperPostfilterIndex, WindowSearchTree
from ziggurat.metrics.load import busy
from ziggurat.metrics.neighbours import neighbour_recall

QUERIES, DIMENSIONS, K, SECONDS = 300, 48, 10, 0.3
RECALLS, POWERS, BEAMS = (0.90, 0.95, 0.99), range(13), (10, 20, 40, 80, 160, 320, 640)
OURS, DRAWN = ("scan", "postfilter", "tree", "optimized", "three_split", "super"), (0, 2, 4, 6, 8, 10)
Search = Callable[[], tuple[np.ndarray, float]]
"""One run over all queries: distances (m, k), and how many were computed for a query, not a number where that is not told."""


class Point(NamedTuple):
    """A setting of a contender: its recall, queries a second, and distances computed for a query."""

    recall: float
    rate: float
    computed: float


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

    def told(search: Callable[..., Any], *given: Any, **beam: int) -> tuple[np.ndarray, float]:
        hits = search(*given, **beam)
        return hits.distances, float(hits.computed.mean())

    def swept(search: Callable[..., Any], q: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[Search]:
        return (partial(told, search, q, K, low, high, beam=beam) for beam in BEAMS)

    contenders = {
        name: partial(swept, partial(tree.search, method=name))
        for name in ("postfilter", "tree", "optimized", "three_split")
    }
    return (
        {"scan": lambda q, low, high: iter([partial(told, tree.search, q, K, low, high, "prefilter")])}
        | contenders
        | {"super": partial(swept, overlapping.search)}
    )


def exact_slice(vectors: np.ndarray, labels: np.ndarray) -> Any:
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


def faiss_hnsw(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """HNSW over rows sorted by label, with a range of rows as the filter of each query."""
    import faiss

    faiss.omp_set_num_threads(1)
    order = labels.argsort()
    index, ordered = faiss.IndexHNSWFlat(vectors.shape[1], 16), labels[order]
    index.hnsw.efConstruction = 100
    index.add(vectors[order])

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
        faiss.cvar.hnsw_stats.reset()
        first, last = np.searchsorted(ordered, low), np.searchsorted(ordered, high, "right")
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            given = faiss.SearchParametersHNSW(efSearch=max(beam, K), sel=faiss.IDSelectorRange(a, b))
            away, rows = index.search(q[i : i + 1], K, params=given)
            found[i] = np.where(rows[0] >= 0, away[0], np.inf)
        return found, faiss.cvar.hnsw_stats.ndis / len(q)

    return lambda q, low, high: ((lambda beam=beam: search(q, low, high, beam)) for beam in BEAMS)


def hnswlib_filter(vectors: np.ndarray, labels: np.ndarray) -> Any:
    """HNSW with a Python function that says which keys may stay."""
    import hnswlib

    index = hnswlib.Index("l2", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100, random_seed=0)
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)))

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
        index.set_ef(max(beam, K))
        found = np.full((len(q), K), np.inf, np.float32)
        for i in range(len(q)):
            try:
                found[i] = index.knn_query(q[i], K, filter=lambda key, i=i: low[i] <= labels[key] <= high[i])[1][0]
            except RuntimeError:  # fewer than K were found
                continue
        return found, float("nan")

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

    def search(q: np.ndarray, low: np.ndarray, high: np.ndarray, beam: int) -> tuple[np.ndarray, float]:
        found = np.full((len(q), K), np.inf, np.float32)
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            query = table.search(q[i]).where(f"label >= {a!r} AND label <= {b!r}").ef(max(beam, 2 * K)).refine_factor(2)
            away = query.limit(K).select(["_distance"]).to_arrow()["_distance"].to_numpy()
            found[i, : len(away)] = away
        return found, float("nan")

    return lambda q, low, high: ((lambda beam=beam: search(q, low, high, beam)) for beam in BEAMS[::2])


def measured(search: Search, truth: np.ndarray) -> Point:
    """The best of several runs; slow contenders get one."""
    least, spent = float("inf"), 0.0
    while spent < SECONDS:
        start = time.perf_counter()
        away, computed = search()
        took = time.perf_counter() - start
        least, spent = min(least, took), spent + took
    return Point(neighbour_recall(away, truth), len(truth) / least, computed)


def swept(searches: Iterator[Search], truth: np.ndarray) -> list[Point]:
    """The settings from narrow to wide, until one reaches the highest recall."""
    found: list[Point] = []
    for search in searches:
        found.append(measured(search, truth))
        if found[-1].recall >= RECALLS[-1]:
            break
    return found


def fastest(points: list[Point], recall: float) -> Point | None:
    """The fastest setting that reaches a recall."""
    return max((p for p in points if p.recall >= recall), key=lambda p: p.rate, default=None)


def table(found: dict[str, list[list[Point]]], shares: list[str]) -> None:
    """For each recall the rates, and the best of ours as a multiple of the best of the others."""
    for recall in RECALLS:
        print(
            f"\nrecall@{K} of {recall:.2f}\n{'share':>8} "
            + " ".join(f"{name:>17}" for name in found)
            + f" {'ratio':>7}"
        )
        for at, share in enumerate(shares):
            best = {name: fastest(points[at], recall) for name, points in found.items()}
            row = []
            for point in best.values():
                computed = "" if point is None or np.isnan(point.computed) else f" {point.computed:,.0f}"
                row.append(f"{'–' if point is None else f'{point.rate:,.0f}' + computed:>17}")
            own = max(p.rate for name, p in best.items() if name in OURS and p is not None)
            other = max(p.rate for name, p in best.items() if name not in OURS and p is not None)
            print(f"{share:>8} " + " ".join(row) + f" {own / other:7.2f}")


def draw(found: dict[str, list[list[Point]]], points: int, path: Path) -> None:
    """Recall against queries a second, one panel for each share of the points that a window holds."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, len(DRAWN) // 2, figsize=(11, 6.5), sharex=True, layout="constrained")
    for power, axes in zip(DRAWN, panels.flat, strict=True):
        for name, curves in found.items():
            x, y = [p.recall for p in curves[power]], [p.rate for p in curves[power]]
            axes.plot(
                x,
                y,
                marker="*" if name == "scan" else "o",
                ms=7 if name == "scan" else 3,
                ls="-" if name in OURS else "--",
                label=name,
            )
        axes.set(
            yscale="log",
            xlim=(0.75, 1.01),
            title="all points" if not power else f"windows of 1/{2**power:,} of the points",
        )
        axes.grid(alpha=0.3)
    figure.supxlabel(f"recall@{K}")
    figure.supylabel("queries a second, one thread")
    figure.suptitle(f"{points:,} points, random labels; ours with full lines")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=130)


def asked(count: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Vectors, labels, queries, and the ends of the windows of each share."""
    if kind == "adversarial":
        vectors, labels, queries, *ends = adversarial_windows(each=count // 10, queries=QUERIES)
        return vectors, labels, queries, [(ends[0], ends[1])]
    small = count <= 60_000 - QUERIES
    vectors, queries = images(count) if small else patches(count)
    labels = np.random.default_rng(0).random(count)
    if kind == "correlated":
        labels = vectors[:, -1 if small else 0].astype(np.float64)
    return vectors, labels, queries, [windows_of_share(labels, 2.0**-power, QUERIES, 0) for power in POWERS]


def main() -> None:
    """Prints the tables; random labels also draw the picture."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 40_000
    kind = next((kind for kind in ("correlated", "adversarial") if kind in sys.argv), "random")
    before = busy()
    vectors, labels, queries, windows = asked(count, kind)
    folder, start = tempfile.TemporaryDirectory(), time.perf_counter()
    contenders = ours(vectors, labels) | {
        "exact (numpy)": exact_slice(vectors, labels),
        "LanceDB": lancedb_where(vectors, labels, folder.name),
    }
    if importlib.util.find_spec("faiss"):
        contenders["HNSW (faiss)"] = faiss_hnsw(vectors, labels)
    if importlib.util.find_spec("hnswlib"):
        contenders["HNSW (hnswlib)"] = hnswlib_filter(vectors, labels)
    print(
        f"{count:,} points, {kind} labels, {QUERIES} queries; built in {time.perf_counter() - start:.0f} s", flush=True
    )
    found: dict[str, list[list[Point]]] = {name: [] for name in contenders}
    for number, (low, high) in enumerate(windows):
        truth = next(iter(contenders["scan"](queries, low, high)))()[0]
        for name, searches in contenders.items():
            found[name].append(swept(searches(queries, low, high), truth))
        print(
            f"{number + 1} of {len(windows)} shares, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True
        )
    table(found, ["1/10"] if kind == "adversarial" else [f"2^-{power}" for power in POWERS])
    if reason := before or busy():
        print(f"not judged: {reason}")
    if kind == "random":
        draw(found, count, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
