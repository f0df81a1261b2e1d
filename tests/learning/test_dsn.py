import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.learning.dsn import Companion, DeeplySupervised, companion_loss, deeply_supervised_nin, paper_decay
from ziggurat.nn import MLP, Recipe, constant, fit
from ziggurat.nn.losses.squared_hinge import squared_hinge
from ziggurat.vision.backbones.efficientnet_lite import EfficientNetLite0
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.backbones.wide_resnet import WideResNet

NETWORKS = {
    "resnet": (lambda: cifar_resnet(8, 4, widths=(4, 8, 16)), {"stages.0.0": 4, "stages.2.0.conv1": 16}),
    "mobilenet_v2": (
        lambda: MobileNetV2(4, table=[[1, 8, 1, 1], [2, 8, 2, 2]], stem=8, last=16, dropout=0.0),
        {"stages.1.0.depthwise": 16, "last": 16},
    ),
    "vgg": (
        lambda: VGG((1,) * 5, (4, 4, 6, 6, 8), num_classes=4, hidden=8, size=1, dropout=0.0),
        {"stages.1.0": 4, "head.layers.1": 8},
    ),
    "wide_resnet": (lambda: WideResNet(10, 1, num_classes=4), {"stem": 16, "stages.1.0": 32}),
    "efficientnet_lite0": (lambda: EfficientNetLite0(num_classes=4), {"stages.0.0": 16, "stages.4": 320}),
}


def images(count=6, classes=4, size=32):
    torch.manual_seed(1)
    return Batch((torch.rand(count, 3, size, size),), torch.arange(count) % classes, torch.arange(count))


def total(learner, batch):
    torch.manual_seed(2)
    return learner.total(learner.losses(batch), batch)


@pytest.mark.fact("dsn", 1)
@pytest.mark.parametrize("name", ("resnet", "vgg", "wide_resnet"))
def test_without_alpha_it_is_the_plain_network_bit_for_bit(name):
    batch, network = images(), NETWORKS[name][0]()
    learner = DeeplySupervised(network, 4, alpha=0.0)
    loss = total(learner, batch)
    loss.backward()
    linear = [m for m in network.head.modules() if isinstance(m, nn.Linear)][-1]
    plain = squared_hinge(network(*batch.inputs), batch.target).mean() + 5e-4 * linear.weight.square().sum()
    assert torch.equal(loss, plain)
    grads = torch.autograd.grad(plain, list(network.parameters()))
    assert all(torch.equal(p.grad, g) for p, g in zip(network.parameters(), grads, strict=True))


@pytest.mark.fact("dsn", 2)
def test_a_companion_below_the_threshold_contributes_nothing():
    batch = images()
    for gamma, silent in ((1e6, True), (0.0, False)):
        torch.manual_seed(0)
        learner = DeeplySupervised(cifar_resnet(8, 4, widths=(4, 8, 16)), 4, gamma=gamma, penalty=1.0)
        terms = learner.losses(batch)
        (terms["companion1"] + terms["companion2"]).backward()
        reached = [p for p in learner.parameters() if p.grad is not None and p.grad.any()]
        assert (not reached) == silent
        assert (float(terms["companion1"].detach()) == 0) == silent
    loss, weight = torch.tensor(0.5), torch.full((2, 2), 0.5, requires_grad=True)
    for gamma, want in ((1.0, 0.5), (1.5, 0.0), (2.0, 0.0)):  # ‖w‖² + l = 1.5
        assert float(companion_loss(loss, weight, gamma).detach()) == want


@pytest.mark.fact("dsn", 3)
@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_are_the_networks_own(name):
    make, named = NETWORKS[name]
    network, x = make(), images().inputs[0]
    for taps in (None, [0], named):
        learner = DeeplySupervised(network, 4, taps).eval()
        before = learner.predict(x)
        for p in learner.companions.parameters():
            nn.init.normal_(p)
        assert torch.equal(learner.predict(x), before) and torch.equal(before, network(x))


@pytest.mark.fact("dsn", 4)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_companion_reaches_every_layer_up_to_its_own_and_none_behind(name):
    network = NETWORKS[name][0]()
    tap = len(network.stages) - 2
    learner = DeeplySupervised(network, 4, [tap])
    learner.losses(images())["companion1"].backward()
    parts = [network.stem, *network.stages, network.head]
    reached = [any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts]
    first = 0 if any(True for _ in network.stem.parameters()) else 1
    assert reached == [first <= i <= tap + 1 for i in range(len(parts))]


