from itertools import pairwise

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.nn.gem import GeM


def maps(seed=0):
    return torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01


@pytest.mark.fact("gpm", 4)
def test_one_is_the_average_and_infinity_the_maximum():
    x = maps()
    torch.testing.assert_close(GeM(1)(x), x.mean((2, 3)))
    torch.testing.assert_close(GeM(1000)(x), x.amax((2, 3)), rtol=5e-3, atol=0)
    between = [GeM(p)(x) for p in (1, 2, 3, 10)]
    assert all((a < b).all() for a, b in pairwise(between))


def test_against_its_formula():
    x = maps(1)
    for b in range(2):
        for c in range(5):
            total = sum(float(v) ** 3 for v in x[b, c].flatten()) / 12
            assert float(GeM(3)(x)[b, c].detach()) == pytest.approx(total ** (1 / 3))


def test_nothing_positive_is_zero_with_a_finite_gradient():
    x = torch.full((1, 2, 3, 3), -1.0, requires_grad=True)
    pool = GeM(100)
    out = pool(x)
    assert float(out.detach().max()) < 1e-5
    out.sum().backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(pool.p.grad)


def test_mistakes_are_named():
    with value_error("p must be positive"):
        GeM(0)
