"""Graphs on which taking vertices of small degree goes wrong."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Data

from ziggurat.data.seeds import derive


def greedy_traps(m: int, gadgets: int = 3, links: int = 4, seed: int = 0) -> Data:
    """Gadgets of 2m + 1 vertices, joined by a few random edges: in each the min-degree greedy finds 2 vertices, and there are m.

    A gadget is a clique of m joined completely to m vertices without edges among them, and one vertex joined to those m: it has the
    smallest degree, m, and shuts them all out. Vertices are in random order.
    """
    if m < 2 or gadgets < 1:
        raise ValueError(f"a trap needs m ≥ 2 and one gadget or more, got {m} and {gadgets}.")
    rng, size = np.random.default_rng(derive(seed, "traps")), 2 * m + 1
    one = np.zeros((size, size), bool)
    one[:m, : 2 * m] = True
    one[2 * m, m : 2 * m] = True
    matrix = np.kron(np.eye(gadgets, dtype=bool), one)
    if gadgets > 1:
        for _ in range(links):
            a, b = rng.choice(gadgets, 2, replace=False) * size + rng.integers(size, size=2)
            matrix[a, b] = True
    matrix |= matrix.T
    np.fill_diagonal(matrix, False)
    order = rng.permutation(len(matrix))
    edges = np.stack(matrix[np.ix_(order, order)].nonzero()).astype(np.int64)
    return Data(edge_index=torch.from_numpy(edges), num_nodes=len(matrix))
