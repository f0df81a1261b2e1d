import pytest
import torch
from torch.nn.functional import layer_norm

from tests.typecheck import value_error
from ziggurat.nn.operators.mu_layer import MuLayer
from ziggurat.nn.operators.spatial_shift import SpatialShift


@pytest.mark.fact("monet", 3)
@pytest.mark.parametrize("shift", [False, True])
def test_without_normalisation_third_differences_along_a_line_are_zero(shift):
    layer = MuLayer(6, 16, 5, shift=shift, norm=False).double()
    x, way = (torch.randn(2, 3, 4, 6, dtype=torch.float64) for _ in range(2))
    values = [layer(x + t * way) for t in range(4)]
    second = values[2] - 2 * values[1] + values[0]
    third = values[3] - 3 * values[2] + 3 * values[1] - values[0]
    assert second.abs().max() > 0.1
    torch.testing.assert_close(third, torch.zeros_like(third), atol=1e-10, rtol=0)


@pytest.mark.parametrize("shift", [False, True])
def test_against_a_plain_restatement(shift):
    layer = MuLayer(4, 16, 3, shift=shift).double()
    layer.alpha.data.fill_(0.7)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    move = SpatialShift() if shift else lambda v: v
    a = move(x @ layer.first.weight.T + layer.first.bias)
    b = move(x @ layer.squeeze.weight.T + layer.squeeze.bias) @ layer.second.weight.T + layer.second.bias
    a, b = layer_norm(a, (16,), eps=1e-6), layer_norm(b, (16,), eps=1e-6)
    torch.testing.assert_close(layer(x), (a + 0.7 * a * b) @ layer.project.weight.T + layer.project.bias)


def test_start():
    layer = MuLayer(64, 64, 64)
    assert layer.squeeze.out_features == layer.second.in_features == 8
    assert all((part.bias == 1).all() for part in (layer.first, layer.squeeze, layer.second)) and layer.alpha == 1
    assert layer.first.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.1)


def test_a_width_below_eight_is_refused():
    with value_error("must be 8 or more"):
        MuLayer(4, 4, 4)
