"""FastRP on graphs of 100,000, 1,000,000 and 5,000,000 edges: seconds of a fit, and how fast they grow.

The multiplications are linear in the edges. The seconds are so only while a node's neighbours lie near it in memory; once the vectors
outgrow the caches, neighbours in random order cost a miss each. Both kinds of graph are shown, with equal counts of nodes and edges. Then
20,000,000 edges once, with the peak of memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy import sparse

from benchmarks.timing import interleaved
from ziggurat.graphs import FastRP
from ziggurat.metrics.load import busy

EDGES = (100_000, 1_000_000, 5_000_000)
LARGEST, DIMENSIONS, DEGREE, REPEATS = 20_000_000, 32, 20, 7
LINEAR = 1.2


def random_graph(edges: int, degree: int = DEGREE, seed: int = 0) -> sparse.csr_matrix:
    """An undirected random graph of that many edges and that mean degree, so that its nodes grow with its edges."""
    n = 2 * edges // degree
    rng = np.random.default_rng(seed)
    keys = np.zeros(0, np.int64)  # source · n + target, source < target: each edge once
    while len(keys) < edges:
        ends = np.sort(rng.integers(n, size=(2, edges - len(keys) + 1000)), axis=0)
        ends = ends[:, ends[0] < ends[1]]
        keys = np.unique(np.concatenate([keys, ends[0] * n + ends[1]]))
    keys = rng.permutation(keys)[:edges]
    half = sparse.coo_matrix((np.ones(edges), (keys // n, keys % n)), shape=(n, n))
    return sparse.csr_matrix(half + half.T)


def local_graph(edges: int, degree: int = DEGREE) -> sparse.csr_matrix:
    """A ring with as many nodes and edges, each node tied to the nearest ones."""
    n, reach = 2 * edges // degree, degree // 2
    source = np.repeat(np.arange(n), reach)
    target = (source + np.tile(np.arange(1, reach + 1), n)) % n
    half = sparse.coo_matrix((np.ones(edges), (source, target)), shape=(n, n))
    return sparse.csr_matrix(half + half.T)


def exponent(edges: Sequence[int], seconds: Sequence[float]) -> float:
    """e of seconds ~ edges^e, by least squares of the logarithms."""
    return float(np.polyfit(np.log(edges), np.log(seconds), 1)[0])


def growth(kind: str, make: Callable[[int], sparse.csr_matrix]) -> None:
    """Prints the seconds at each size, the exponent over all of them, and that of each step between neighbours."""
    graphs = {edges: make(edges) for edges in EDGES}
    before = busy()
    functions = {f"{edges:,} edges": partial(FastRP(DIMENSIONS).fit, graph) for edges, graph in graphs.items()}
    times = interleaved(dict(functions), REPEATS)
    print(f"\nFastRP, fit, {DIMENSIONS} dimensions, 4 powers, mean degree {DEGREE}, {kind}")
    for one, edges in zip(times, EDGES, strict=True):
        print(
            f"  {one.name:34} least {1e3 * one.least:9.2f} ms   median {1e3 * one.median:9.2f} ms"
            f"   {1e9 * one.least / edges:7.1f} ns an edge"
        )
    least = [one.least for one in times]
    steps = [exponent(EDGES[i : i + 2], least[i : i + 2]) for i in range(len(EDGES) - 1)]
    whole = exponent(EDGES, least)
    print(f"  grows as edges^{whole:.2f} (from size to size {', '.join(f'{step:.2f}' for step in steps)})")
    if reason := before or busy():
        print(f"  not judged: {reason}")
    elif not all(one.steady for one in times):
        print("  not judged: least and median differ by more than 30 percent.")
    else:
        print(f"  linear in edges, exponent of {LINEAR} at most: {'yes' if whole <= LINEAR else 'no'}")


def largest(kind: str) -> None:
    """One fit at the largest size, and its peak of memory; in a process of its own."""
    graph = local_graph(LARGEST) if kind == "near" else random_graph(LARGEST)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    FastRP(DIMENSIONS).fit(graph)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"  {LARGEST:,} edges, neighbours {kind}: {seconds:.1f} s, {1e9 * seconds / LARGEST:.0f} ns an edge, peak {peak:.2f} GiB"
        f" ({before:.2f} GiB of it to draw the graph)",
        flush=True,
    )


def main() -> None:
    """Growth on both kinds of graph, and the largest one."""
    growth("neighbours near", local_graph)
    growth("neighbours random", random_graph)
    print("\nFastRP, one fit at the largest size", flush=True)
    context = multiprocessing.get_context("spawn")
    for kind in ("near", "random"):
        process = context.Process(target=largest, args=(kind,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
