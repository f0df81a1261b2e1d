"""Calibrated stacking: seen classes win too often, so a constant is subtracted from their scores.

    ŷ = argmax_c f_c(x) − γ [c is seen];   γ = 0 is the plain classifier, γ → ∞ knows unseen classes only

The constant is chosen on classes that were held out of training, never on those of the test.
W.-L. Chao, S. Changpinyo, B. Gong, F. Sha, An Empirical Study and Analysis of Generalized Zero-Shot Learning …, 2016, arXiv:1605.04253.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from sklearn.base import clone

from ziggurat.learning.fewshot.zero_shot.base import ZeroShotClassifier
from ziggurat.learning.fewshot.zero_shot.measures import SeenUnseen


class CalibratedStacking(ZeroShotClassifier):
    """Any zero-shot classifier with a constant between seen and unseen classes.

    Arguments:
        estimator: the classifier.
        constant: γ, in units of its scores.
    """

    def __init__(self, estimator: ZeroShotClassifier, constant: float = 0.0) -> None:
        self.estimator, self.constant = estimator, constant

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        self.estimator_ = clone(self.estimator).fit(X, index, S)

    def seen(self, S: np.ndarray) -> Bool[np.ndarray, " C"]:
        """Which candidates are classes of the training: those whose vector is one of theirs."""
        return (np.asarray(S)[:, None] == self.semantics_[None]).all(2).any(1)

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        return self.estimator_.decision_function(X, S) - self.constant * self.seen(S)

    def best_constant(self, X: np.ndarray, y: np.ndarray, S: np.ndarray) -> float:
        """The γ with the highest H on samples of validation.

        Arguments:
            X: samples of training classes (held-out ones of them) and of classes that were held out.
            y: rows of S.
            S: vectors of both.
        """
        return SeenUnseen(self.estimator_.decision_function(X, S), np.asarray(y), self.seen(S)).best_constant()
