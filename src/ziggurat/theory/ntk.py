"""The recursion of the neural tangent kernel of an infinitely wide network, over depth, in logarithms.

    S_0 = K_0 = t,   K_{l+1} = D(S_l) + K_l D'(S_l),   S_{l+1} = D(S_l)

S is the kernel of the network at initialisation (NNGP), K that of its training (NTK). A. Jacot et al., 2018, arXiv:1806.07572.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ziggurat.theory.dual_activation import Dual, Polynomial

Array = Float64[np.ndarray, " *n"]
LINEAR = -800.0  # below this log S only the linear term of D is left in double precision


def log_kernels(dual: Dual, log_t: Array, depth: int) -> tuple[Array, Array]:
    """(log S, log K) after `depth` layers for correlations t in (0, 1], given as log t.

    Once D is linear for all pairs, the remaining layers are added in closed form, so that 100,000 layers cost as much as 2,000.
    """
    if depth < 0:
        raise ValueError(f"depth must be 0 or more, got {depth}.")
    s, k = log_t.astype(np.float64), log_t.astype(np.float64)
    apart = s < 0
    for layer in range(depth):
        if _only_linear(dual) and apart.any() and s[apart].max() < LINEAR and not (~apart).any():
            rho, left = np.log(dual.slope_at_zero), depth - layer
            return s + left * rho, np.logaddexp(k, s + np.log(left)) + left * rho
        s, k = dual.log_value(s), np.logaddexp(dual.log_value(s), k + dual.log_slope(s))
    return s, k


def _only_linear(dual: Dual) -> bool:
    """Whether D(t) ≈ D'(0) t near zero."""
    return isinstance(dual, Polynomial) and dual.at_zero == 0 and dual.slope_at_zero > 0


class KernelTable:
    """log K_L of a dual at any correlation: tabulated on an even grid of log t − log(1 − t), and interpolated.

    Arguments:
        dual: of the activation.
        depth: L.
        points: of the grid, from t = 1e-9 to 1 − t = 1e-15.
    """

    def __init__(self, dual: Dual, depth: int, points: int = 8000) -> None:
        self.grid = np.linspace(np.log(1e-9), -np.log(1e-15), points)
        self.log_k = log_kernels(dual, -np.log1p(np.exp(-self.grid)), depth)[1]

    def __call__(self, t: Float64[np.ndarray, " *n"]) -> Float64[np.ndarray, " *n"]:
        """log K_L; correlations outside the grid take its ends."""
        t = np.clip(t, 1e-9, 1 - 1e-15)
        return np.interp(np.log(t) - np.log1p(-t), self.grid, self.log_k)
