"""Zero-shot by attributes: a class is a signature of yes and no, and each attribute is predicted on its own.

    score(c) = Σ_m log p(a_m = s_cm | x) − log p(a_m = s_cm)

DAP (direct) has a classifier for each attribute; IAP (indirect) one for the seen classes, p(a_m = 1 | x) = Σ_k p(k | x) s_km.
C. Lampert, H. Nickisch, S. Harmeling, Learning to Detect Unseen Object Classes by Between-Class Attribute Transfer, CVPR 2009.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

from ziggurat.learning.fewshot.zero_shot.base import ZeroShotClassifier

CERTAIN = 1e-12
"""Probabilities keep so far from 0 and 1."""


def signature_scores(
    present: Float[np.ndarray, "n a"], S: Float[np.ndarray, "C a"], prior: Float[np.ndarray, " a"]
) -> Float[np.ndarray, "n C"]:
    """Σ_m log p(a_m = s_m | x) / p(a_m = s_m).

    Arguments:
        present: p(a_m = 1 | x).
        S: signatures of zeros and ones.
        prior: p(a_m = 1).
    """
    p, q = present.clip(CERTAIN, 1 - CERTAIN), prior.clip(CERTAIN, 1 - CERTAIN)
    yes, no = np.log(p) - np.log(q), np.log1p(-p) - np.log1p(-q)
    return yes @ S.T + no @ (1 - S).T


def check_binary(S: np.ndarray) -> None:
    """Refuses vectors that are no signatures."""
    if not np.isin(S, (0, 1)).all():
        raise ValueError("S must hold zeros and ones, one attribute a column; for other vectors take ConSE or ESZSL.")


class DAP(ZeroShotClassifier):
    """Direct attribute prediction: a logistic regression for every attribute.

    Arguments:
        strength: C of the regressions, the inverse of their penalty.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        check_binary(S)
        self.prior_ = S.mean(0)
        # an attribute that all seen classes share has nothing to be told by, and keeps its prior
        self.varying_ = np.flatnonzero((self.prior_ > 0) & (self.prior_ < 1))
        fitted = [
            LogisticRegression(C=self.strength, max_iter=300, tol=1e-3).fit(X, S[index, m]) for m in self.varying_
        ]
        self.weights_ = np.array([f.coef_[0] for f in fitted]).reshape(len(fitted), X.shape[1])
        self.biases_ = np.array([f.intercept_[0] for f in fitted])

    def attribute_probabilities(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n a"]:
        """p(a_m = 1 | x)."""
        found = np.tile(self.prior_, (len(X), 1))
        found[:, self.varying_] = 1 / (1 + np.exp(-(X @ self.weights_.T + self.biases_).clip(-500, 500)))
        return found

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        check_binary(S)
        return signature_scores(self.attribute_probabilities(X), S, self.prior_)


class IAP(ZeroShotClassifier):
    """Indirect attribute prediction: attributes follow from the posteriors of the seen classes.

    Arguments:
        strength: C of the classifier of seen classes.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        check_binary(S)
        self.prior_ = S.mean(0)
        self.seen_ = LogisticRegression(C=self.strength, max_iter=300, tol=1e-3).fit(X, index)

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        check_binary(S)
        return signature_scores(self.seen_.predict_proba(X) @ self.semantics_, S, self.prior_)
