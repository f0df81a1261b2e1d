"""LINE: nodes are near when they are linked (first order) or when they share neighbours (second order); edges are drawn, not weighted.

    first order   O_1 = −Σ w_ij log σ(u_i · u_j)
    second order  O_2 = −Σ w_ij log p(j | i),   p(j | i) = softmax_j(c_j · u_i)

Both by negative sampling, noise ∝ degree^0.75. An edge is drawn with probability w_ij / Σ w from an alias table and then counts as
one of weight 1: gradients do not spread over decades as the weights do, and one learning rate serves all.

J. Tang, M. Qu, M. Wang, M. Zhang, J. Yan, Q. Mei, LINE: Large-scale Information Network Embedding, 2015, arXiv:1503.03578.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import sparse
from sklearn.base import BaseEstimator

from ziggurat.data.seeds import derive
from ziggurat.graphs.adjacency import adjacency
from ziggurat.graphs.embeddings._alias import alias_tables
from ziggurat.graphs.embeddings._edge_sampling import train_on_edges

Order = Literal["first", "second", "both"]


class Proximity(NamedTuple):
    """Vectors of nodes, and what they are compared with: contexts, or in the first order the vectors themselves."""

    vectors: Float[np.ndarray, "N d"]
    contexts: Float[np.ndarray, "N d"]


def with_two_hops(edges: sparse.csr_matrix, min_degree: int) -> sparse.csr_matrix:
    """More neighbours for nodes that have few: w_ij = Σ_k w_ik w_kj / d_k, the largest first, until the node has `min_degree`.

    In an undirected graph the new edges go both ways.
    """
    if min_degree < 0:
        raise ValueError(f"min_degree must be 0 or more, got {min_degree}.")
    counts = np.diff(edges.indptr)
    if not (counts < min_degree).any():
        return edges
    out = np.asarray(edges.sum(1)).ravel()
    step = sparse.diags_array(np.divide(1.0, out, out=np.zeros_like(out), where=out > 0)) @ edges
    rows, columns, values = [], [], []
    for i in np.flatnonzero(counts < min_degree):
        own = edges.indices[edges.indptr[i] : edges.indptr[i + 1]]
        far = sparse.coo_matrix(edges[[i]] @ step)
        new = ~np.isin(far.col, np.append(own, i))
        column, value = far.col[new], far.data[new]
        best = np.lexsort((column, -value))[: min_degree - counts[i]]
        rows.append(np.full(len(best), i))
        columns.append(column[best])
        values.append(value[best])
    added = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=edges.shape
    )
    if symmetric(edges):
        added = added.maximum(added.T)
    return sparse.csr_matrix(edges + added)


def symmetric(edges: sparse.csr_matrix) -> bool:
    """Whether every edge goes both ways with the same weight."""
    apart = abs(edges - edges.T)
    return not apart.nnz or bool(apart.max() <= 1e-9 * edges.max())


def train_proximity(
    edges: sparse.csr_matrix,
    order: Literal["first", "second"],
    dimensions: int = 128,
    samples: int = 1_000_000,
    negative: int = 5,
    lr: float = 0.025,
    random_state: int = 0,
    draw_by: Float[np.ndarray, " E"] | None = None,
    scale: Float[np.ndarray, " E"] | None = None,
    most: float = np.inf,
) -> Proximity:
    """Vectors of one order, trained on `samples` drawn edges.

    Arguments:
        edges: adjacency matrix; an undirected edge stands in it twice.
        lr: at the start; it falls linearly with every sample, to 1e-4 of it.
        draw_by: what edges are drawn in proportion to; None is their weight, as in the paper.
        scale, most: the step on edge e is the rate times scale[e] and at most `most`; None is ones. With `draw_by` of ones and the weights
            as `scale` it is ordinary stochastic gradient descent on a weighted graph.
    """
    if dimensions < 1 or min(samples, negative) < 0:
        raise ValueError(
            f"dimensions must be 1 or more, samples and negative 0 or more, got {dimensions}, {samples}, {negative}."
        )
    if not lr > 0:
        raise ValueError(f"lr must be positive, got {lr}.")
    rng = np.random.default_rng(derive(random_state, "vectors", order))
    vectors = ((rng.random((edges.shape[0], dimensions)) - 0.5) / dimensions).astype(np.float32)
    contexts = vectors if order == "first" else np.zeros_like(vectors)
    if not edges.nnz or not samples:
        return Proximity(vectors, contexts)
    coo = sparse.coo_matrix(edges)
    ends = np.stack([coo.row, coo.col]).astype(np.int64)
    known = np.flatnonzero(degree := np.asarray(edges.sum(1)).ravel())
    whole = [np.array([0, len(coo.data)]), np.array([0, edges.shape[0]])]
    noise = np.zeros(edges.shape[0])
    noise[known] = degree[known] ** 0.75
    weights = coo.data if draw_by is None else np.asarray(draw_by, dtype=np.float64)
    train_on_edges(
        ends, *alias_tables(whole[0], weights), *alias_tables(whole[1], noise), vectors, contexts, samples, negative, lr,
        np.ones(len(coo.data)) if scale is None else np.asarray(scale, dtype=np.float64), most,
        np.uint64(derive(random_state, "train", order) | 1),
    )  # fmt: skip
    return Proximity(vectors, contexts)


class LINE(BaseEstimator):
    """The embedding as an estimator.

    Arguments:
        dimensions: of each order's vectors.
        order: "first" (undirected graphs only), "second", or "both", trained apart, each normalised to length 1, side by side.
        samples: drawn edges an order; None is 100 for every edge. The paper draws billions.
        negative: random nodes that each edge is told apart from.
        lr: rate at the start.
        min_degree: nodes with fewer neighbours get some of two hops; 0 leaves the graph as it is.
        random_state: of first vectors and draws.

    After `fit`: `embedding_` (n, dimensions) or (n, 2 · dimensions) float32, and with the second order `context_` (n, dimensions).
    """

    def __init__(
        self,
        dimensions: int = 128,
        order: Order = "both",
        samples: int | None = None,
        negative: int = 5,
        lr: float = 0.025,
        min_degree: int = 0,
        random_state: int = 0,
    ) -> None:
        self.dimensions, self.order, self.samples, self.negative = dimensions, order, samples, negative
        self.lr, self.min_degree, self.random_state = lr, min_degree, random_state

    def fit(self, graph: Any, y: Any = None) -> LINE:
        """Embeds the nodes of a `torch_geometric` graph or of an adjacency matrix."""
        if self.order not in ("first", "second", "both"):
            raise ValueError(f"order must be 'first', 'second' or 'both', got {self.order!r}.")
        edges = adjacency(graph)
        if self.order != "second" and not symmetric(edges):
            raise ValueError("the first order is for undirected graphs; take order='second', or add the reverse edges.")
        edges = with_two_hops(edges, self.min_degree)
        samples = 100 * edges.nnz if self.samples is None else self.samples
        found = []
        for order in ("first", "second"):
            if self.order in (order, "both"):
                own = train_proximity(
                    edges, order, self.dimensions, samples, self.negative, self.lr, self.random_state
                )  # fmt: skip
                found.append(own.vectors)
                if order == "second":
                    self.context_ = own.contexts
        self.embedding_ = found[0] if len(found) == 1 else np.concatenate([unit(x) for x in found], 1)
        return self


def unit(x: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N d"]:
    """Rows of length 1; rows of zeros stay."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
