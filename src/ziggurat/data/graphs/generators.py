"""Drawn graphs with known structure: planted blocks, pairs that colour refinement cannot tell apart, skip-link cycles."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.data.seeds import derive

CSL_SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
"""Of the ten classes of circular skip-link graphs with 41 nodes (R. Murphy et al., 2019, arXiv:1903.02541)."""


def stochastic_blocks(
    sizes: Sequence[int], probabilities: Float[np.ndarray, "K K"], seed: int = 0, directed: bool = False
) -> tuple[Int64[Tensor, "2 E"], Int64[Tensor, " N"]]:
    """A stochastic block model: nodes of blocks a and b are linked with probability probabilities[a, b].

    Returns: edges without loops, sorted, both directions unless `directed`, and the block of each node. Cost grows with the number of
    pairs, in blocks of rows.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(sizes),) * 2 or p.min() < 0 or p.max() > 1:
        raise ValueError(f"probabilities must be a {len(sizes)} × {len(sizes)} matrix of numbers between 0 and 1.")
    if not directed and not np.allclose(p, p.T):
        raise ValueError("an undirected graph needs symmetric probabilities; pass directed=True or make them equal.")
    block, rng = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(derive(seed, "blocks"))
    n, found = len(block), []
    for start in range(0, n, 512):
        rows = np.arange(start, min(start + 512, n))
        coins = rng.random((len(rows), n)) < p[block[rows][:, None], block[None]]
        coins &= rows[:, None] != np.arange(n) if directed else rows[:, None] < np.arange(n)
        row, col = coins.nonzero()
        found.append(np.stack([rows[row], col]))
    edges = (
        torch.from_numpy(np.concatenate(found, 1).astype(np.int64)) if found else torch.zeros(2, 0, dtype=torch.int64)
    )
    if not directed:
        edges = torch.cat([edges, edges.flip(0)], 1)
        edges = edges[:, (edges[0] * n + edges[1]).argsort()]
    return edges, torch.from_numpy(block.astype(np.int64))


def planted(inside: float, outside: float, blocks: int) -> Float[np.ndarray, "K K"]:
    """Probabilities of a block model: `inside` for nodes of one block, `outside` for others."""
    return np.full((blocks, blocks), outside) + (inside - outside) * np.eye(blocks)


def circular_skip_links(nodes: int, skip: int) -> Int64[Tensor, "2 E"]:
    """A cycle whose nodes are also joined with those `skip` further on; both directions."""
    if not 2 <= skip < nodes - 1:
        raise ValueError(f"skip must be between 2 and {nodes - 2}, got {skip}.")
    here = torch.arange(nodes)
    there = torch.cat([torch.stack([here, (here + step) % nodes]) for step in (1, skip)], 1)
    return torch.unique(torch.cat([there, there.flip(0)], 1), dim=1)


def rook() -> Int64[Tensor, "2 E"]:
    """The 4 × 4 rook's graph: strongly regular (16, 6, 2, 2), as Shrikhande's, and not isomorphic to it."""
    return _edges(nx.line_graph(nx.complete_bipartite_graph(4, 4)))


def shrikhande() -> Int64[Tensor, "2 E"]:
    """Shrikhande's graph: (i, j) of the 4 × 4 torus is joined with (i ± 1, j), (i, j ± 1) and ±(1, 1) further."""
    steps = ((1, 0), (0, 1), (1, 1))
    graph = nx.Graph()
    for i in range(4):
        for j in range(4):
            graph.add_edges_from((((i, j)), ((i + a) % 4, (j + b) % 4)) for a, b in steps)
    return _edges(graph)


def _edges(graph: nx.Graph) -> Int64[Tensor, "2 E"]:
    place = {node: i for i, node in enumerate(sorted(graph.nodes))}
    pairs = torch.tensor(sorted([place[a], place[b]] for a, b in graph.edges), dtype=torch.int64).T
    return torch.cat([pairs, pairs.flip(0)], 1)


def relabelled(edge_index: Int64[Tensor, "2 E"], num_nodes: int, seed: int) -> Int64[Tensor, "2 E"]:
    """The same graph, its nodes in another order."""
    order = np.random.default_rng(derive(seed, "relabel")).permutation(num_nodes)
    return torch.from_numpy(order)[edge_index]


def csl(copies: int = 15, nodes: int = 41, seed: int = 0) -> list[Data]:
    """The ten classes of circular skip-link graphs, `copies` relabelled ones of each, with ones as features."""
    return [
        Data(
            x=torch.ones(nodes, 1),
            edge_index=relabelled(circular_skip_links(nodes, skip), nodes, derive(seed, skip, copy)),
            y=torch.tensor([label]),
        )
        for label, skip in enumerate(CSL_SKIPS)
        for copy in range(copies)
    ]
