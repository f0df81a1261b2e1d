"""Five maps of the Poincaré ball as formulas, and with backward passes derived by hand, which keep inputs only.

With g the incoming gradient:
    exp₀:  f g + c (f'(u) / u) ⟨g, v⟩ v,  f(u) = tanh(u) / u,  u = √c|v|;   log₀ the same with atanh(u) / u
    ⊕:     x ⊕ y = (a x + b y) / D, θ = ⟨g, a x + b y⟩ / D:
           (a g + 2c⟨g, x⟩ y − 2c⟨g, y⟩ x − 2cθ (y + c|y|² x)) / D  and  (b g + 2c⟨g, x⟩ (x + y) − 2cθ (x + c|x|² y)) / D
    d²:    4/c atanh²(√q), q = A / (A + B), A = c|x − y|², B = (1 − c|x|²)(1 − c|y|²):
           8 g h (B (x − y) + A (1 − c|y|²) x) / (A + B)²,  h = atanh(√q) / (√q (1 − q)), and the same with x and y exchanged

f'(u) / u and its like are taken from their series near 0, where the formula would subtract equal numbers.

M. van Spengler, E. Berkhout, P. Mettes, Poincaré ResNet, 2023, arXiv:2303.14027.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-15


def dot(x: Float[Tensor, "*p n"], y: Float[Tensor, "*q n"]) -> Float[Tensor, "*r 1"]:
    """⟨x, y⟩, with the axis kept."""
    return (x * y).sum(-1, keepdim=True)


def length(x: Float[Tensor, "*p n"]) -> Float[Tensor, "*p 1"]:
    """|x|, never 0, with the axis kept."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(TINY)


def margin(dtype: torch.dtype) -> float:
    """How far from the edge, in radii, points are kept in a type of numbers."""
    return {torch.float64: 1e-5, torch.float32: 4e-3}.get(dtype, 2e-2)


def mobius_add(x: Float[Tensor, "*p n"], y: Float[Tensor, "*q n"], c: float) -> Float[Tensor, "*r n"]:
    """x ⊕ y."""
    xx, yy, xy = dot(x, x), dot(y, y), dot(x, y)
    above = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    return above / (1 + 2 * c * xy + c**2 * xx * yy).clamp_min(TINY)


def project(x: Float[Tensor, "*p n"], c: float) -> Float[Tensor, "*p n"]:
    """Points beyond (1 − margin) / √c drawn back to it."""
    size, most = length(x), (1 - margin(x.dtype)) / c**0.5
    return torch.where(size > most, x / size * most, x)


def exp0(v: Float[Tensor, "*p n"], c: float) -> Float[Tensor, "*p n"]:
    """exp₀(v)."""
    u = c**0.5 * length(v)
    return torch.tanh(u) / u * v


def log0(x: Float[Tensor, "*p n"], c: float) -> Float[Tensor, "*p n"]:
    """log₀(x)."""
    u = c**0.5 * length(x)
    return torch.atanh(u) / u * x


def squared_distance(x: Float[Tensor, "*p n"], y: Float[Tensor, "*q n"], c: float) -> Float[Tensor, "*r 1"]:
    """d(x, y)² with d(x, y) = (2 / √c) atanh(√c |−x ⊕ y|)."""
    return 4 / c * torch.atanh(c**0.5 * length(mobius_add(-x, y, c))) ** 2


NEAR = 0.1
"""Below this the series are taken."""
TANH = (-2 / 3, 8 / 15, -34 / 105, 496 / 2835)
ATANH = (2 / 3, 4 / 5, 6 / 7, 8 / 9)
"""Coefficients of f'(u) / u in powers of u², for f = tanh(u) / u and atanh(u) / u."""


def _slope(u: Tensor, f: Tensor, inner: Tensor, series: Sequence[float]) -> Tensor:
    """f'(u) / u = (inner − f) / u², where inner is the derivative of u f(u)."""
    square = u * u
    near = torch.zeros_like(u)
    for coefficient in reversed(series):
        near = near * square + coefficient
    return torch.where(u < NEAR, near, (inner - f) / square)


class Exp0(torch.autograd.Function):
    """exp₀(v)."""

    @staticmethod
    def forward(v: Tensor, c: float) -> Tensor:
        return exp0(v, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        v, ctx.c = inputs
        ctx.save_for_backward(v)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        u = ctx.c**0.5 * length(v)
        t = torch.tanh(u)
        return t / u * g + ctx.c * _slope(u, t / u, 1 - t * t, TANH) * dot(g, v) * v, None


class Log0(torch.autograd.Function):
    """log₀(x)."""

    @staticmethod
    def forward(x: Tensor, c: float) -> Tensor:
        return log0(x, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.c = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        u = ctx.c**0.5 * length(x)
        f = torch.atanh(u) / u
        return f * g + ctx.c * _slope(u, f, 1 / (1 - u * u), ATANH) * dot(g, x) * x, None


class Project(torch.autograd.Function):
    """Points too near to the edge drawn back; their gradient is tangent to the sphere they lie on."""

    @staticmethod
    def forward(x: Tensor, c: float) -> Tensor:
        return project(x, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.c = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        size, most = length(x), (1 - margin(x.dtype)) / ctx.c**0.5
        return torch.where(size > most, most / size * (g - dot(g, x) / size**2 * x), g), None


class MobiusAdd(torch.autograd.Function):
    """x ⊕ y."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, c: float) -> Tensor:
        return mobius_add(x, y, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        x, y, ctx.c = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y = ctx.saved_tensors
        c, xx, yy, xy = ctx.c, dot(x, x), dot(y, y), dot(x, y)
        a, b, below = 1 + 2 * c * xy + c * yy, 1 - c * xx, 1 + 2 * c * xy + c**2 * xx * yy
        gx, gy = dot(g, x), dot(g, y)
        theta = (a * gx + b * gy) / below
        of_x = (a * g + 2 * c * (gx * y - gy * x - theta * (y + c * yy * x))) / below
        of_y = (b * g + 2 * c * (gx * (x + y) - theta * (x + c * xx * y))) / below
        return of_x.sum_to_size(x.shape), of_y.sum_to_size(y.shape), None


class SquaredDistance(torch.autograd.Function):
    """d(x, y)², with the axis kept."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, c: float) -> Tensor:
        return squared_distance(x, y, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        x, y, ctx.c = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y = ctx.saved_tensors
        c, apart = ctx.c, x - y
        p, q = 1 - c * dot(x, x), 1 - c * dot(y, y)
        A, B = c * dot(apart, apart), p * q
        root = (A / (A + B)).sqrt().clamp_min(TINY)
        h = 8 * g * torch.atanh(root) / root / (B * (A + B))
        of_x, of_y = h * (B * apart + A * q * x), h * (A * p * y - B * apart)
        return of_x.sum_to_size(x.shape), of_y.sum_to_size(y.shape), None
