"""Search in windows of a label: recall@10 against queries a second, beside faiss, hnswlib and LanceDB with their filters.

Up to 60,000 images of Fashion-MNIST in 48 principal components, beyond that patches of CIFAR-10 in 128, or the definitions of WordNet's
nouns, embedded by MiniLM in 384 dimensions; 300 queries, one thread. Labels are random, or correlated: a principal component, so that a
window is a slice of the data. The adversarial set has 10 clusters whose queries lie near one and ask for the labels of another. hnswlib's
filter is a Python function, which is what its users have; usearch's Python package has no filter. Contenders are swept from narrow to wide
until they reach 0.99, those of other libraries also until they are slower than a fiftieth of the scan of the window, which finds all.
Tables have the rate of the fastest setting that reaches a recall, «–» where none does, and behind it the distances computed for a query,
where the contender tells them.

    python -m benchmarks.window_search [POINTS] [random | correlated | adversarial] [definitions] [threads]

`threads` measures again with 100 queries for each processor, shared out among as many threads. Random labels of images also draw
benchmarks/window_search.png.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.patches import Patches
from benchmarks.window_contenders import OURS, K, Search, Settings, ours, shared_out, theirs
from ziggurat.data.loading import load
from ziggurat.data.progress import counted
from ziggurat.data.windows import adversarial_windows, windows_of_share
from ziggurat.metrics.load import busy
from ziggurat.metrics.neighbours import neighbour_recall
from ziggurat.sequences.minilm import embed_texts

QUERIES, DIMENSIONS, SECONDS, SLOW = 300, 48, 0.3, 50
RECALLS, POWERS = (0.90, 0.95, 0.99), range(13)
DRAWN = (0, 2, 4, 6, 8, 10)


class Point(NamedTuple):
    """A setting of a contender: its recall, queries a second, and distances computed for a query."""

    recall: float
    rate: float
    computed: float


def images(points: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the points and of the queries."""
    x = load("fashion_mnist", "train").images[: points + queries].float().flatten(1)
    middle = x - x[:points].mean(0)
    axes = torch.linalg.eigh(middle[:points].T @ middle[:points])[1][:, -DIMENSIONS:]
    found = (middle @ axes).numpy()
    return found[:points], found[points:]


def patches(points: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of patches, which are more."""
    drawn = Patches()
    return drawn.draw(0, points)[0], drawn.draw(1, queries)[0]


def definitions(points: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of definitions of words."""
    glosses = [synset.gloss for synset in load("wordnet_glosses")]
    if points + queries > len(glosses):
        raise ValueError(f"there are {len(glosses):,} definitions; ask for at most {len(glosses) - queries:,} points.")
    order = np.random.default_rng(0).permutation(len(glosses))[: points + queries].tolist()
    vectors = embed_texts([glosses[i] for i in order]).numpy()
    return vectors[:points], vectors[points:]


def measured(search: Search, truth: np.ndarray) -> Point:
    """The best of several runs; slow contenders get one."""
    least, spent = float("inf"), 0.0
    while spent < SECONDS:
        start = time.perf_counter()
        away, computed = search()
        took = time.perf_counter() - start
        least, spent = min(least, took), spent + took
    return Point(neighbour_recall(away, truth), len(truth) / least, computed)


def swept(searches: Iterator[Search], truth: np.ndarray, least: float) -> list[Point]:
    """The settings from narrow to wide, until one reaches the highest recall or falls below a rate."""
    found: list[Point] = []
    for search in searches:
        found.append(measured(search, truth))
        if found[-1].recall >= RECALLS[-1] or found[-1].rate < least:
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


def asked(
    count: int, kind: str, queries: int, words: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Vectors, labels, queries, and the ends of the windows of each share."""
    if kind == "adversarial":
        vectors, labels, x, *ends = adversarial_windows(each=count // 10, queries=queries)
        return vectors, labels, x, [(ends[0], ends[1])]
    small = count <= 60_000 - queries
    vectors, x = (definitions if words else images if small else patches)(count, queries)
    labels = np.random.default_rng(0).random(count)
    if kind == "correlated":
        labels = principal(vectors) if words else vectors[:, -1 if small else 0].astype(np.float64)
    return vectors, labels, x, [windows_of_share(labels, 2.0**-power, queries, 0) for power in POWERS]


def principal(vectors: np.ndarray) -> np.ndarray:
    """The first principal component."""
    middle = vectors.astype(np.float64) - vectors.mean(0)
    return middle @ np.linalg.eigh(middle.T @ middle)[1][:, -1]


def curves(
    contenders: dict[str, Settings], exact: Settings, queries: np.ndarray, windows: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, list[list[Point]]]:
    """Of every contender the settings that were tried, for each share."""
    found: dict[str, list[list[Point]]] = {name: [] for name in contenders}
    for low, high in counted(windows, "shares"):
        truth = next(iter(exact(queries, low, high)))()[0]
        for name, settings in contenders.items():
            least = 0.0 if name in OURS else found["scan"][-1][0].rate / SLOW
            found[name].append(swept(settings(queries, low, high), truth, least))
    return found


def main() -> None:
    """Prints the tables; random labels also draw the picture, of one thread."""
    threadpool_limits(1)
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 40_000
    kind = next((kind for kind in ("correlated", "adversarial") if kind in sys.argv), "random")
    cores = os.cpu_count() or 1
    many = 100 * cores if "threads" in sys.argv else QUERIES
    before, start = busy(), time.perf_counter()
    words = "definitions" in sys.argv
    vectors, labels, queries, windows = asked(count, kind, max(QUERIES, many), words)
    shares = ["1/10"] if kind == "adversarial" else [f"2^-{power}" for power in POWERS]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores) as pool:
        contenders = ours(vectors, labels, pool) | theirs(vectors, labels, folder)
        took = time.perf_counter() - start
        print(f"{count:,} points, {kind} labels; built in {took:.0f} s by {cores} threads", flush=True)
        exact = shared_out(contenders["scan"], pool, cores)
        few = [(low[:QUERIES], high[:QUERIES]) for low, high in windows]
        found = curves(contenders, exact, queries[:QUERIES], few)
        print(f"{QUERIES} queries, one thread")
        table(found, shares)
        if kind == "random" and not words:
            draw(found, count, Path(__file__).with_suffix(".png"))
        if "threads" in sys.argv:
            contenders = {name: shared_out(settings, pool, cores) for name, settings in contenders.items()}
            print(f"\n{len(queries):,} queries, {cores} threads")
            table(curves(contenders, exact, queries, windows), shares)
    if reason := before or busy():
        print(f"not judged: {reason}")


if __name__ == "__main__":
    main()
