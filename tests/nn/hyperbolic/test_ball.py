import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.typecheck import value_error
from ziggurat.nn.hyperbolic import autograd as by_hand
from ziggurat.nn.hyperbolic.ball import (
    AutogradBall,
    PoincareBall,
    exp0,
    frechet_mean,
    gyration,
    linear,
    log0,
    midpoint,
    mobius_add,
    project,
    squared_distance,
)

C = 0.7
BALL = PoincareBall(C)


def points(*shape, size=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return exp0(size * torch.randn(*shape, dtype=torch.float64, generator=g), C).requires_grad_()


@pytest.mark.fact("poincare_resnet", 6)
def test_inverses():
    x, v = points(5, 3), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(exp0(log0(x, C), C), x)
    torch.testing.assert_close(BALL.log0(BALL.exp0(v)), v)
    assert mobius_add(-x, x, C).abs().max() < 1e-12
    y = points(5, 3, seed=1)
    torch.testing.assert_close(BALL.exp(x, BALL.log(x, y)), y)
    assert torch.equal(exp0(torch.zeros(1, 3), C), torch.zeros(1, 3))
    assert torch.equal(log0(torch.zeros(1, 3), C), torch.zeros(1, 3))


@pytest.mark.fact("poincare_resnet", 5)
@pytest.mark.parametrize("size", (1e-3, 0.05, 0.5, 1.0))
def test_backward_passes_by_hand_equal_autograd(size):
    x, y, one = points(4, 3, size=size), points(4, 3, size=size, seed=1), points(1, 3, size=size, seed=2)
    v = (size * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    cases = [
        (by_hand.Exp0, exp0, (v,)),
        (by_hand.Log0, log0, (x,)),
        (by_hand.Project, project, (v,)),
        (by_hand.Project, project, ((9 * v).detach().requires_grad_(),)),
        (by_hand.MobiusAdd, mobius_add, (x, y)),
        (by_hand.MobiusAdd, mobius_add, (one, y)),
        (by_hand.MobiusAdd, mobius_add, (x, one)),
        (by_hand.SquaredDistance, squared_distance, (x, one)),
        (by_hand.SquaredDistance, squared_distance, (one, y)),
    ]
    for function, formula, given in cases:
        assert gradcheck(lambda *a, f=function: f.apply(*a, C), given)
        assert gradgradcheck(lambda *a, f=function: f.apply(*a, C), given, atol=1e-4)
        out, want = function.apply(*given, C), formula(*given, C)
        weight = torch.randn_like(out)
        torch.testing.assert_close(out, want)
        for a, b in zip(torch.autograd.grad(out, given, weight), torch.autograd.grad(want, given, weight), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_gradients_at_zero_are_those_of_the_identity():
    for function in (BALL.exp0, BALL.log0):
        v = torch.zeros(2, 3, requires_grad=True)
        function(v).backward(g := torch.randn(2, 3))
        torch.testing.assert_close(v.grad, g)


def test_distance_and_addition_against_the_upper_half_plane():
    """The disc of curvature −1 is the half plane by w = i (1 + z) / (1 − z), whose distance is a formula of its own."""
    g = torch.Generator().manual_seed(0)
    x, y = (exp0(torch.randn(20, 2, dtype=torch.float64, generator=g), 1.0) for _ in range(2))
    a, b = (1j * (1 + z) / (1 - z) for z in (torch.view_as_complex(p) for p in (x, y)))
    want = torch.acosh(1 + (a - b).abs() ** 2 / (2 * a.imag * b.imag))
    torch.testing.assert_close(PoincareBall(1.0).distance(x, y), want)
    torch.testing.assert_close(squared_distance(x, y, 1.0)[:, 0], want**2)


def test_gyration_is_the_rotation_that_repairs_the_order():
    u, v, w = (points(4, 3, seed=s).detach() for s in range(3))
    want = mobius_add(-mobius_add(u, v, C), mobius_add(u, mobius_add(v, w, C), C), C)
    torch.testing.assert_close(gyration(u, v, w, C), want)
    torch.testing.assert_close(want.norm(dim=1), w.norm(dim=1))


def test_transport_keeps_lengths_and_goes_back():
    x, y = points(4, 3).detach(), points(4, 3, seed=1).detach()
    v = torch.randn(4, 3, dtype=torch.float64)
    there = BALL.transport(x, y, v)
    factor = (1 - C * (y**2).sum(1)) / (1 - C * (x**2).sum(1))
    torch.testing.assert_close(there.norm(dim=1), v.norm(dim=1) * factor)
    torch.testing.assert_close(BALL.transport(y, x, there), v)


def transvection(a, x):
    """a ⊕ x, one row at a time, from the definition."""
    rows = []
    for p in x:
        ax, aa, xx = float(a @ p), float(a @ a), float(p @ p)
        rows.append(((1 + 2 * C * ax + C * xx) * a + (1 - C * aa) * p) / (1 + 2 * C * ax + C * C * aa * xx))
    return torch.stack(rows)


@pytest.mark.fact("poincare_resnet", 4)
def test_midpoint_of_two_is_the_frechet_mean_and_moves_with_the_points():
    x = points(2, 3).detach()
    torch.testing.assert_close(midpoint(x, C), frechet_mean(x, C, 1e-13), atol=1e-9, rtol=0)
    torch.testing.assert_close(BALL.distance(midpoint(x, C), x), (BALL.distance(x[:1], x[1:]) / 2).expand(2))
    many, a = points(7, 3, seed=3).detach(), points(1, 3, seed=4).detach()
    torch.testing.assert_close(midpoint(transvection(a[0], many), C), transvection(a[0], midpoint(many, C)))


def test_frechet_mean_is_a_minimum_and_has_its_exact_gradient():
    x = points(6, 3)
    mean = frechet_mean(x, C, 1e-13)
    value = float(squared_distance(x, mean, C).mean().detach())
    for step in 1e-3 * torch.cat([torch.eye(3), -torch.eye(3)]).double():
        assert squared_distance(x, mean + step, C).mean() > value
    assert gradcheck(lambda x: frechet_mean(x, C, 1e-13), (x,))
    same = x[:1].detach().expand(5, 3).clone().requires_grad_()
    frechet_mean(same, C).sum().backward()
    torch.testing.assert_close(same.grad, torch.full_like(same, 0.2), atol=1e-6, rtol=0)


def naive_linear(x, z, r, c):
    """One sample and one output at a time."""
    out = torch.zeros(len(x), z.shape[1], dtype=torch.float64)
    for i, p in enumerate(x):
        lam = 2 / (1 - c * float(p @ p))
        for k in range(z.shape[1]):
            size, root = float(z[:, k].norm()), math.sqrt(c)
            inner = lam * root * float(p @ z[:, k]) / size * math.cosh(2 * root * float(r[k]))
            out[i, k] = 2 * size / root * math.asinh(inner - (lam - 1) * math.sinh(2 * root * float(r[k])))
    w = torch.sinh(math.sqrt(c) * out) / math.sqrt(c)
    return w / (1 + (1 + c * (w**2).sum(1, keepdim=True)).sqrt())


def test_linear_against_a_naive_loop():
    x, z, r = points(4, 3).detach(), torch.randn(3, 5).double(), 0.3 * torch.randn(5).double()
    torch.testing.assert_close(linear(x, z, r, C), naive_linear(x, z, r, C))
    torch.testing.assert_close(linear(x, z, None, C), naive_linear(x, z, torch.zeros(5), C))


@pytest.mark.fact("poincare_resnet", 3)
def test_small_curvature_is_the_euclidean_affine_map():
    x, z, r = torch.randn(4, 3).double(), torch.randn(3, 5).double(), torch.randn(5).double()
    y = linear(x, z, r, 1e-9)
    torch.testing.assert_close(y, 2 * x @ z - 2 * z.norm(dim=0) * r, atol=1e-6, rtol=0)
    assert torch.allclose(2 * y, 4 * x @ z - 4 * z.norm(dim=0) * r, atol=1e-6)


def test_projection_keeps_points_inside():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = BALL.exp0(torch.full((1, 3), 1e3, dtype=dtype))
        assert float(C * (x.double() ** 2).sum()) < 1 and torch.isfinite(BALL.log0(x)).all()


def test_both_balls_agree():
    other, x, y = AutogradBall(C), points(4, 3).detach(), points(1, 3, seed=1).detach()
    for name, given in (("add", (x, y)), ("project", (9 * x,)), ("exp0", (x,)), ("log0", (x,)), ("variance", (x, y))):
        torch.testing.assert_close(getattr(BALL, name)(*given), getattr(other, name)(*given))


def test_mistakes_are_named():
    with value_error("must be positive, got 0"):
        PoincareBall(0.0)
