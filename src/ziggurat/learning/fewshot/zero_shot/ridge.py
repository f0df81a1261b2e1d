"""Ridge regression between samples and class vectors, in both directions; the direction decides how many hubs there are.

    V → S: min Σ ‖Aᵀ x − s_y‖² + λ ‖A‖²,  nearest class vector to Aᵀ x
    S → V: min Σ ‖x − Bᵀ s_y‖² + λ ‖B‖²,  nearest mapped class vector Bᵀ s to x

Regression shrinks what it predicts. Shrunk samples lie near the middle, where a few class vectors are nearest to all of them; shrunk class
vectors have no such favourites.
Y. Shigeto et al., Ridge Regression, Hubness, and Zero-Shot Learning, ECML 2015, arXiv:1507.00825.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ziggurat.learning.fewshot.zero_shot.base import ZeroShotClassifier, unit


def ridge(
    given: Float[np.ndarray, "n p"], wanted: Float[np.ndarray, "n q"], penalty: float
) -> Float[np.ndarray, "p q"]:
    """The matrix A that minimises ‖given A − wanted‖² + penalty ‖A‖²."""
    if not penalty > 0:
        raise ValueError(f"penalty must be positive, got {penalty}.")
    return np.linalg.solve(given.T @ given + penalty * np.eye(given.shape[1]), given.T @ wanted)


def minus_squared_distances(x: Float[np.ndarray, "n d"], c: Float[np.ndarray, "C d"]) -> Float[np.ndarray, "n C"]:
    """−‖x_i − c_j‖² of all pairs."""
    return 2 * x @ c.T - np.square(x).sum(1)[:, None] - np.square(c).sum(1)


class SemanticRidge(ZeroShotClassifier):
    """V → S: samples are mapped to class vectors (of length 1).

    Arguments:
        penalty: λ, a sample.
    """

    def __init__(self, penalty: float = 0.01) -> None:
        self.penalty = penalty

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        self.weights_ = ridge(X, unit(S)[index], self.penalty * len(X))

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        return minus_squared_distances(X @ self.weights_, unit(S))


class VisualRidge(ZeroShotClassifier):
    """S → V: class vectors (of length 1) are mapped to where their samples should be.

    Arguments:
        penalty: λ, a sample.
    """

    def __init__(self, penalty: float = 0.01) -> None:
        self.penalty = penalty

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        self.weights_ = ridge(unit(S)[index], X, self.penalty * len(X))

    def prototypes(self, S: Float[np.ndarray, "C a"]) -> Float[np.ndarray, "C d"]:
        """Where the samples of each class should be."""
        return unit(S) @ self.weights_

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        return minus_squared_distances(X, self.prototypes(S))
