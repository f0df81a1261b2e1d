"""Decoupled networks on a drawn graph of a million nodes and ten million edges: seconds, accuracy against the planted truth, peak memory.

Each network runs in a process of its own, so that its peak is its own: python -m benchmarks.large_graphs [NODES]
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch_geometric.data import Data

from ziggurat.graphs import DGMLP, SGC
from ziggurat.metrics.load import busy
from ziggurat.nn.mlp import MLP

NODES, DEGREE, CLASSES, FEATURES, INSIDE = 1_000_000, 10, 10, 32, 0.7
LABELLED, EPOCHS, BATCH, LIMIT = 0.02, 20, 4096, 8.0


def planted_graph(nodes: int, seed: int = 0) -> Data:
    """Nodes of ten classes with features under strong noise; seven links of ten stay inside a class. Each edge in both directions."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(nodes) % CLASSES
    source = torch.randint(nodes, (nodes * DEGREE // 2,), generator=g)
    target = torch.randint(nodes, source.shape, generator=g)
    inside = torch.rand(source.shape, generator=g) < INSIDE
    target = torch.where(inside, (target - y[target] + y[source]).clamp(0, nodes - 1), target)
    centres = torch.randn(CLASSES, FEATURES, generator=g)
    x = 0.25 * centres[y] + torch.randn(nodes, FEATURES, generator=g)
    mask = torch.rand(nodes, generator=g) < LABELLED
    edges = torch.stack([torch.cat([source, target]), torch.cat([target, source])])
    return Data(x=x, edge_index=edges, y=y, train_mask=mask)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP, no graph": lambda: MLP(FEATURES, CLASSES, (64,), 0.2),
    "SGC, 2 hops": lambda: SGC(FEATURES, CLASSES, 2),
    "DGMLP, 6 hops": lambda: DGMLP(FEATURES, CLASSES, 6, 2),
}


def run(name: str, nodes: int) -> None:
    """Makes the graph, precomputes, trains on a few labels in mini-batches, and tells on all other nodes."""
    torch.set_num_threads(1)
    graph = planted_graph(nodes)
    torch.manual_seed(0)
    network = NETWORKS[name]()
    start = time.perf_counter()
    inputs = network.precompute(graph)[0] if hasattr(network, "precompute") else graph.x  # type: ignore[operator]
    propagated = time.perf_counter() - start
    rows, optimizer = graph.train_mask.nonzero().flatten(), torch.optim.Adam(network.parameters(), 0.01)
    start, steps = time.perf_counter(), 0
    for _ in range(EPOCHS):
        for batch in rows[torch.randperm(len(rows))].split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), graph.y[batch]).backward()
            optimizer.step()
            steps += 1
    trained = time.perf_counter() - start
    network.eval()
    with torch.inference_mode():
        said = torch.cat([network(part).argmax(1) for part in inputs.split(100_000)])
    right = float((said == graph.y)[~graph.train_mask].float().mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"  {name:16} propagation {propagated:7.1f} s   {1000 * trained / steps:6.1f} ms a step   accuracy {100 * right:5.1f} %"
        f"   peak {peak:5.2f} GiB, {'within' if peak <= LIMIT else 'ABOVE'} {LIMIT:.0f}",
        flush=True,
    )


def main(nodes: int = NODES) -> None:
    """Every network, each in its own process."""
    print(
        f"\n{nodes:,} nodes, {nodes * DEGREE:,} edges, {CLASSES} classes, {100 * LABELLED:.0f} % labelled", flush=True
    )
    if reason := busy():
        print(f"  seconds not judged: {reason}", flush=True)
    context = multiprocessing.get_context("spawn")
    for name in NETWORKS:
        process = context.Process(target=run, args=(name, nodes))
        process.start()
        process.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else NODES)
