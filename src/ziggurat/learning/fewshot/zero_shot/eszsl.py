"""ESZSL: a bilinear compatibility in closed form; one line that is hard to beat.

    W = (X Xᵀ + γ I)⁻¹ X Y Sᵀ (S Sᵀ + λ I)⁻¹,   X (d, n), Y (n, C) in {−1, 1}, S (a, C)

It minimises ‖Xᵀ W S − Y‖² + γ ‖W S‖² + λ ‖Xᵀ W‖² + γ λ ‖W‖².
B. Romera-Paredes, P. Torr, An Embarrassingly Simple Approach to Zero-Shot Learning, ICML 2015.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ziggurat.learning.fewshot.zero_shot.base import ZeroShotClassifier


def eszsl_weights(
    X: Float[np.ndarray, "n d"], Y: Float[np.ndarray, "n C"], S: Float[np.ndarray, "C a"], gamma: float, lam: float
) -> Float[np.ndarray, "d a"]:
    """W, from samples and class vectors as rows."""
    left = X.T @ X + gamma * np.eye(X.shape[1])
    right = S.T @ S + lam * np.eye(S.shape[1])
    return np.linalg.solve(right, np.linalg.solve(left, X.T @ Y @ S).T).T


class ESZSL(ZeroShotClassifier):
    """The estimator.

    Arguments:
        gamma, lam: γ of samples and λ of class vectors, both positive.
    """

    def __init__(self, gamma: float = 1.0, lam: float = 1.0) -> None:
        self.gamma, self.lam = gamma, lam

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        if not min(self.gamma, self.lam) > 0:
            raise ValueError(f"gamma and lam must be positive, got {self.gamma} and {self.lam}.")
        self.weights_ = eszsl_weights(X, 2 * np.eye(len(S))[index] - 1, S, self.gamma, self.lam)

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        return X @ self.weights_ @ S.T
