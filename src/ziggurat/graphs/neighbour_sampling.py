"""Mini-batches of a graph that is too large to be trained whole: some nodes, and a drawn part of what their predictions depend on.

Every node of a batch takes up to `fanouts[0]` of its incoming edges, each node found so up to `fanouts[1]` of its own, and so on: one
number for each layer of the network. W. Hamilton, R. Ying, J. Leskovec, Inductive Representation Learning on Large Graphs, 2017,
arXiv:1706.02216.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import Labelled, Loader
from ziggurat.graphs._neighbour_kernels import neighbourhoods


class Nodes:
    """The nodes of one part of a graph as samples, and the graph's edges sorted by target.

    Arguments:
        graph: with `x`, `edge_index`, `y` and masks; `edge_weight` if there is one.
        mask: which nodes are the samples, such as "train_mask".
    """

    def __init__(self, graph: Any, mask: str = "train_mask") -> None:
        if mask not in graph:
            raise ValueError(f"the graph has no {mask}; its nodes must be split first.")
        self.graph, self.nodes = graph, graph[mask].nonzero().flatten()
        if not len(self.nodes):
            raise ValueError(f"no node is in {mask}, so there is nothing to train on.")
        source, target = graph.edge_index
        by_target = target.argsort(stable=True)
        self.edges, self.sources = by_target, source[by_target].numpy()
        counts = torch.bincount(target, minlength=graph.num_nodes)
        self.indptr = np.concatenate([[0], counts.cumsum(0).numpy()])

    def __len__(self) -> int:
        return len(self.nodes)


@dataclass(frozen=True)
class Neighbourhoods:
    """Some nodes with a drawn neighbourhood: a `GraphBatch` whose first nodes are the samples.

    Arguments:
        fanouts: incoming edges a node and hop; −1 takes all. With all of them on as many hops as the network has layers, a network
            that normalises by the targets' degrees gives exactly what it gives on the whole graph. One that normalises by both
            ends' degrees, such as GCN, needs one hop more.
    """

    fanouts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.fanouts or any(fanout == 0 or fanout < -1 for fanout in self.fanouts):
            raise ValueError(f"fanouts must be one or more positive numbers, or −1 for all, got {self.fanouts}.")

    def order(
        self, dataset: Nodes, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        return Labelled().order(dataset, batch_size, generator, order)

    def batch(self, dataset: Nodes, index: Tensor, generator: torch.Generator) -> GraphBatch:
        graph, roots = dataset.graph, dataset.nodes[index]
        seed = int(torch.randint(1, 2**62, (), generator=generator))
        found = neighbourhoods(
            dataset.indptr, dataset.sources, roots.numpy(), np.array(self.fanouts, np.int64), np.uint64(seed)
        )
        nodes, sources, targets, edges = (torch.from_numpy(part) for part in found)
        weight = getattr(graph, "edge_weight", None)
        drawn = None if weight is None else weight[dataset.edges[edges]]
        mask = torch.arange(len(nodes)) < len(roots)
        return GraphBatch((graph.x[nodes], torch.stack([sources, targets]), drawn), graph.y[roots], roots, mask=mask)


def neighbour_loader(
    graph: Any, fanouts: tuple[int, ...], batch_size: int = 512, seed: int = 0, mask: str = "train_mask"
) -> Loader:
    """A loader of `Neighbourhoods` over the nodes of one part; its order, and so a resumed run, depends on the seed alone."""
    return Loader(Nodes(graph, mask), Neighbourhoods(fanouts), batch_size, seed)
