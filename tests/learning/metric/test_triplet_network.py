import math

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data import Triplets
from ziggurat.learning.metric.triplet_network import (
    SiameseNetwork,
    SoftmaxRatioTripletLoss,
    TripletConvNet,
    TripletNetwork,
    contrastive_loss,
    euclidean,
    softmax_ratio_loss,
)
from ziggurat.nn import count_parameters
from ziggurat.vision.backbones.resnet import cifar_resnet


@pytest.mark.fact("triplet_network", 1)
@pytest.mark.parametrize(("channels", "count"), [(3, 505_088), (1, 501_888)])
def test_published_parameter_count(channels, count):
    network = TripletConvNet(channels)
    assert count_parameters(network) == count
    own = [sum(p.numel() for p in layer.parameters()) for layer in network.layers if hasattr(layer, "weight")]
    assert own[1:] == [73_856, 295_168, 131_200]


@pytest.mark.fact("triplet_network", 2)
def test_sizes_down_to_one_vector():
    x, sizes = torch.rand(2, 3, 32, 32), []
    for layer in TripletConvNet().layers:
        x = layer(x)
        sizes.append(x.shape[-1])
    assert sizes == [28, 28, 14, 12, 12, 6, 4, 4, 2, 1]
    assert TripletConvNet()(torch.rand(2, 3, 32, 32)).shape == (2, 128)


def loss(difference):
    d = torch.tensor([float(difference)], dtype=torch.float64)
    return float(softmax_ratio_loss(d, torch.zeros_like(d)))


@pytest.mark.fact("triplet_network", 3)
def test_limits():
    assert loss(0) == 0.5
    assert loss(-60) == pytest.approx(0, abs=1e-12) and loss(60) == pytest.approx(2, abs=1e-12)


@pytest.mark.fact("triplet_network", 4)
def test_equals_the_two_softmax_outputs_against_zero_and_one():
    d_pos, d_neg = torch.rand(2, 20, dtype=torch.float64) * 9
    for p, n, got in zip(d_pos, d_neg, softmax_ratio_loss(d_pos, d_neg), strict=True):
        plus = math.exp(p) / (math.exp(p) + math.exp(n))
        assert float(got) == pytest.approx((plus - 0) ** 2 + ((1 - plus) - 1) ** 2, abs=1e-12)
        assert float(got) == pytest.approx(2 / (1 + math.exp(n - p)) ** 2, abs=1e-6)
    torch.testing.assert_close(softmax_ratio_loss(d_pos + 5, d_neg + 5), softmax_ratio_loss(d_pos, d_neg))


@pytest.mark.fact("triplet_network", 5)
def test_gradient_vanishes_at_both_ends_and_peaks_at_log_two():
    def gradient(difference):
        d = torch.tensor([float(difference)], dtype=torch.float64, requires_grad=True)
        softmax_ratio_loss(d, torch.zeros_like(d)).sum().backward()
        return float(d.grad)

    plus = 1 / (1 + math.exp(-0.7))
    assert gradient(0.7) == pytest.approx(4 * plus**2 * (1 - plus))
    assert gradient(0) == pytest.approx(0.5)
    assert gradient(math.log(2)) == pytest.approx(16 / 27)
    assert all(gradient(math.log(2) + e) < 16 / 27 for e in (-0.1, 0.1))
    assert gradient(9) < 1e-3 and gradient(-9) < 1e-3


@pytest.mark.fact("triplet_network", 6)
def test_rigid_motions_change_nothing_and_scaling_does():
    z, triplets = torch.randn(6, 4, dtype=torch.float64), torch.tensor([[0, 1, 2], [3, 4, 5], [1, 0, 5]])
    objective = SoftmaxRatioTripletLoss()
    base = objective(z, triplets)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    reflection = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(objective(z @ rotation @ reflection + 3, triplets), base)
    assert not torch.allclose(objective(2 * z, triplets), base)


def test_distance_of_equal_points_has_a_finite_gradient():
    a = torch.ones(1, 3, requires_grad=True)
    euclidean(a, torch.ones(1, 3)).sum().backward()
    assert torch.isfinite(a.grad).all()


def test_contrastive_loss_against_its_formula():
    d, same = torch.tensor([0.3, 0.3, 2.0]), torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(contrastive_loss(d, same, 1.0), torch.tensor([0.09, 0.49, 0.0]))


def test_learners_share_one_pass_and_differ_in_the_loss():
    torch.manual_seed(0)
    x = torch.rand(3, 4, 3, 16, 16)
    batch = Triplets((x[0],), torch.zeros(4).long(), torch.arange(4), positive=x[1], negative=x[2])
    network = cifar_resnet(8, 5, widths=(4, 4, 8))
    learner = TripletNetwork(network).eval()
    z = [network.forward_head(network.forward_features(v), pre_logits=True) for v in x]
    d_pos, d_neg = ((z[0] - z[i]).norm(dim=1) for i in (1, 2))
    torch.testing.assert_close(learner.losses(batch)["triplet"], softmax_ratio_loss(d_pos, d_neg))
    siamese = SiameseNetwork(network, margin=0.5).eval()
    expected = (d_pos**2 + (0.5 - d_neg).clamp_min(0) ** 2) / 2
    torch.testing.assert_close(siamese.losses(batch)["contrastive"], expected, atol=1e-6, rtol=1e-4)


def test_mistakes_are_named():
    with value_error("pad them to 32"):
        TripletConvNet()(torch.rand(1, 3, 28, 28))
    with value_error("positive"):
        SiameseNetwork(TripletConvNet(), margin=0)
