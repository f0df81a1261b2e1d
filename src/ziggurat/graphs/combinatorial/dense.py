"""Several graphs as padded matrices, and independent sets of them: what methods that delete vertices step by step work on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from ziggurat.graphs.adjacency import adjacency
from ziggurat.graphs.propagation import check_edges


class DenseGraphs(NamedTuple):
    """Undirected graphs of at most n vertices: where `present` is False there is no vertex, whatever the matrix says."""

    adjacency: Float[Tensor, "B n n"]
    present: Bool[Tensor, "B n"]


def dense_graphs(graphs: Any) -> DenseGraphs:
    """One graph, or a sequence: `torch_geometric` Data, networkx graphs or sparse matrices. Directions, weights and loops are left out."""
    many: Sequence[Any] = graphs if isinstance(graphs, list | tuple) else [graphs]
    if not many:
        raise ValueError("there are no graphs; give at least one.")
    matrices = [
        adjacency(nx.to_scipy_sparse_array(g, format="coo") if isinstance(g, nx.Graph) else g).toarray() for g in many
    ]
    n = max(len(m) for m in matrices)
    linked, present = torch.zeros(len(matrices), n, n), torch.zeros(len(matrices), n, dtype=torch.bool)
    for i, matrix in enumerate(matrices):
        size = len(matrix)
        linked[i, :size, :size] = torch.from_numpy(((matrix + matrix.T) > 0) & ~np.eye(size, dtype=bool)).float()
        present[i, :size] = True
    return DenseGraphs(linked, present)


def dense_batch(
    edge_index: Int64[Tensor, "2 E"], batch: Int64[Tensor, " N"], dtype: torch.dtype = torch.float32
) -> DenseGraphs:
    """The same of graphs that are given as one, `batch` naming the graph of each vertex, in any order."""
    check_edges(edge_index, len(batch))
    counts = torch.bincount(batch)
    order = batch.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    place = torch.empty_like(batch).index_copy(0, order, torch.arange(len(batch)) - starts[batch[order]])
    n = int(counts.max())
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    ends = (torch.cat([source, target]), torch.cat([target, source]))
    linked = torch.zeros(len(counts), n, n, dtype=dtype)
    linked[batch[ends[0]], place[ends[0]], place[ends[1]]] = 1
    return DenseGraphs(linked, torch.arange(n) < counts[:, None])


def degrees_among(linked: Float[Tensor, "B n n"], present: Bool[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """How many present neighbours each present vertex has; 0 for absent ones."""
    alive = present.to(linked.dtype)
    return (linked @ alive[..., None])[..., 0] * alive


def is_independent(linked: Float[Tensor, "B n n"], chosen: Bool[Tensor, "B n"]) -> Bool[Tensor, " B"]:
    """Whether no two chosen vertices are linked."""
    return ~(degrees_among(linked, chosen) > 0).any(1)


def greedy_completion(graphs: DenseGraphs, chosen: Bool[Tensor, "B n"] | None = None) -> Bool[Tensor, "B n"]:
    """Adds vertices of the smallest degree among those still free until none is; from nothing it is the min-degree greedy set.

    A vertex is free that is present, not chosen, and linked with no chosen one. Of equal degrees the first vertex is taken.
    """
    linked, present = graphs
    chosen = torch.zeros_like(present) if chosen is None else chosen.clone()
    free = present & ~chosen & ((linked @ chosen.to(linked.dtype)[..., None])[..., 0] == 0)
    every = torch.arange(len(linked))
    while bool(free.any()):
        degree = degrees_among(linked, free).masked_fill(~free, torch.inf)
        best = degree.argmin(1)
        take = free[every, best]
        chosen[every, best] |= take
        free &= ~(linked[every, best] > 0)
        free[every, best] = False
    return chosen


def largest_independent_set(linked: Float[Tensor, "n n"]) -> int:
    """Vertices of a largest independent set of one graph, exactly, by integer programming: for graphs of up to a hundred vertices or so."""
    n = len(linked)
    low, high = torch.triu(linked, 1).nonzero().T.numpy()
    if not len(low):
        return n
    rows = np.zeros((len(low), n))
    rows[np.arange(len(low)), low] = rows[np.arange(len(low)), high] = 1
    found = milp(-np.ones(n), integrality=np.ones(n), bounds=Bounds(0, 1), constraints=LinearConstraint(rows, ub=1))
    return round(-found.fun)