@pytest.mark.parametrize("name", NETWORKS)
def test_companions_stand_behind_named_modules_of_any_network(name):
    make, named = NETWORKS[name]
    batch, learner = images(), DeeplySupervised(make(), 4, named, alpha=(0.3, 0.1))
    heard = []
    hooks = [learner.get_submodule(f"network.{n}").register_forward_hook(lambda *g: heard.append(g[2])) for n in named]
    out, companions = learner.outputs(*batch.inputs)
    for hook in hooks:
        hook.remove()
    for companion, x, logits in zip(learner.companions, heard, companions, strict=True):
        mean = x.flatten(2).mean(2) if x.ndim == 4 else x
        torch.testing.assert_close(logits, companion.fc(mean))
    assert out.shape == companions[0].shape == (6, 4)
    assert all(not module._forward_hooks for module in learner.modules())


@pytest.mark.parametrize("kind", ("hinge", "softmax"))
def test_objective_is_the_papers(kind):
    batch = images()
    learner = DeeplySupervised(
        cifar_resnet(8, 4, widths=(4, 8, 16)), 4, pool=2, alpha=(0.3, 0.2), gamma=0.1, loss=kind, penalty=0.01
    )
    out, companions = learner.outputs(*batch.inputs)
    loss = (
        (lambda s: squared_hinge(s, batch.target).mean())
        if kind == "hinge"
        else (lambda s: cross_entropy(s, batch.target))
    )
    want = loss(out) + 0.01 * learner.network.head.fc.weight.norm() ** 2
    for alpha, logits, companion in zip((0.3, 0.2), companions, learner.companions, strict=True):
        want = want + alpha * (loss(logits) + 0.01 * companion.fc.weight.norm() ** 2 - 0.1).clamp_min(0)
    torch.testing.assert_close(total(learner, batch), want)


def test_reference_net_has_companions_behind_the_first_two_perceptrons():
    learner = deeply_supervised_nin()
    assert learner.taps == [0, 1] and [c.fc.in_features for c in learner.companions] == [96 * 64, 192 * 64]
    out, companions = learner.outputs(torch.rand(2, 3, 32, 32))
    assert out.shape == companions[0].shape == companions[1].shape == (2, 10)
    terms = learner.losses(images(2))
    last = learner.network.head.maps.conv.weight
    torch.testing.assert_close(terms["out_norm"], 5e-4 * last.square().sum())


def test_pooling_to_the_own_side_flattens():
    companion, x = Companion(3, 2, pool=4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(companion(x), companion.fc(x.flatten(1)))


def watched(learner, batch, epochs):
    """α in every step of a training."""
    seen, plain = [], learner.decay
    learner.decay = lambda: seen.append(plain()) or seen[-1]
    fit(learner, [batch, batch], epochs=epochs)
    return seen[::2]  # two companions


def test_schedules_over_a_run():
    assert paper_decay(0, 4) == 1 and paper_decay(2, 4) == pytest.approx(0.1 * 0.75 * 0.1 * 0.5)
    batch = images(size=16)
    make = lambda schedule: DeeplySupervised(cifar_resnet(8, 4, widths=(4, 8, 8)), 4, schedule=schedule)  # noqa: E731
    assert watched(make("linear"), batch, 2) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert watched(make("paper"), batch, 4) == pytest.approx([1, 1, 0.075, 0.075, 0.00375, 0.00375, 9.375e-5, 9.375e-5])


def test_a_sample_of_weight_zero_counts_nowhere():
    batch = images(size=16)
    learner = DeeplySupervised(MLP(3 * 16 * 16, 4, (8, 8)), 4)
    batch.weight = torch.tensor([1.0, 1, 1, 0, 0, 0])
    half = Batch((batch.inputs[0][:3],), batch.target[:3], batch.index[:3])
    torch.testing.assert_close(total(learner, batch), total(learner, half))


class Recipes(MLP):
    """A network that brings its paper's optimiser."""

    def recipe(self, lr):
        groups = [{"params": self.stages.parameters()}, {"params": self.head.parameters()}]
        return Recipe(torch.optim.SGD(groups, lr=lr or 0.1), [constant, constant])


def test_companions_learn_with_the_networks_recipe():
    batch = images(size=16)
    learner = DeeplySupervised(Recipes(3 * 16 * 16, 4, (8, 8)), 4)
    before = learner.companions[0].fc.weight.detach().clone()
    fit(learner, [batch], steps=2)
    assert not torch.equal(before, learner.companions[0].fc.weight)


def test_mistakes_are_named():
    network = cifar_resnet(8, 4, widths=(4, 8, 16))
    with value_error("has 3 of them"):
        DeeplySupervised(network, 4, [3])
    with value_error("has no module 'layer1'"):
        DeeplySupervised(network, 4, {"layer1": 4})
    with value_error("2 companions need as many alpha, got 1"):
        DeeplySupervised(network, 4, alpha=[0.3])
    with value_error("linear, paper"):
        DeeplySupervised(network, 4, schedule="cosine")
    with value_error("has 0 of them"):
        DeeplySupervised(nn.Linear(2, 2), 2)
    with value_error("name another module, or give its channels"):
        DeeplySupervised(network, 4, {"stages.1": 4}).losses(images())
