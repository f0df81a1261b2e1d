"""FastRP: a very sparse random projection of a degree-normalised multi-hop similarity is an embedding, without training.

    S = Σ_k a_k P^k L,   P = D^-1 A,   L = diag((d_j / 2m)^β)
    N_1 = P (L R),   N_k = P N_{k−1},   embedding = Σ_k a_k N_k

S is never formed. R (n, d) has entries ±√s with probability 1 / (2s) each, and 0 otherwise, s = √n. β < 0 makes hubs matter less; it acts
on the target's degree, the column. Cost O(K · E · d).

H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, Fast and Accurate Network Embeddings via Very Sparse Random Projection, 2019,
arXiv:1908.11512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from ziggurat.graphs.adjacency import adjacency


def very_sparse_projection(
    n: int, d: int, s: float, random_state: int | np.random.RandomState | None = 0
) -> sparse.csr_matrix:
    """R (n, d): √s with probability 1 / (2s), −√s with the same, else 0; drawn without touching the zeros.

    The gaps between non-zeros of a row of coins are geometric.
    """
    if not s >= 1:
        raise ValueError(f"s must be 1 or more, got {s}.")
    rng = check_random_state(random_state)
    total, places = n * d, [np.zeros(0, np.int64)]
    last = -1
    while last < total - 1:
        expected = (total - last) / s
        gaps = rng.geometric(1 / s, size=int(expected + 4 * np.sqrt(expected) + 8))
        places.append(last + np.cumsum(gaps))
        last = int(places[-1][-1])
    place = np.concatenate(places)
    place = place[place < total]
    values = np.sqrt(s) * rng.choice((-1.0, 1.0), size=len(place))
    return sparse.csr_matrix((values, (place // d, place % d)), shape=(n, d))


class FastRP(BaseEstimator):
    """The embedding as an estimator.

    Arguments:
        dimensions: d. A projection that is not trained needs more of them than a trained table.
        weights: a_1 … a_K; None puts the N_k beside each other instead of adding them up.
        beta: β in [−1, 0].
        normalize: gives the rows of each N_k length 1 before they are weighted.
        matrix: "transition" is P; "adjacency" takes A instead.
        sparsity: s; None is √n.
        standardize: brings every column to mean 0 and deviation 1 at the end.
        random_state: of R.

    After `fit`: `embedding_` (n, d) float32. Nodes without neighbours have zeros before the columns are standardised.
    """

    def __init__(
        self,
        dimensions: int = 256,
        weights: Sequence[float] | None = (0.0, 0.0, 1.0, 6.0),
        beta: float = -0.3,
        normalize: bool = True,
        matrix: Literal["transition", "adjacency"] = "transition",
        sparsity: float | None = None,
        standardize: bool = True,
        random_state: int = 0,
    ) -> None:
        self.dimensions, self.weights, self.beta, self.normalize = dimensions, weights, beta, normalize
        self.matrix, self.sparsity, self.standardize, self.random_state = matrix, sparsity, standardize, random_state

    def fit(self, graph: Any, y: Any = None) -> FastRP:
        """Embeds the nodes of a `torch_geometric` graph or of an adjacency matrix."""
        if self.dimensions < 1 or (self.weights is not None and not len(self.weights)):
            raise ValueError(
                f"dimensions must be 1 or more and weights not empty, got {self.dimensions}, {self.weights}."
            )
        if self.weights is not None and not np.isfinite(self.weights).all():
            raise ValueError(f"weights must be finite, got {self.weights}.")
        if not -1 <= self.beta <= 0:
            raise ValueError(f"beta must be between −1 and 0, got {self.beta}.")
        if self.matrix not in ("transition", "adjacency"):
            raise ValueError(f"matrix must be 'transition' or 'adjacency', got {self.matrix!r}.")
        edges = adjacency(graph)
        n = edges.shape[0]
        degree = np.asarray(edges.sum(1)).ravel()
        self.step_ = sparse.diags_array(inverse(degree)) @ edges if self.matrix == "transition" else edges
        self.step_ = sparse.csr_matrix(self.step_, dtype=np.float32)  # in float64 the products take twice the time
        s = np.sqrt(n) if self.sparsity is None else self.sparsity
        projection = very_sparse_projection(n, self.dimensions, s, self.random_state)
        share = degree / max(degree.sum(), 1e-300)
        scale = np.where(degree > 0, np.power(np.where(degree > 0, share, 1.0), self.beta), 0.0)
        self.projection_ = sparse.csr_matrix(sparse.diags_array(scale) @ projection, dtype=np.float32)
        raw = self._hops(self.step_)
        self.mean_, self.deviation_ = raw.mean(0), raw.std(0)
        self.embedding_ = self._finished(raw)
        return self

    def transform(self, rows: Any) -> Float[np.ndarray, "m d"]:
        """Vectors of new nodes, given as rows (m, n) of weights to the nodes of `fit`; those keep theirs. Costs as much as `fit`."""
        if not hasattr(self, "embedding_"):
            raise ValueError("this FastRP is not fitted; call fit(graph) first.")
        new = sparse.csr_matrix(rows, dtype=np.float64)
        if new.shape[1] != self.step_.shape[0]:
            raise ValueError(f"rows must have {self.step_.shape[0]} columns, one a node of fit, got {new.shape[1]}.")
        if self.matrix == "transition":
            new = sparse.csr_matrix(sparse.diags_array(inverse(np.asarray(new.sum(1)).ravel())) @ new)
        return self._finished(self._hops(new.astype(np.float32)))

    def _hops(self, last: sparse.csr_matrix) -> np.ndarray:
        """Σ_k a_k N_k, or the N_k side by side, where the last of the k steps is `last` (P itself, or the rows of new nodes)."""
        weights = (1.0,) * 4 if self.weights is None else tuple(self.weights)
        parts: list[np.ndarray] = []
        total = np.zeros((last.shape[0], self.dimensions), np.float32)
        before: Any = self.projection_
        for k, weight in enumerate(weights):
            own = dense(last @ before)
            if k + 1 < len(weights):
                before = own if last is self.step_ else dense(self.step_ @ before)
            if weight == 0:
                continue
            length = np.sqrt(np.einsum("nd,nd->n", own, own))[:, None] if self.normalize else np.ones((len(own), 1))
            weighted = own * (weight / np.maximum(length, 1e-12)).astype(np.float32)
            if self.weights is None:
                parts.append(weighted)
            else:
                total += weighted
        return np.concatenate(parts, 1) if parts else total

    def _finished(self, raw: np.ndarray) -> np.ndarray:
        if not self.standardize:
            return raw
        raw -= self.mean_
        raw /= np.where(self.deviation_ > 0, self.deviation_, 1)
        return raw


def dense(product: Any) -> np.ndarray:
    """A product of sparse matrices as an array; an array as it is."""
    return product.toarray() if sparse.issparse(product) else product


def inverse(x: np.ndarray) -> np.ndarray:
    """1 / x, and 0 where x is 0."""
    return np.divide(1.0, x, out=np.zeros_like(x), where=x > 0)
