"""A visual memory as it grows: seconds, bytes and recall of each thing that is done with it, and their exponents.

Rows are random 12 × 12 patches of CIFAR-10 in 128 principal components, with the label of their image and a random year; queries are
other patches. Filters are timed when they have been asked before. Each size runs in a process of its own, so that its peak of memory is
its own; the memory is opened again after that was taken.

    python -m benchmarks.memory [ROWS …]          10,000, 100,000 and 1,000,000 where none are said
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np

from benchmarks.patches import DIMENSION, Patches
from ziggurat.data.progress import counted
from ziggurat.memory import LanceStore, Memory, VisualMemory
from ziggurat.metrics.load import busy

SIZES, BATCH, QUERIES, K = (10_000, 100_000, 1_000_000), 20_000, 200, 10
FILTERS = ("", "label < 5", "label = 3", "year < 5000", "year < 1000", "year < 300", "year < 10")


def fill(memory: VisualMemory, patches: Patches, rows: int) -> None:
    """Adds the rows, in batches."""
    for first in counted(range(0, rows, BATCH), "adding"):
        x, labels = patches.draw(first, min(BATCH, rows - first))
        years = np.random.default_rng([8, first]).integers(10_000, size=len(x))
        metadata = [{"label": a, "year": b} for a, b in zip(labels.tolist(), years.tolist(), strict=True)]
        memory.add(range(first, first + len(x)), x, metadata)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def searched(memory: Memory, queries: np.ndarray, where: str) -> dict[str, object]:
    """How a filter is searched, for one query and for many, and what is found of the true neighbours."""
    text = where or None
    memory.search(queries[:1], K, text)
    hits = memory.search(queries, K, text)
    keys, _ = memory.index.scan(queries[:100], K, memory.store.select(text) if text else memory.store.keys())
    ids = memory.store.rows(keys.ravel())["id"].to_numpy().reshape(keys.shape)
    return {
        "strategy": hits.plan.strategy,
        "share": hits.plan.share,
        "one": np.median([seconds(lambda q=q: memory.search(q, K, text)) for q in queries[:20]]),
        "many": min(seconds(lambda: memory.search(queries, K, text)) for _ in range(3)) / len(queries),
        "recall": np.mean(
            [len(set(a) & set(b)) / max(len(a), 1) for a, b in zip(ids.tolist(), hits.ids, strict=False)]
        ),
    }


def on_disk(folder: Path) -> float:
    """Megabytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def one_size(rows: int) -> dict[str, object]:
    """Everything that is done with a memory of so many rows."""
    patches = Patches()
    queries = patches.draw(-1 % 2**31, QUERIES)[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        memory = Memory.open(folder, DIMENSION, "hnsw")
        visual, found = VisualMemory(memory), dict[str, object]()
        found["add"] = seconds(lambda: fill(visual, patches, rows))
        found["build"] = seconds(lambda: memory.search(queries[:1], K))
        found["filters"] = {where: searched(memory, queries, where) for where in FILTERS}
        found["range after prepare"] = None
        if rows <= 100_000:
            found["prepare"] = seconds(lambda: memory.prepare("year"))
            found["range after prepare"] = searched(memory, queries, "year < 5000")
        found["prune"] = seconds(lambda: visual.prune("soft", k=10))
        gone = (
            np.random.default_rng(1).permutation(rows)[: rows // 2 + 1000].tolist()
        )  # so many that the index is built anew
        found["remove half"] = seconds(lambda: visual.remove(gone))
        found["search after it"] = seconds(lambda: memory.search(queries[:1], K))
        before = on_disk(folder)
        assert isinstance(memory.store, LanceStore)
        store = memory.store
        found["compact"] = seconds(lambda: store.compact(timedelta(0)))
        found["disk"] = (before, on_disk(folder))
        found["save"] = seconds(memory.save_index)
        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        found["open"] = seconds(lambda: Memory.open(folder, index="hnsw").search(queries[:1], K))
    return found


def exponent(sizes: list[int], values: list[float]) -> str:
    """Slope of the logarithms."""
    return f"{np.polyfit(np.log(sizes), np.log(values), 1)[0]:.2f}" if len(sizes) > 1 else "–"


def main() -> None:
    """All sizes, a column each."""
    if len(sys.argv) > 2 and sys.argv[1] == "--one":
        print(json.dumps(one_size(int(sys.argv[2])), default=float))
        return
    sizes = [int(text.replace("_", "")) for text in sys.argv[1:] if text.replace("_", "").isdigit()] or list(SIZES)
    before, results = busy(), []
    for rows in sizes:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", "--one", str(rows)],
            stdout=subprocess.PIPE,
            check=True,
        )
        results.append(json.loads(run.stdout))
    print("| | " + " | ".join(f"{rows:,}" for rows in sizes) + " | exponent |\n|---|" + "---|" * (len(sizes) + 1))
    timed = ("add", "build", "prune", "remove half", "search after it", "compact", "save", "open", "peak")
    for name in timed:
        values = [one[name] for one in results]
        unit = "GB of memory" if name == "peak" else "s"
        print(f"| {name}, {unit} | " + " | ".join(f"{v:.2f}" for v in values) + f" | {exponent(sizes, values)} |")
    for name in ("one", "many"):
        for where in FILTERS:
            told = [one["filters"][where] for one in results]
            cells = [f"{1e3 * t[name]:.2f} ({t['strategy']}, recall {t['recall']:.2f})" for t in told]
            what = f"{where or 'no filter'}, ms a query, {'alone' if name == 'one' else f'of {QUERIES}'}"
            grows = "" if where else exponent(sizes, [t[name] for t in told])
            print(f"| {what} | " + " | ".join(cells) + f" | {grows} |")
    for rows, one in zip(sizes, results, strict=True):
        print(f"{rows:,}: {one['disk'][0]:,.0f} MB on disk, {one['disk'][1]:,.0f} after half was removed and compacted")
        if (told := one["range after prepare"]) is not None:
            print(
                f"  prepared in {one['prepare']:.1f} s: year < 5000 by {told['strategy']}, recall {told['recall']:.2f},",
                end=" ",
            )
            print(f"alone {1e3 * told['one']:.2f} ms, of {QUERIES} {1e3 * told['many']:.3f} ms")
    if reason := before or busy():
        print(f"not judged: {reason}")


if __name__ == "__main__":
    main()
