import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.learning.supervised import Supervised
from ziggurat.nn import count_parameters, fit, saved_bytes
from ziggurat.nn.hyperbolic.ball import AutogradBall
from ziggurat.testing import example_images
from ziggurat.vision.backbones.poincare_resnet import PoincareResNet


@pytest.mark.fact("poincare_resnet", 2)
@pytest.mark.parametrize(
    ("depth", "widths", "parameters"),
    ((20, (8, 16, 32), 68_757), (32, (8, 16, 32), 117_601), (20, (16, 32, 64), 272_397)),
)
def test_published_counts(depth, widths, parameters):
    with torch.device("meta"):
        assert count_parameters(PoincareResNet(depth, 10, widths=widths)) == parameters


def test_backward_passes_by_hand_give_the_same_gradients_and_keep_less():
    x = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    grads, kept = [], []
    for ball in (None, AutogradBall(0.1)):
        torch.manual_seed(0)
        network = PoincareResNet(8, 4, widths=(4, 6, 8), ball=ball).double()
        with saved_bytes(network) as saved:
            network(x).pow(2).sum().backward()
        grads.append([p.grad for p in network.parameters()])
        kept.append(saved.peak)
    torch.testing.assert_close(*grads)
    assert kept[0] < 0.8 * kept[1]


def test_features_stay_finite_by_depth_and_far_from_the_edge():
    torch.manual_seed(0)
    for depth in (8, 32):
        for feature in PoincareResNet(depth, 4, widths=(4, 6, 8)).forward_features(torch.randn(4, 3, 8, 8)):
            assert 0.05 < float(feature.detach().norm(dim=1).mean()) < 5


def test_its_recipe_is_adam_on_all_parameters_and_it_learns():
    torch.manual_seed(0)
    learner, images = Supervised(PoincareResNet(8, 2, widths=(4, 6, 8)), lr=1e-2), example_images(16, classes=2, size=8)
    optimizer = learner.recipe().optimizer
    assert isinstance(optimizer, torch.optim.Adam)
    assert len(optimizer.param_groups[0]["params"]) == len(list(learner.parameters()))
    batch = Batch((images.inputs(range(16)),), images.labels, torch.arange(16))
    fit(learner, [batch], steps=12)
    assert learner.train().losses(batch)["cross_entropy"].mean() < 0.2


def test_mistakes_are_named():
    with value_error("depth must be 6n"):
        PoincareResNet(18)
