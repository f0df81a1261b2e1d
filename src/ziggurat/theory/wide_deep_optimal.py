"""Infinitely wide and deep classifiers: depending on the activation they are a majority vote, the nearest neighbour, or a singular kernel.

With S_0 = K_0 = ⟨x, x'⟩ and the recursion of the tangent kernel, the classifier sign(y K_L⁻¹ K_L(X, x)) becomes, as L → ∞:
for D(0) ≠ 0 the majority; for D(0) = D'(0) = 0 the nearest neighbour; and for D(0) = 0 < D'(0) < 1 < D'(1)

    sign(Σ y_i R(|x − x_i|) |x − x_i|^−α),   α = −2 log D'(0) / log D'(1)

with R bounded. It is Bayes-consistent on the sphere S^d exactly when α = d, and an explicit activation achieves that.
Data lie on the unit sphere, in its positive orthant.

A. Radhakrishnan, M. Belkin, C. Uhler, Wide and Deep Neural Networks Achieve Optimality for Classification, 2022, arXiv:2204.14126.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_array, check_X_y

from ziggurat.theory.dual_activation import Dual, NormalisedReLU, Polynomial, polynomial
from ziggurat.theory.ntk import KernelTable

SUM_RULE = 30  # from this depth on the Gram matrix of a singular kernel is diagonal


def optimal_activation(d: int) -> Polynomial:
    """The activation whose limit is Bayes-consistent on S^d: α = d.

    d ≥ 2: c_1 = c_3 = 2^(−d/4), c_2 = √(1 − 2 · 2^(−d/2)); d = 1: c_1² = 2^−½, c_4² and c_5² so that D(1) = 1 and D'(1) = 2.
    """
    if d < 1:
        raise ValueError(f"d is the dimension of the sphere, 1 or more, got {d}.")
    if d == 1:
        first = 2**-0.5
        fifth = 2 - first - 4 * (1 - first)
        return polynomial({1: first**0.5, 4: (1 - first - fifth) ** 0.5, 5: fifth**0.5})
    outer = 2 ** (-d / 2)
    return polynomial({1: outer**0.5, 2: max(1 - 2 * outer, 0.0) ** 0.5, 3: outer**0.5})


def dual_of(activation: dict[int, float] | str | int) -> Dual:
    """The dual of "relu", of coefficients {degree: c}, or of `optimal_activation(d)` for a whole number d."""
    if isinstance(activation, str):
        if activation != "relu":
            raise ValueError(f"activation must be 'relu', coefficients, or a dimension, got {activation!r}.")
        return NormalisedReLU()
    return optimal_activation(activation) if isinstance(activation, int) else polynomial(activation)


def singular_exponent(dual: Dual) -> float:
    """α of the limit of a singular-kernel activation."""
    if dual.at_zero != 0 or not 0 < dual.slope_at_zero < 1 < dual.slope_at_one:
        raise ValueError("only activations with D(0) = 0 < D'(0) < 1 < D'(1) have a singular kernel; see limit_kind.")
    return float(-2 * np.log(dual.slope_at_zero) / np.log(dual.slope_at_one))


def limit_kind(dual: Dual) -> str:
    """What the classifier becomes as depth grows: "majority", "nearest neighbour" or "singular kernel"."""
    if dual.at_zero != 0:
        return "majority"
    return "nearest neighbour" if dual.slope_at_zero == 0 else "singular kernel"


class _OnSphere(ClassifierMixin, BaseEstimator):
    """What the classifiers below share: data on the positive orthant of the unit sphere, and scores by class."""

    def _rows(self, X: np.ndarray) -> Float64[np.ndarray, "n d"]:
        X = check_array(X, dtype=np.float64)
        if X.min() < 0 or not np.allclose((X**2).sum(1), 1, atol=1e-6):
            raise ValueError(
                "rows must be unit vectors without negative entries; make them so, for instance X / ‖X‖ of X ≥ 0."
            )
        return X

    def fit(self, X: np.ndarray, y: np.ndarray) -> _OnSphere:
        """Keeps the training data (and solves for the weights where the depth asks for it)."""
        X, y = check_X_y(X, y, dtype=np.float64)
        self.X_ = self._rows(X)
        self.n_features_in_ = X.shape[1]
        self.classes_, self.y_ = np.unique(y, return_inverse=True)
        self._prepare()
        return self

    def _prepare(self) -> None:
        """What follows from the training data alone. By default nothing."""

    def _scores(self, t: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n k"]:
        raise TypeError(f"{type(self).__name__} does not score correlations.")

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with the largest score."""
        if not hasattr(self, "X_"):
            raise ValueError(f"this {type(self).__name__} is not fitted; call fit(X, y) first.")
        X = self._rows(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} columns, fit saw {self.n_features_in_}; give the same features.")
        best = self._scores(np.clip(X @ self.X_.T, 0, 1)).argmax(1)
        return self.classes_[best]

    def _sum_by_class(self, log_weights: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n k"]:
        """log of the summed weights of each class: the larger is the one-versus-rest winner too."""
        return np.stack([logsumexp(log_weights[:, self.y_ == k], axis=1) for k in range(len(self.classes_))], 1)


class DeepNTK(_OnSphere):
    """The classifier of the tangent kernel at depth L: sign(y K_L⁻¹ K_L(X, x)), one class against the rest.

    Arguments:
        activation: coefficients {degree: c}, "relu", or an int d for `optimal_activation(d)`.
        depth: L. Beyond 30 layers the Gram matrix of a polynomial activation without constant is diagonal, and its inverse drops out.
    """

    def __init__(self, activation: dict[int, float] | str | int = 2, depth: int = 1000) -> None:
        self.activation, self.depth = activation, depth

    def _prepare(self) -> None:
        self.dual_ = dual_of(self.activation)
        self.table_ = KernelTable(self.dual_, self.depth)
        if limit_kind(self.dual_) == "majority" or self.depth < SUM_RULE:
            gram = np.exp(self.table_(np.clip(self.X_ @ self.X_.T, 0, 1)) - self.table_(np.ones(1)))
            targets = np.where(self.y_[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
            self.weights_ = np.linalg.solve(gram + 1e-12 * np.eye(len(gram)), targets)

    def _scores(self, t: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n k"]:
        log_k = self.table_(t)
        if hasattr(self, "weights_"):
            return np.exp(log_k - self.table_(np.ones(1))) @ self.weights_
        return self._sum_by_class(log_k)


class SingularKernelClassifier(_OnSphere):
    """The limit: sign(Σ y_i |x − x_i|^−α); on a training point, its own class.

    Arguments:
        alpha: α; on S^d the choice α = d is Bayes-consistent.
    """

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = alpha

    def _scores(self, t: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n k"]:
        squared = np.maximum(2 - 2 * t, 1e-30)
        return self._sum_by_class(-self.alpha / 2 * np.log(squared))


class InfiniteDepthClassifier(_OnSphere):
    """The limit of any activation: majority vote, nearest neighbour, or its singular kernel.

    Arguments:
        activation: as of `DeepNTK`.
    """

    def __init__(self, activation: dict[int, float] | str | int = 2) -> None:
        self.activation = activation

    def _prepare(self) -> None:
        self.dual_ = dual_of(self.activation)

    def _scores(self, t: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n k"]:
        kind = limit_kind(self.dual_)
        counts = np.bincount(self.y_, minlength=len(self.classes_)).astype(np.float64)
        if kind == "majority":
            return np.broadcast_to(counts, (len(t), len(counts)))
        if kind == "nearest neighbour":
            return np.stack([t[:, self.y_ == k].max(1) for k in range(len(self.classes_))], 1)
        return self._sum_by_class(-singular_exponent(self.dual_) / 2 * np.log(np.maximum(2 - 2 * t, 1e-30)))
