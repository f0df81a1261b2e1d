"""Graphs as sparse matrices: what embeddings are fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from ziggurat.graphs.propagation import check_edges


def adjacency(graph: Any) -> sparse.csr_matrix:
    """Adjacency (n, n) float64 of a `torch_geometric` graph or of a square sparse matrix; entry (i, j) is the weight of the edge i → j.

    Of repeated edges the first counts; edges of weight zero are none. Raises a `ValueError` for anything else.
    """
    if sparse.issparse(graph):
        matrix = sparse.coo_matrix(graph, dtype=np.float64)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"an adjacency matrix must be square, got {matrix.shape[0]} × {matrix.shape[1]}.")
    elif hasattr(graph, "edge_index"):
        check_edges(graph.edge_index, int(graph.num_nodes))
        source, target = graph.edge_index.numpy()
        weight = getattr(graph, "edge_weight", None)
        values = np.ones(len(source)) if weight is None else weight.double().numpy()
        matrix = sparse.coo_matrix((values, (source, target)), shape=(graph.num_nodes,) * 2)
    else:
        raise ValueError(
            f"a graph is a torch_geometric Data or a square scipy sparse matrix, not {type(graph).__name__}."
        )
    if not matrix.shape[0]:
        raise ValueError("the graph has no nodes; give one with at least one.")
    place = matrix.row.astype(np.int64) * matrix.shape[1] + matrix.col
    once = np.unique(place, return_index=True)[1]
    matrix = sparse.csr_matrix((matrix.data[once], (matrix.row[once], matrix.col[once])), shape=matrix.shape)
    matrix.eliminate_zeros()
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        raise ValueError("edge weights must be finite and not negative; drop or repair those edges.")
    return matrix
