import pytest
import torch
from torch import nn

from ziggurat.nn.scaled_residual import ScaledResidual


@pytest.mark.fact("inception_v4", 4)
def test_scale_zero_is_the_relu_and_the_identity_where_nothing_is_negative():
    x = torch.randn(2, 3, 5, 5)
    unit = ScaledResidual(nn.Conv2d(3, 3, 1), scale=0.0)
    assert torch.equal(unit(x), x.relu())
    assert torch.equal(unit(x.abs()), x.abs())


def test_the_factor_is_on_the_branch():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    branch = nn.Conv2d(3, 3, 1).double()
    assert torch.allclose(ScaledResidual(branch, 0.2)(x), (x + 0.2 * branch(x)).relu())
    assert torch.allclose(ScaledResidual(branch, 0.2, act=None)(x), x + 0.2 * branch(x))
