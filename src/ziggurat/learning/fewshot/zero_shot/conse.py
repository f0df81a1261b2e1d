"""ConSE: a sample's vector is the mean of the vectors of its likeliest seen classes, and its class the nearest by cosine.

    e(x) = Σ_{k in top T} p(k | x) s_k / Σ_{k in top T} p(k | x)

M. Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, 2013, arXiv:1312.5650.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

from ziggurat.learning.fewshot.zero_shot.base import ZeroShotClassifier, unit


def convex_combination(
    posteriors: Float[np.ndarray, "n K"], S: Float[np.ndarray, "K a"], top: int
) -> Float[np.ndarray, "n a"]:
    """The vectors of the `top` likeliest classes, weighted by their posteriors. With all classes it is the expectation."""
    order = np.argsort(-posteriors, axis=1, kind="stable")[:, :top]
    weights = np.zeros_like(posteriors)
    np.put_along_axis(weights, order, np.take_along_axis(posteriors, order, 1), 1)
    return weights / weights.sum(1, keepdims=True) @ S


class ConSE(ZeroShotClassifier):
    """The estimator, with a logistic regression as the classifier of seen classes.

    Arguments:
        top: T; more than there are seen classes takes all.
        strength: C of the regression.
    """

    def __init__(self, top: int = 10, strength: float = 1.0) -> None:
        self.top, self.strength = top, strength

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        if self.top < 1:
            raise ValueError(f"top must be 1 or more, got {self.top}.")
        self.seen_ = LogisticRegression(C=self.strength, max_iter=300, tol=1e-3).fit(X, index)

    def transform(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n a"]:
        """e(x)."""
        return convex_combination(self.seen_.predict_proba(X), self.semantics_, self.top)

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        return unit(self.transform(X)) @ unit(S).T
