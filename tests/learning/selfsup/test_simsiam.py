import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data import Images, Views, feed
from ziggurat.learning.selfsup.simsiam import SimSiam, feature_spread, negative_similarity
from ziggurat.nn import MLP, MLPHead, count_parameters, fit
from ziggurat.vision.backbones.resnet import cifar_resnet


def views(n=16, features=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=g)
    noise = [0.1 * torch.randn(n, features, generator=g) for _ in range(2)]
    return Views((x,), torch.zeros(n, dtype=torch.int64), torch.arange(n), views=(x + noise[0], x + noise[1]))


def learner(seed=0, **options):
    torch.manual_seed(seed)
    return SimSiam(MLP(12, 3, (16,)), width=16, bottleneck=8, **options)


@pytest.mark.fact("simsiam", 1)
def test_published_sizes_of_the_heads():
    with torch.device("meta"):
        model = SimSiam(MLP(4, 0, (2048,)))
    assert count_parameters(model.projector) == 12_591_104
    assert count_parameters(model.predictor) == 2_100_224


@pytest.mark.fact("simsiam", 2)
def test_loss_is_bounded_and_minus_one_for_identical_views_without_predictor():
    z = torch.randn(50, 8)
    for p in (torch.randn(50, 8), z, -z):
        loss = negative_similarity(p, z)
        assert (loss >= -1 - 1e-6).all() and (loss <= 1 + 1e-6).all()
    model, b = learner(predictor="none"), views()
    b.views = (b.views[0], b.views[0])
    torch.testing.assert_close(model.losses(b)["similarity"], torch.full((16,), -1.0))


@pytest.mark.fact("simsiam", 3)
def test_gradient_is_that_of_constant_targets_and_half_without_a_predictor():
    b = views()
    model = learner().eval()
    model.losses(b)["similarity"].mean().backward()
    got = [p.grad.clone() for p in model.network.parameters()]
    model.zero_grad()
    z = [model.projector(model.represent(v)) for v in b.views]
    constants = [t.detach().clone() for t in z]
    p = [model.predictor(t) for t in z]
    ((negative_similarity(p[0], constants[1]) + negative_similarity(p[1], constants[0])) / 2).mean().backward()
    for ours, theirs in zip(got, model.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)

    gradients = []
    for stop in (True, False):
        model = learner(predictor="none", stop_gradient=stop).eval()
        model.losses(b)["similarity"].mean().backward()
        gradients.append([p.grad.clone() for p in model.network.parameters()])
    for half, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(half, whole / 2)


@pytest.mark.fact("simsiam", 4)
def test_loss_is_the_mean_of_two_negative_cosines():
    model, b = learner().eval(), views()
    z = [model.projector(model.represent(v)) for v in b.views]
    p = [model.predictor(t) for t in z]
    for i in range(4):
        terms = [float(p[a][i] @ z[c][i] / p[a][i].norm() / z[c][i].norm()) for a, c in ((0, 1), (1, 0))]
        assert float(model.losses(b)["similarity"][i]) == pytest.approx(-sum(terms) / 2, abs=1e-5)
    one_sided = learner(symmetric=False).eval().losses(b)["similarity"]
    torch.testing.assert_close(one_sided, negative_similarity(p[0], z[1]))


def test_cross_entropy_similarity_against_its_formula():
    p, z = torch.randn(3, 5).double(), torch.randn(3, 5).double()
    expected = [-sum(z[i].softmax(0)[d] * p[i].log_softmax(0)[d] for d in range(5)) for i in range(3)]
    torch.testing.assert_close(negative_similarity(p, z, "cross_entropy"), torch.stack(expected))


def test_spread_is_one_for_isotropic_and_zero_for_constant_features():
    g = torch.Generator().manual_seed(0)
    assert float(feature_spread(torch.randn(4000, 32, generator=g))) == pytest.approx(1, abs=0.02)
    assert float(feature_spread(torch.ones(10, 32))) < 1e-6


def test_predictor_rate_stays_constant_and_the_encoder_follows_a_cosine():
    model = learner()
    model.batch_size = 512
    recipe = model.recipe()
    assert [group["lr"] for group in recipe.optimizer.param_groups] == [0.1, 0.1]
    assert [schedule(0.5) for schedule in recipe.schedule] == [pytest.approx(0.5), 1.0]
    assert len(learner(predictor="fixed").recipe().optimizer.param_groups) == 1


@pytest.mark.parametrize(("bn", "count"), [("none", 0), ("hidden", 3), ("default", 4), ("all", 5)])
def test_normalisation_switch(bn, count):
    model = learner(bn=bn)
    assert sum(isinstance(m, nn.BatchNorm1d) for m in model.modules()) == count
    last = list(model.predictor)[-1]
    assert isinstance(last, nn.BatchNorm1d) == (bn == "all")


def test_trains_on_images_with_two_random_views():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (32, 3, 16, 16), generator=g, dtype=torch.uint8)
    data = Images(images, torch.arange(32) % 2, ("a", "b"), "noise")
    torch.manual_seed(0)
    model = SimSiam(cifar_resnet(8, widths=(4, 8, 8)), 16, 3, width=16, bottleneck=8, lr=0.1)
    loader = feed(data, model.feed, 32)
    first = float(model.losses(next(iter(loader)))["similarity"].mean())
    fit(model, loader, steps=30)
    assert float(model.losses(next(iter(loader)))["similarity"].mean()) < first - 0.05
    assert model.represent(torch.rand(2, 3, 16, 16)).shape == (2, 8)
    assert 0 < float(model.monitor(data.inputs(slice(None)))) < 1.5


def test_mistakes_are_named():
    with value_error("mlp, fixed, none"):
        learner(predictor="linear")
    with value_error("cosine, cross_entropy"):
        learner(similarity="dot")


def test_head_layers():
    head = MLPHead(4, [6, 5], output_norm="plain")
    assert [type(m).__name__ for m in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert head[0].bias is None and head[3].bias is None and not head[4].affine
