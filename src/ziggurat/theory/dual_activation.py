"""Dual activations: what an infinitely wide layer does to the correlation of two inputs.

    φ = Σ c_i h_i with Σ c_i² = 1,   D(t) = Σ c_i² tⁱ,   D'(t) = Σ i c_i² tⁱ⁻¹

where h_i are the normalised probabilists' Hermite polynomials (h_1 = x, h_2 = (x² − 1)/√2, h_3 = (x³ − 3x)/√6).
Everything is in logarithms, so that thousands of layers do not underflow. Correlations are taken in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp

Array = Float64[np.ndarray, " *n"]


@dataclass(frozen=True)
class Polynomial:
    """The dual of a polynomial activation.

    Arguments:
        coefficients: c_i by degree i, Σ c_i² = 1.
    """

    coefficients: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        total = sum(c**2 for _, c in self.coefficients)
        if not np.isclose(total, 1):
            raise ValueError(f"the squared coefficients add up to {total:.4f}; divide them by {np.sqrt(total):.4f}.")

    @property
    def at_zero(self) -> float:
        """D(0)."""
        return sum(c**2 for i, c in self.coefficients if i == 0)

    @property
    def slope_at_zero(self) -> float:
        """D'(0)."""
        return sum(c**2 for i, c in self.coefficients if i == 1)

    @property
    def slope_at_one(self) -> float:
        """D'(1)."""
        return sum(i * c**2 for i, c in self.coefficients)

    def log_value(self, log_t: Array) -> Array:
        """log D(t) at log t."""
        terms = [
            i * log_t + 2 * np.log(abs(c)) if i else np.full_like(log_t, 2 * np.log(abs(c)))
            for i, c in self.coefficients
        ]
        return logsumexp(np.stack(terms), axis=0)

    def log_slope(self, log_t: Array) -> Array:
        """log D'(t) at log t."""
        terms = [
            (i - 1) * log_t + np.log(i) + 2 * np.log(abs(c)) if i > 1 else np.full_like(log_t, 2 * np.log(abs(c)))
            for i, c in self.coefficients
            if i > 0
        ]
        return logsumexp(np.stack(terms), axis=0)


@dataclass(frozen=True)
class NormalisedReLU:
    """The dual of √2 max(x, 0): D(t) = (√(1 − t²) + (π − arccos t) t) / π."""

    at_zero: float = 1 / np.pi
    slope_at_zero: float = 0.5
    slope_at_one: float = 1.0

    def log_value(self, log_t: Array) -> Array:
        t = np.minimum(np.exp(log_t), 1.0)
        return np.log((np.sqrt(1 - t**2) + (np.pi - np.arccos(t)) * t) / np.pi)

    def log_slope(self, log_t: Array) -> Array:
        return np.log((np.pi - np.arccos(np.minimum(np.exp(log_t), 1.0))) / np.pi)


Dual = Polynomial | NormalisedReLU


def polynomial(coefficients: Mapping[int, float]) -> Polynomial:
    """The dual of Σ c_i h_i, from {i: c_i}; zero coefficients are left out."""
    return Polynomial(tuple(sorted((i, float(c)) for i, c in coefficients.items() if c)))
