"""What hyperbolic embeddings start from and end with: hops between the nodes of a graph, and distances in the Poincaré ball."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.csgraph import shortest_path

from ziggurat.graphs.adjacency import adjacency


def undirected(graph: Any) -> sparse.csr_matrix:
    """Adjacency (n, n) of zeros and ones, the same in both directions, without loops."""
    edges = adjacency(graph)
    both = sparse.csr_matrix(((edges + edges.T) > 0).astype(np.float64))
    both.setdiag(0)
    both.eliminate_zeros()
    return both


def hop_distances(graph: Any, sources: np.ndarray | None = None) -> Float[np.ndarray, "s n"]:
    """Fewest edges on a path from each source (all nodes, by default) to each node, infinite where no path leads.

    Directions and weights do not matter.
    """
    return np.atleast_2d(shortest_path(undirected(graph), directed=False, unweighted=True, indices=sources))


def target_distances(graph: Any) -> Float[np.ndarray, "n n"]:
    """What is to be embedded: hops of a graph, or a symmetric matrix of distances as it is.

    Nodes that no path joins count as one step farther apart than the farthest that a path joins. A missing distance is NaN.
    """
    if not isinstance(graph, np.ndarray):
        hops = hop_distances(graph)
        reached = np.isfinite(hops)
        return np.where(reached, hops, hops[reached].max() + 1)
    matrix = np.asarray(graph, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"distances must be a square matrix of at least one row, got the shape {matrix.shape}.")
    known = matrix[~np.isnan(matrix)]
    if not np.isfinite(known).all() or (known < 0).any() or np.diag(matrix).any():
        raise ValueError("distances must be finite and not negative, with zeros on the diagonal.")
    if not np.allclose(matrix, matrix.T, equal_nan=True):
        raise ValueError("distances must be symmetric.")
    return matrix


def ball_distances(x: Float[np.ndarray, "s d"], y: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "s n"]:
    """d(x, y) = arcosh(1 + 2|x − y|² / ((1 − |x|²)(1 − |y|²))) of every pair, in float64."""
    apart = np.square(x[:, None] - y[None]).sum(2)
    edge = (1 - np.square(x).sum(1))[:, None] * (1 - np.square(y).sum(1))[None]
    return 2 * np.arcsinh(np.sqrt(apart / edge))
