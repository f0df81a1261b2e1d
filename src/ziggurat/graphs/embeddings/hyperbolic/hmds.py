"""Hyperbolic multidimensional scaling: exact hyperbolic distances give back their points from one eigendecomposition.

On the hyperboloid cosh d(x, y) = x₀ y₀ − ⟨x, y⟩, hence

    Y = cosh(s · d) = u uᵀ − X Xᵀ,   X = the most negative eigenvectors times √−λ,   point = X / (1 + √(1 + |X|²))

with u from the one positive eigenvalue. Distances that are not hyperbolic are projected.

F. Sala, C. De Sa, A. Gu, C. Ré, Representation Tradeoffs for Hyperbolic Embeddings, 2018, arXiv:1804.03329.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from sklearn.base import BaseEstimator

from ziggurat.graphs.embeddings.hyperbolic.distances import ball_distances, target_distances


class HMDS(BaseEstimator):
    """The scaling as an estimator.

    Arguments:
        dim: of the ball.
        scale: factor from wanted distances to hyperbolic ones; a larger one bends more, and cosh must not overflow.

    After `fit`: `embedding_` (n, dim) float64 in the unit ball. Dimensions for which no negative eigenvalue is left are 0.
    """

    def __init__(self, dim: int = 2, scale: float = 1.0) -> None:
        self.dim, self.scale = dim, scale

    def fit(self, graph: Any, y: Any = None) -> HMDS:
        """Embeds the nodes of a graph by their hops, or the rows of a symmetric matrix (n, n) of distances."""
        if self.dim < 1 or not 0 < self.scale < np.inf:
            raise ValueError(f"dim must be 1 or more and scale positive and finite, got {self.dim} and {self.scale}.")
        wanted = target_distances(graph)
        if np.isnan(wanted).any():
            raise ValueError("a distance is missing (NaN); HMDS needs them all, PoincareEmbedding does not.")
        if wanted.max() * self.scale > 300:
            raise ValueError(
                f"the largest distance times scale is {wanted.max() * self.scale:.0f}; beyond 300 cosh is too large, lower scale."
            )
        values, vectors = eigh(np.cosh(wanted * self.scale))
        count = min(self.dim, len(values))
        x = np.zeros((len(values), self.dim))
        x[:, :count] = np.sqrt(np.maximum(-values[:count], 0)) * vectors[:, :count]
        self.embedding_ = x / (1 + np.sqrt(1 + np.square(x).sum(1, keepdims=True)))
        return self

    def distances(self, node: int) -> Float[np.ndarray, " n"]:
        """Embedded distances of a row by the scale, to be compared with those wanted."""
        if not hasattr(self, "embedding_"):
            raise ValueError("this HMDS is not fitted; call fit(graph) first.")
        return ball_distances(self.embedding_[[node]], self.embedding_)[0] / self.scale
