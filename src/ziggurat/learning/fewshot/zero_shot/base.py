"""What all zero-shot classifiers share: they learn from seen classes and vectors of these, and predict among any classes that have vectors.

Y. Fu, T. Xiang, Y.-G. Jiang, X. Xue, L. Sigal, S. Gong, Recent Advances in Zero-shot Recognition, 2017, arXiv:1710.04837.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_array, check_X_y


class ZeroShotClassifier(ClassifierMixin, BaseEstimator, ABC):
    """`fit(X, y, S)`, then `predict(X, S)` among other classes.

    A subclass says how it learns (`_learn`) and how well each class fits (`_scores`).

    After `fit`: `classes_`, the labels; `semantics_` (K, a), their vectors.
    """

    def fit(self, X: np.ndarray, y: np.ndarray, S: np.ndarray | None = None) -> ZeroShotClassifier:
        """Learns from seen classes.

        Arguments:
            X: features (n, d).
            y: a label for each.
            S: a vector (attributes, a word's) for each class, in the order of the sorted labels; None gives every class one of its own,
                which makes an ordinary classifier.
        """
        X, y = check_X_y(X, y, dtype=np.float64)
        self.classes_, index = np.unique(y, return_inverse=True)
        S = np.eye(len(self.classes_)) if S is None else check_array(S, dtype=np.float64)
        if len(S) != len(self.classes_):
            raise ValueError(
                f"y has {len(self.classes_)} classes and S {len(S)} rows; give one row for each, in sorted order."
            )
        self.n_features_in_, self.semantics_ = X.shape[1], S
        self._learn(X, index.astype(np.int64), S)
        return self

    def decision_function(self, X: np.ndarray, S: np.ndarray | None = None) -> Float[np.ndarray, "n C"]:
        """How well each class fits each sample; S as of `predict`."""
        if not hasattr(self, "semantics_"):
            raise ValueError(f"this {type(self).__name__} is not fitted; call fit(X, y, S) first.")
        X = check_array(X, dtype=np.float64)
        S = self.semantics_ if S is None else check_array(S, dtype=np.float64)
        for name, found, wanted in (("X", X, self.n_features_in_), ("S", S, self.semantics_.shape[1])):
            if found.shape[1] != wanted:
                raise ValueError(
                    f"{name} has {found.shape[1]} columns, fit saw {wanted}; give the same kind of vectors."
                )
        return self._scores(X, S)

    def predict(self, X: np.ndarray, S: np.ndarray | None = None) -> np.ndarray:
        """The class that fits best.

        Arguments:
            S: a vector for each candidate class; the result is then the number of its row. None: labels of the seen classes.
        """
        best = self.decision_function(X, S).argmax(1)
        return self.classes_[best] if S is None else best

    @abstractmethod
    def _learn(self, X: Float[np.ndarray, "n d"], index: Int64[np.ndarray, " n"], S: Float[np.ndarray, "K a"]) -> None:
        """From features, the number of each one's class, and the vectors of all classes."""

    @abstractmethod
    def _scores(self, X: Float[np.ndarray, "n d"], S: Float[np.ndarray, "C a"]) -> Float[np.ndarray, "n C"]:
        """How well each class fits."""


def unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1; rows of zeros stay. A class with a long vector would be near to everything."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
