"""node2vec: two parameters bend a random walk between staying near and moving outward; the vectors follow from what walks meet.

Having come t → v, the next node x among the neighbours of v has the weight

    w_vx · α,   α = 1/p if x = t,   1 if t → x is an edge,   1/q otherwise

p > 1 avoids the way back, q > 1 stays near t, q < 1 moves away from it. Steps are drawn by rejection: x is proposed from v's alias
table of first order and accepted with α over its maximum, so that memory stays linear in the edges. Then skip-gram with negative
sampling.

A. Grover, J. Leskovec, node2vec: Scalable Feature Learning for Networks, 2016, arXiv:1607.00653.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator

from ziggurat.data.seeds import derive
from ziggurat.graphs.adjacency import adjacency
from ziggurat.graphs.embeddings._alias import alias_tables
from ziggurat.graphs.embeddings._biased import second_order_walks, step_weights
from ziggurat.graphs.embeddings.skip_gram import train_skip_gram

Operator = Literal["average", "hadamard", "l1", "l2"]


def check_bias(p: float, q: float) -> None:
    """Raises a `ValueError` unless p and q are positive and finite."""
    if not (0 < p < np.inf and 0 < q < np.inf):
        raise ValueError(f"p and q must be positive and finite, got {p} and {q}.")


def biased_walks(
    graph: Any, walks: int = 10, length: int = 80, p: float = 1.0, q: float = 1.0, random_state: int = 0
) -> Int64[np.ndarray, "W L"]:
    """Second-order walks (walks · n, length) from every node, −1 behind a dead end.

    Arguments:
        graph: a `torch_geometric` graph or an adjacency matrix, directed and weighted if it likes.
        walks: from every node, each time in a new random order.
        length: nodes a walk.
        p, q: return and in-out parameter.
    """
    check_bias(p, q)
    if walks < 1 or length < 2:
        raise ValueError(f"walks must be 1 or more and length 2 or more, got {walks} and {length}.")
    edges = adjacency(graph)
    edges.sort_indices()
    rng = np.random.default_rng(derive(random_state, "starts"))
    starts = np.concatenate([rng.permutation(edges.shape[0]) for _ in range(walks)])
    indptr, indices = edges.indptr.astype(np.int64), edges.indices.astype(np.int64)
    accept, alias = alias_tables(indptr, edges.data)
    seed = np.uint64(derive(random_state, "walks") | 1)
    return second_order_walks(
        indptr, indices, edges.data, accept, alias, starts, length, float(p), float(q), seed
    )  # fmt: skip


def step_probabilities(
    graph: Any, previous: int, current: int, p: float = 1.0, q: float = 1.0
) -> tuple[Int64[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """(neighbours of `current`, probability of a step to each) for a walk that came from `previous`."""
    check_bias(p, q)
    edges = adjacency(graph)
    edges.sort_indices()
    indptr, indices = edges.indptr.astype(np.int64), edges.indices.astype(np.int64)
    weights = step_weights(indptr, indices, edges.data, previous, current, float(p), float(q))
    return indices[indptr[current] : indptr[current + 1]], weights / max(weights.sum(), 1e-300)


def edge_features(
    vectors: Float[np.ndarray, "N d"], pairs: Int64[np.ndarray, "2 P"], operator: Operator = "hadamard"
) -> Float[np.ndarray, "P d"]:
    """A vector for every pair of nodes, the same in both directions: (u + v) / 2, u · v, |u − v| or (u − v)², each number for itself."""
    u, v = vectors[pairs[0]], vectors[pairs[1]]
    if operator == "average":
        return (u + v) / 2
    if operator == "hadamard":
        return u * v
    if operator == "l1":
        return np.abs(u - v)
    if operator == "l2":
        return (u - v) ** 2
    raise ValueError(f"operator must be 'average', 'hadamard', 'l1' or 'l2', got {operator!r}.")


class Node2Vec(BaseEstimator):
    """The embedding as an estimator.

    Arguments:
        dimensions: of the vectors.
        walks, length: walks from every node, and nodes a walk.
        p, q: return and in-out parameter; the paper chooses them out of 0.25 … 4 on a tenth of the labels. p = q = 1 is DeepWalk.
        window, negative, epochs, lr: of `train_skip_gram`.
        random_state: of walks and training.

    After `fit`: `embedding_` (n, dimensions) float32.
    """

    def __init__(
        self,
        dimensions: int = 128,
        walks: int = 10,
        length: int = 80,
        p: float = 1.0,
        q: float = 1.0,
        window: int = 10,
        negative: int = 5,
        epochs: int = 1,
        lr: float = 0.025,
        random_state: int = 0,
    ) -> None:
        self.dimensions, self.walks, self.length, self.p, self.q = dimensions, walks, length, p, q
        self.window, self.negative, self.epochs, self.lr = window, negative, epochs, lr
        self.random_state = random_state

    def fit(self, graph: Any, y: Any = None) -> Node2Vec:
        """Walks and trains on a `torch_geometric` graph or an adjacency matrix."""
        edges = adjacency(graph)
        walked = biased_walks(edges, self.walks, self.length, self.p, self.q, self.random_state)
        self.embedding_ = train_skip_gram(
            walked, edges.shape[0], self.dimensions, self.window, self.negative, self.epochs, self.lr, self.random_state
        )
        return self

    def edge_features(
        self, pairs: Int64[np.ndarray, "2 P"], operator: Operator = "hadamard"
    ) -> Float[np.ndarray, "P d"]:
        """`edge_features` of this embedding."""
        if not hasattr(self, "embedding_"):
            raise ValueError("this Node2Vec is not fitted; call fit(graph) first.")
        return edge_features(self.embedding_, pairs, operator)
