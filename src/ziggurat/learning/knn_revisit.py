"""k nearest neighbours beside a parametric classifier: their agreement weights its training, and their vote joins its prediction.

    p_knn(c | x) = Σ_i [y_i = c] exp(−d_i / T) / Σ_i exp(−d_i / T),   over the k nearest, d the squared distance of unit vectors
    p(c | x) = λ p_knn + (1 − λ) p_classifier

In training, with p = p_knn(y | x) among all other samples: CE · (1 − a log p), or CE · (1 − p)^g. The weight has no gradient.

M. Jia, B.-C. Chen, Z. Wu, C. Cardie, S. Belongie, S.-N. Lim, Rethinking Nearest Neighbors for Visual Classification, 2021,
arXiv:2112.08459.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array, check_X_y
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.memory.indexes import ExactIndex, unit
from ziggurat.memory.votes import tally

LOWEST_LOG = -100.0


class KNNClassifier(ClassifierMixin, BaseEstimator):
    """Soft vote of the nearest neighbours in unit vectors.

    Arguments:
        neighbours: k.
        temperature: T.
        metric: "l2" uses exp(−d / T) with the squared distance d = 2 − 2 cos, "cosine" exp(cos / T).
        centre: subtracts the training mean first (of queries too).
    """

    def __init__(
        self,
        neighbours: int = 16,
        temperature: float = 0.07,
        metric: Literal["l2", "cosine"] = "l2",
        centre: bool = False,
    ) -> None:
        self.neighbours, self.temperature, self.metric, self.centre = neighbours, temperature, metric, centre

    def fit(self, X: np.ndarray, y: np.ndarray, ids: np.ndarray | None = None) -> KNNClassifier:
        """Stores the training vectors; `ids` (N,) name them for `exclude_ids`, by default 0 … N − 1."""
        X, y = check_X_y(X, y, dtype=np.float32)
        if self.metric not in ("l2", "cosine"):
            raise ValueError(f"metric must be 'l2' or 'cosine', got {self.metric!r}.")
        if self.neighbours < 1 or not self.temperature > 0:
            raise ValueError(
                f"neighbours must be 1 or more and temperature positive, got {self.neighbours} and {self.temperature}."
            )
        self.n_features_in_ = X.shape[1]
        self.classes_, self.y_ = np.unique(y, return_inverse=True)
        self.ids_ = np.arange(len(X)) if ids is None else np.asarray(ids, np.int64)
        if len(self.ids_) != len(X) or len(np.unique(self.ids_)) < len(X):
            raise ValueError(
                f"every sample needs an id of its own; got {len(np.unique(self.ids_))} for {len(X)} samples."
            )
        self.mean_ = X.mean(0) if self.centre else np.zeros(X.shape[1], np.float32)
        self.index_ = ExactIndex(X.shape[1], "l2")
        self.index_.add(np.arange(len(X)), unit(X - self.mean_))
        return self

    def predict_proba(self, X: np.ndarray, exclude_ids: np.ndarray | None = None) -> Float[np.ndarray, "M C"]:
        """p_knn (M, C), columns as `classes_`.

        Arguments:
            exclude_ids: (M,) one id a query that must not vote: its own, when it is a training sample.
        """
        if not hasattr(self, "index_"):
            raise ValueError("this KNNClassifier is not fitted; call fit(X, y) first.")
        X = check_array(X, dtype=np.float32)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} columns, fit saw {self.n_features_in_}; give the same features.")
        more = 0 if exclude_ids is None else 1
        keys, distances = self.index_.search(unit(X - self.mean_), min(self.neighbours + more, len(self.y_)))
        silent = np.zeros(keys.shape, bool)
        if exclude_ids is not None:
            silent = self.ids_[keys] == np.broadcast_to(np.asarray(exclude_ids), len(X))[:, None]
            if keys.shape[1] > self.neighbours:
                silent[~silent.any(1), -1] = True  # where the sample itself is not among the nearest, the farthest goes
        if silent.all(1).any():
            raise ValueError("a sample was excluded from the vote on itself, and there is no other; fit more samples.")
        gain = np.where(silent, -np.inf, -distances if self.metric == "l2" else 1 - distances / 2)
        weights = np.exp((gain - gain.max(1, keepdims=True)) / self.temperature).astype(np.float32)
        votes = tally(self.y_[keys].astype(np.int64), weights, len(self.classes_))
        return votes / votes.sum(1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with the largest vote."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class JointKNNClassifier(ClassifierMixin, BaseEstimator):
    """Mixture of a classifier with probabilities and the neighbours' vote.

    Arguments:
        classifier: any scikit-learn classifier with `predict_proba`.
        knn: a `KNNClassifier`.
        mix: λ; 0 is the classifier alone, 1 the neighbours alone.
        strength: a; above 0 the classifier is fitted with the weights 1 − a log p (a pipeline hands them to its last step).
    """

    def __init__(self, classifier: Any = None, knn: Any = None, mix: float = 0.5, strength: float = 0.0) -> None:
        self.classifier, self.knn, self.mix, self.strength = classifier, knn, mix, strength

    def fit(self, X: np.ndarray, y: np.ndarray) -> JointKNNClassifier:
        """Fits both on the same samples, the classifier on those more whose neighbours disagree."""
        from sklearn.base import clone

        from ziggurat.learning.probes import linear_probe

        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix must be between 0 and 1, got {self.mix}.")
        X, y = check_X_y(X, y, dtype=np.float32)
        self.n_features_in_ = X.shape[1]
        self.knn_ = (KNNClassifier() if self.knn is None else clone(self.knn)).fit(X, y)
        self.classes_ = self.knn_.classes_
        classifier = linear_probe() if self.classifier is None else clone(self.classifier)
        if not self.strength:
            self.classifier_ = classifier.fit(X, y)
            return self
        p = torch.from_numpy(self.knn_.predict_proba(X, exclude_ids=self.knn_.ids_))
        weight = KNNWeightedCrossEntropy("reg", self.strength).weight(p, torch.from_numpy(self.knn_.y_)).numpy()
        step = f"{classifier.steps[-1][0]}__" if isinstance(classifier, Pipeline) else ""
        self.classifier_ = classifier.fit(X, y, **{f"{step}sample_weight": weight / weight.mean()})
        return self

    def predict_proba(self, X: np.ndarray) -> Float[np.ndarray, "M C"]:
        """λ p_knn + (1 − λ) p_classifier."""
        if not hasattr(self, "knn_"):
            raise ValueError("this JointKNNClassifier is not fitted; call fit(X, y) first.")
        X = check_array(X, dtype=np.float32)
        return self.mix * self.knn_.predict_proba(X) + (1 - self.mix) * self.classifier_.predict_proba(X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class KNNWeightedCrossEntropy(nn.Module):
    """Cross-entropy in which samples whose neighbours disagree count more.

    Arguments:
        kind: "reg" multiplies by 1 − a log p (log not below −100), "focal" by (1 − p)^g.
        strength: a or g; 0 is plain cross-entropy.

    Shapes: logits (B, C), p_knn (B, C), y (B,) -> (B,).
    """

    def __init__(self, kind: Literal["reg", "focal"] = "reg", strength: float = 1.0) -> None:
        super().__init__()
        if kind not in ("reg", "focal") or strength < 0:
            raise ValueError(f"kind must be 'reg' or 'focal' and strength not negative, got {kind!r} and {strength}.")
        self.kind, self.strength = kind, strength

    def weight(self, p_knn: Float[Tensor, "B C"], y: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The factor of each sample, without gradient."""
        p = p_knn.detach().gather(1, y[:, None])[:, 0]
        if self.kind == "focal":
            return (1 - p).clamp_min(0) ** self.strength
        return 1 - self.strength * p.log().clamp_min(LOWEST_LOG)

    def forward(
        self, logits: Float[Tensor, "B C"], p_knn: Float[Tensor, "B C"], y: Int64[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        return self.weight(p_knn, y) * cross_entropy(logits, y, reduction="none")
