"""The Poincaré ball: hyperbolic space as the points x with c |x|² < 1, and the maps that networks need on it.

    x ⊕ y = ((1 + 2c⟨x,y⟩ + c|y|²) x + (1 − c|x|²) y) / (1 + 2c⟨x,y⟩ + c²|x|²|y|²)
    exp₀(v) = tanh(√c|v|) v / (√c|v|),   log₀ its inverse,   λ_x = 2 / (1 − c|x|²)
    exp_x(v) = x ⊕ exp₀(λ_x v / 2),      log_x(y) = (2 / λ_x) log₀(−x ⊕ y)

All maps work on the last axis and broadcast the others. The functions are the formulas, differentiated by autograd; `PoincareBall` uses
for the five of `hyperbolic.autograd` the backward passes that are derived by hand there.

M. van Spengler, E. Berkhout, P. Mettes, Poincaré ResNet, 2023, arXiv:2303.14027. Linear layers: R. Shimizu, Y. Mukuta, T. Harada,
Hyperbolic Neural Networks++, 2020, arXiv:2006.08210. Fréchet mean: A. Lou et al., 2020, arXiv:2003.00335.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.nn.hyperbolic import autograd as by_hand
from ziggurat.nn.hyperbolic.autograd import TINY, dot, exp0, length, log0, mobius_add, project, squared_distance


def lorentz(x: Float[Tensor, "*p n"], c: float) -> Float[Tensor, "*p 1"]:
    """λ_x."""
    return 2 / (1 - c * dot(x, x)).clamp_min(TINY)


def gyration(
    u: Float[Tensor, "*p n"], v: Float[Tensor, "*q n"], w: Float[Tensor, "*r n"], c: float
) -> Float[Tensor, "*s n"]:
    """gyr[u, v] w = −(u ⊕ v) ⊕ (u ⊕ (v ⊕ w)): the rotation by which ⊕ fails to be associative."""
    uu, vv, uv, uw, vw = dot(u, u), dot(v, v), dot(u, v), dot(u, w), dot(v, w)
    a = -(c**2) * uw * vv + c * vw + 2 * c**2 * uv * vw
    b = -(c**2) * vw * uu - c * uw
    return w + 2 * (a * u + b * v) / (1 + 2 * c * uv + c**2 * uu * vv).clamp_min(TINY)


def half(m: Float[Tensor, "*p n"], c: float) -> Float[Tensor, "*p n"]:
    """½ ⊗ m, the point half way from 0."""
    return m / (1 + (1 - c * dot(m, m)).clamp_min(TINY).sqrt())


def midpoint(x: Float[Tensor, "N n"], c: float) -> Float[Tensor, "1 n"]:
    """The gyromidpoint ½ ⊗ Σ λ_i x_i / Σ (λ_i − 1) of the rows, in closed form."""
    weight = lorentz(x, c)
    return half((weight * x).sum(0, keepdim=True) / (weight - 1).sum(0, keepdim=True), c)


@torch.no_grad()
def frechet_iteration(
    x: Float[Tensor, "N n"], c: float, tolerance: float = 1e-6, most: int = 1000
) -> Float[Tensor, "1 n"]:
    """The point with the least mean squared distance to the rows, by the fixed-point iteration of Lou et al. from the first row on.

    It ends when the point moves by less than `tolerance`, and near that also when it moves no less than before: there rounding rules.
    """
    mean, xx, before = x[:1], dot(x, x), float("inf")
    for _ in range(most):
        y = c * ((x - mean) ** 2).sum(1, keepdim=True) / ((1 - c * xx) * (1 - c * dot(mean, mean)))
        y = y.clamp_min(1e-12)
        weight = 2 * torch.acosh(1 + 2 * y) / (y * y + y).sqrt() / (1 - c * xx)
        a, b = (weight * (1 + c * xx)).sum(), (weight * x).sum(0, keepdim=True)
        bb = dot(b, b).clamp_min(TINY)
        new = 2 * b / (a + (a * a - 4 * c * bb).clamp_min(0).sqrt())
        moved, mean = float(torch.linalg.vector_norm(new - mean)), new
        if moved < tolerance or before <= moved < 1e3 * tolerance:
            break
        before = moved
    return mean


def frechet_mean(x: Float[Tensor, "N n"], c: float, tolerance: float = 1e-6) -> Float[Tensor, "1 n"]:
    """The Fréchet mean with its exact gradient: one Newton step from the result, which moves it by nothing.

    With s = √c d(mean, x_i) and r the direction of x_i, the Hessian of ½ Σ d² is Σ r rᵀ + s coth(s) (I − r rᵀ).
    """
    mean = frechet_iteration(x.detach(), c, tolerance)
    seen = log0(mobius_add(-mean, x, c), c)
    with torch.no_grad():
        size = length(seen)
        s, r = (2 * c**0.5 * size).clamp_min(1e-4), seen / size
        across = s / torch.tanh(s)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        hessian = across.sum() * eye + ((1 - across) * r).T @ r
        inverse = torch.linalg.inv(hessian)
    return mobius_add(mean, exp0(seen.sum(0, keepdim=True) @ inverse, c), c)


def linear(
    x: Float[Tensor, "*p n"], z: Float[Tensor, "n m"], r: Float[Tensor, " m"] | None, c: float
) -> Float[Tensor, "*p m"]:
    """The linear map of Hyperbolic Neural Networks++, from the ball to the ball of m dimensions.

    v_k = (2|z_k| / √c) asinh(λ_x √c ⟨x, z_k / |z_k|⟩ cosh(2√c r_k) − (λ_x − 1) sinh(2√c r_k)) is the signed distance of x from the
    hyperplane of direction z_k and offset r_k, times 2|z_k|;  w = sinh(√c v) / √c,  y = w / (1 + √(1 + c|w|²)).
    """
    root, weight = c**0.5, lorentz(x, c)
    size = torch.linalg.vector_norm(z, dim=0).clamp_min(TINY)
    inner = weight * root * (x @ z) / size
    if r is not None:
        inner = inner * torch.cosh(2 * root * r) - (weight - 1) * torch.sinh(2 * root * r)
    w = torch.sinh(2 * size * torch.asinh(inner)) / root
    return w / (1 + (1 + c * dot(w, w)).sqrt())


@dataclass(frozen=True)
class PoincareBall:
    """The ball of curvature −c with the maps above; backward passes are those of `hyperbolic.autograd`.

    Arguments:
        c: minus the curvature.

    Shapes: points and tangent vectors are (*, n).
    """

    c: float = 0.1

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise ValueError(f"c is minus the curvature and must be positive, got {self.c}.")

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x ⊕ y."""
        return by_hand.MobiusAdd.apply(x, y, self.c)

    def project(self, x: Tensor) -> Tensor:
        """Points too near to the edge drawn back."""
        return by_hand.Project.apply(x, self.c)

    def exp0(self, v: Tensor) -> Tensor:
        """Tangent vectors at 0 to points."""
        return self.project(by_hand.Exp0.apply(v, self.c))

    def log0(self, x: Tensor) -> Tensor:
        """Points to tangent vectors at 0."""
        return by_hand.Log0.apply(x, self.c)

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        """Mean squared distance (1,) of the rows (N, n) from a point (1, n)."""
        return by_hand.SquaredDistance.apply(x, mean, self.c).mean(0)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Tangent vectors at x to points."""
        return self.project(self.add(x, self.exp0(lorentz(x, self.c) / 2 * v)))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Points y to tangent vectors at x."""
        return 2 / lorentz(x, self.c) * self.log0(self.add(-x, y))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """d(x, y), the last axis gone."""
        return 2 * torch.linalg.vector_norm(self.log0(self.add(-x, y)), dim=-1)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Tangent vectors at x along the geodesic to y."""
        return lorentz(x, self.c) / lorentz(y, self.c) * gyration(y, -x, v, self.c)

    def midpoint(self, x: Tensor) -> Tensor:
        """The gyromidpoint (1, n) of the rows."""
        return midpoint(x, self.c)

    def frechet_mean(self, x: Tensor) -> Tensor:
        """The Fréchet mean (1, n) of the rows."""
        return frechet_mean(x, self.c)

    def linear(self, x: Tensor, z: Tensor, r: Tensor | None = None) -> Tensor:
        """Points of this ball to points of the ball of another dimension."""
        return self.project(linear(x, z, r, self.c))


class AutogradBall(PoincareBall):
    """The same ball, everything differentiated by autograd: to compare with."""

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return mobius_add(x, y, self.c)

    def project(self, x: Tensor) -> Tensor:
        return project(x, self.c)

    def exp0(self, v: Tensor) -> Tensor:
        return self.project(exp0(v, self.c))

    def log0(self, x: Tensor) -> Tensor:
        return log0(x, self.c)

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        return squared_distance(x, mean, self.c).mean(0)
