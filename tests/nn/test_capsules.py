"""Capsules and routing by agreement."""

import math

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.nn.capsules import PrimaryCapsules, RoutingCapsules, lengths, routing_by_agreement, squash


@pytest.mark.fact("ml_capsnet", 1)
def test_squash_keeps_the_direction_and_bounds_the_length():
    s = torch.randn(50, 8, dtype=torch.float64) * torch.logspace(-2, 2, 50, dtype=torch.float64)[:, None]
    v, norm = squash(s), s.norm(dim=1)
    torch.testing.assert_close(v.norm(dim=1), norm**2 / (1 + norm**2), atol=1e-6, rtol=1e-4)
    assert (v.norm(dim=1) < 1).all()
    torch.testing.assert_close(torch.cosine_similarity(v, s), torch.ones(50, dtype=torch.float64))
    zero = torch.zeros(1, 8, requires_grad=True)
    (squash(zero).sum() + lengths(zero).sum()).backward()
    assert (squash(zero) == 0).all() and torch.isfinite(zero.grad).all()


@pytest.mark.fact("ml_capsnet", 3)
@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_couplings_are_shares_of_the_input_capsules(iterations):
    _, couplings = routing_by_agreement(torch.randn(2, 7, 4, 3), iterations)
    torch.testing.assert_close(couplings.sum(2), torch.ones(2, 7))
    if iterations == 1:
        torch.testing.assert_close(couplings, torch.full((2, 7, 4), 1 / 4))


def test_routing_against_a_loop():
    votes = torch.randn(1, 5, 3, 4, dtype=torch.float64)
    u, b = votes[0].tolist(), [[0.0] * 3 for _ in range(5)]
    for _ in range(3):
        c = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in b]
        v = []
        for j in range(3):
            s = [sum(c[i][j] * u[i][j][d] for i in range(5)) for d in range(4)]
            square = sum(x * x for x in s)
            v.append([square / (1 + square) * x / math.sqrt(square) for x in s])
        b = [[b[i][j] + sum(u[i][j][d] * v[j][d] for d in range(4)) for j in range(3)] for i in range(5)]
    got, couplings = routing_by_agreement(votes, 3)
    torch.testing.assert_close(got[0], torch.tensor(v, dtype=torch.float64), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(couplings[0], torch.tensor(c, dtype=torch.float64), atol=1e-6, rtol=1e-5)


def test_detached_votes_change_the_gradient_and_not_the_result():
    votes = torch.randn(1, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    outputs = [routing_by_agreement(votes, 3, detach)[0] for detach in (True, False)]
    torch.testing.assert_close(*outputs)
    gradients = [torch.autograd.grad(v[0, 0, 0], votes, retain_graph=True)[0] for v in outputs]
    assert not torch.allclose(*gradients)
    assert (
        not gradients[0][:, :, 1:].any() and gradients[1][:, :, 1:].any()
    )  # the others are heard only through the couplings


def test_votes_are_products_of_matrices():
    layer, u = RoutingCapsules(3, 2, 4, 5), torch.randn(2, 3, 2)
    for i in range(3):
        for j in range(4):
            torch.testing.assert_close(layer.votes(u)[:, i, j], u[:, i] @ layer.weight[i, j].T)


def test_primary_capsules_are_types_at_places():
    layer, x = PrimaryCapsules(3, types=4, dim=5, kernel=3, stride=2), torch.randn(1, 3, 9, 9)
    maps = layer.conv(x)
    assert layer(x).shape == (1, 4 * 16, 5)
    torch.testing.assert_close(
        layer(x)[0, 2 * 16 + 7], squash(maps[0, 10:15, 1, 3])
    )  # the third type, place 7 = (1, 3)


def test_mistakes_are_named():
    with value_error("1 iteration"):
        routing_by_agreement(torch.randn(1, 2, 2, 2), 0)
    with value_error("takes 3 capsules of 2 numbers"):
        RoutingCapsules(3, 2, 4)(torch.randn(1, 4, 2))
