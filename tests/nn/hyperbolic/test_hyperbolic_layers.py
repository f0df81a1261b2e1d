import pytest
import torch
from scipy.special import beta as scipy_beta
from torch.nn.functional import pad

from tests.typecheck import value_error
from ziggurat.nn.hyperbolic.ball import AutogradBall, PoincareBall, linear
from ziggurat.nn.hyperbolic.layers import PoincareBatchNorm2d, PoincareConv2d, PoincareLinear, beta


@pytest.mark.fact("poincare_resnet", 1)
def test_square_linear_layer_starts_as_the_identity():
    x = torch.randn(50, 6, dtype=torch.float64)
    layer = PoincareLinear(6, 6).double()
    assert (layer(x) - x).abs().max() < 1e-13
    on_ball = layer.ball.exp0(x)
    assert (linear(on_ball, layer.z, layer.r, layer.ball.c) - on_ball).abs().max() < 1e-15


def naive_conv(layer, x, stride):
    """Patch by patch: scaled, as one point, through the linear map, back to the tangent space."""
    x, rows, k = pad(layer.scale * x, (1, 1, 1, 1)), [], 3
    for top in range(0, x.shape[2] - k + 1, stride):
        for left in range(0, x.shape[3] - k + 1, stride):
            point = layer.ball.exp0(x[:, :, top : top + k, left : left + k].flatten(1))
            rows.append(layer.ball.log0(linear(point, layer.z, layer.r, layer.ball.c)))
    return torch.stack(rows, 2)


@pytest.mark.parametrize("stride", (1, 2))
def test_convolution_against_a_naive_loop(stride):
    layer, x = PoincareConv2d(3, 4, 3, stride, init="normal").double(), torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.nn.init.normal_(layer.r, std=0.1)
    got = layer(x)
    torch.testing.assert_close(got.flatten(2), naive_conv(layer, x, stride))
    assert got.shape[2:] == (-(-5 // stride), -(-6 // stride))


@pytest.mark.fact("poincare_resnet", 7)
def test_convolution_that_starts_as_the_identity_does_not_keep_norms():
    assert beta(72.0) == pytest.approx(scipy_beta(72, 0.5)) and beta(8.0) == pytest.approx(scipy_beta(8, 0.5))
    layer = PoincareConv2d(16, 16).double()
    assert layer.scale == pytest.approx(1 / 3, abs=5e-3)
    with torch.no_grad():
        layer.z.zero_()
        layer.z[torch.arange(16) * 9 + 4, torch.arange(16)] = 0.5
    x = torch.randn(8, 16, 14, 14, dtype=torch.float64) / 4
    kept = layer(x).detach().norm(dim=1) / x.norm(dim=1)
    assert float(kept[:, 1:-1, 1:-1].mean()) == pytest.approx(0.344, abs=5e-3)
    x[:, :, :3, :3] = 0
    x[:, :, 1, 1] = torch.randn(16)
    torch.testing.assert_close(layer(x)[:, :, 1, 1], layer.scale * x[:, :, 1, 1])


@pytest.mark.fact("poincare_resnet", 7)
def test_the_official_start_picks_shifted_copies_of_the_first_channels():
    layer, x = PoincareConv2d(16, 16).double(), 1e-5 * torch.randn(1, 16, 5, 5, dtype=torch.float64)
    got, padded = layer(x), pad(layer.scale * x, (1, 1, 1, 1))
    for out in range(16):
        channel, tap = divmod(out, 9)
        top, left = divmod(tap, 3)
        torch.testing.assert_close(got[:, out], padded[:, channel, top : top + 5, left : left + 5], atol=1e-12, rtol=0)


def test_normal_weights_have_the_variance_of_hnn():
    z = PoincareConv2d(8, 64, init="normal").z
    assert float(z.detach().std()) == pytest.approx((2 * 8 * 9 * 64) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("mean", "error"), (("midpoint", 5e-3), ("frechet", 1e-5)))
def test_batch_norm_gives_the_learned_mean_and_variance(mean, error):
    """Stretching keeps the Fréchet mean; the midpoint it keeps nearly."""
    layer = PoincareBatchNorm2d(4, mean=mean).double()
    with torch.no_grad():
        layer.bias.normal_(std=0.3)
        layer.scale.fill_(0.7)
    x = 0.5 * torch.randn(3, 4, 5, 5, dtype=torch.float64) + 1.0
    got = layer.ball.exp0(layer(x).permute(0, 2, 3, 1).reshape(-1, 4))
    target = layer.ball.exp0(layer.bias)
    torch.testing.assert_close(layer.statistics(got)[0], target, atol=error, rtol=0)
    torch.testing.assert_close(layer.ball.variance(got, target), layer.scale, atol=error, rtol=0)


def test_running_statistics_converge_and_are_used_in_evaluation():
    layer, x = PoincareBatchNorm2d(4).double(), torch.randn(3, 4, 5, 5, dtype=torch.float64)
    want = layer(x)
    for _ in range(100):
        layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x), want, atol=1e-3, rtol=0)
    torch.testing.assert_close(layer(x[:1]), want[:1], atol=1e-3, rtol=0)
    batchwise = PoincareBatchNorm2d(4, running=False).double().eval()
    assert not torch.allclose(batchwise(x[:1]), batchwise(x)[:1])


def test_layers_agree_on_both_balls():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for make in (lambda b: PoincareConv2d(3, 4, ball=b), lambda b: PoincareBatchNorm2d(3, b)):
        grads = []
        for ball in (PoincareBall(), AutogradBall()):
            torch.manual_seed(0)
            layer = make(ball).double()
            (layer(x) ** 3).sum().backward()
            grads.append([p.grad for p in layer.parameters()])
        torch.testing.assert_close(*grads)


def test_mistakes_are_named():
    with value_error("'identity' or 'normal'"):
        PoincareLinear(3, 3, init="kaiming")
    with value_error("'midpoint' or 'frechet'"):
        PoincareBatchNorm2d(3, mean="euclidean")
