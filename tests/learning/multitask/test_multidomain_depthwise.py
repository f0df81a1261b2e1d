import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.learning import Supervised
from ziggurat.learning.multitask.multidomain_depthwise import (
    DomainSeparableConv,
    MultiDomainNet,
    SeparableResNet,
    SoftSharedDepthwise,
    decathlon_score,
    multidomain_resnet26,
    separable,
)
from ziggurat.nn import count_parameters, fit
from ziggurat.vision.backbones.efficientnet_lite import EfficientNetLite0
from ziggurat.vision.backbones.mobilenet import MobileNet
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.backbones.xception import Xception

NETWORKS = {
    "separable_resnet": lambda: SeparableResNet(4, stem=4, widths=(4, 8, 8), units=1),
    "mobilenet_v2": lambda: MobileNetV2(4, table=[[1, 8, 1, 1], [2, 8, 2, 2]], stem=8, last=16),
    "efficientnet_lite0": lambda: EfficientNetLite0(num_classes=4),
    "mobilenet": lambda: MobileNet(4, table=[[12, 1], [16, 2], [24, 2]], stem=8),
    "xception": lambda: Xception(
        4, stem=[6, 8], entry=[8], blocks=0, exit_width=20, last=[24, 28], padding="same", dropout=0.0
    ),
}


def batch(classes=4, count=6, seed=1):
    torch.manual_seed(seed)
    return Batch((torch.rand(count, 3, 32, 32),), torch.arange(count) % classes, torch.arange(count))


def size(parameters):
    return sum(p.numel() for p in parameters)


@pytest.mark.fact("multidomain_depthwise", 1)
@pytest.mark.parametrize(("c_in", "c_out"), ((16, 32), (64, 64)))
def test_an_added_domain_costs_nine_filters_and_a_normalisation_a_layer(c_in, c_out):
    layer = DomainSeparableConv(c_in, c_out)
    before = count_parameters(layer)
    layer.add_domain("second")
    assert count_parameters(layer) - before == 9 * c_in + 2 * c_out
    pointwise = layer.pointwise.weight.numel()
    assert pointwise == c_in * c_out
    assert 9 * c_in / (9 * c_in + pointwise) == pytest.approx(9 / (9 + c_out))


def test_sharing_the_other_way_round_costs_a_copy_of_every_pointwise_convolution():
    own, plain = {}, NETWORKS["separable_resnet"]()
    for share in ("pointwise", "depthwise"):
        network = MultiDomainNet(plain, share)
        network.add_domain("second", 4)
        own[share] = size(network.trainable_parameters())
    convs = [m for m in plain.stages.modules() if isinstance(m, nn.Conv2d)]
    spatial = size(c.weight for c in convs if c.groups > 1)
    assert own["depthwise"] - own["pointwise"] == size(c.weight for c in convs if c.groups == 1) - spatial


@pytest.mark.fact("multidomain_depthwise", 2)
@pytest.mark.parametrize(
    ("name", "share"),
    [(n, "pointwise") for n in ("efficientnet_lite0", "mobilenet", "xception")]
    + [
        (n, s)
        for n in ("separable_resnet", "mobilenet_v2")
        for s in ("pointwise", "depthwise", "convolutions", "all", "none")
    ],
)
def test_training_a_second_domain_leaves_the_first_bit_for_bit(name, share):
    network, x = MultiDomainNet(NETWORKS[name](), share), batch().inputs[0]
    fit(Supervised(network, 1e-2), [batch()], steps=1)
    before = network.eval()(x)
    network.add_domain("second", 3)
    started = network(x)
    fit(Supervised(network, 1e-2), [batch(3, seed=2)], steps=2)
    assert network.domain == "second" and not torch.equal(network(x), started)
    assert torch.equal(network(x, "base"), before)
    network.train()
    network(x, "base")
    assert network.domain == "second" and network.training


@pytest.mark.fact("multidomain_depthwise", 2)
def test_soft_sharing_leaves_other_domains_bit_for_bit():
    network, x = MultiDomainNet(NETWORKS["mobilenet_v2"](), soft=True), batch().inputs[0]
    seen = {"base": network.eval()(x)}
    for domain in ("second", "third"):
        network.add_domain(domain, 3)
        fit(Supervised(network, 1e-2), [batch(3, seed=2)], steps=2)
        seen[domain] = network(x)
    assert all(torch.equal(network(x, domain), logits) for domain, logits in seen.items())


@pytest.mark.fact("multidomain_depthwise", 3)
def test_shares_add_up_to_one_and_one_hot_shares_are_the_hard_version():
    layer, x = SoftSharedDepthwise(4, stride=2, domains=("a", "b", "c")).double(), torch.randn(3, 4, 7, 7).double()
    nn.init.normal_(layer.gates["c"].weight)
    shares = layer.shares(x)
    assert shares.shape == (3, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(3, dtype=torch.float64))
    each = [conv2d(x, layer.of[d].weight, None, 2, 1, 1, 4) for d in "abc"]
    torch.testing.assert_close(layer(x), sum(shares[:, k, None, None, None] * y for k, y in enumerate(each)))
    nn.init.zeros_(layer.gates["c"].weight)
    for k in range(3):
        with torch.no_grad():
            layer.gates["c"].bias.copy_(1e4 * torch.eye(3)[k])
        torch.testing.assert_close(layer(x), each[k])
    layer.use("b")  # knows a and b
    assert layer.shares(x).shape == (3, 2)


@pytest.mark.fact("multidomain_depthwise", 4)
@pytest.mark.parametrize("soft", (False, True))
@pytest.mark.parametrize("name", NETWORKS)
def test_with_one_domain_it_is_the_network(name, soft):
    plain, x = NETWORKS[name](), batch().inputs[0]
    network = MultiDomainNet(plain, soft=soft)
    assert torch.equal(network.eval()(x), plain.eval()(x))
    assert size(network.trainable_parameters()) == count_parameters(network) == count_parameters(plain)


def test_reference_network_is_made_of_the_papers_layers():
    with torch.device("meta"):
        network, plain = multidomain_resnet26(), SeparableResNet()
    layers = [m for m in network.modules() if isinstance(m, DomainSeparableConv)]
    assert len(layers) == 24 and count_parameters(network) == count_parameters(plain)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 1 + 2 * 24
    ours = {name.replace("network.", "").replace("of.base.", "") for name in network.state_dict()}
    assert ours == set(plain.state_dict())


@pytest.mark.fact("multidomain_depthwise", 5)
def test_scorer():
    finetuned = {"a": 0.1, "b": 0.3}
    assert decathlon_score({"a": 0.2, "b": 0.6}, finetuned) == 0  # at Emax
    assert decathlon_score({"a": 0.9, "b": 0.7}, finetuned) == 0  # beyond
    assert decathlon_score({"a": 0.0, "b": 0.0}, finetuned) == pytest.approx(2000)
    assert decathlon_score(finetuned, finetuned) == pytest.approx(500)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_the_domains_own_part_learns_and_starts_from_the_base(name):
    network = MultiDomainNet(NETWORKS[name]())
    network.add_domain("second", 3)
    x = batch().inputs[0]
    depthwise = [p for p in network.parts() if isinstance(p.of["base"], nn.Conv2d)]
    assert depthwise and all(torch.equal(p.of["base"].weight, p.of["second"].weight) for p in depthwise)
    network.train()(x).sum().backward()
    learnt = {id(p) for p in network.parameters() if p.grad is not None}
    assert learnt == {id(p) for p in network.trainable_parameters("second")}
    held = {id(p) for group in network.recipe(None).optimizer.param_groups for p in group["params"]}
    assert held == learnt


def test_shared_normalisations_keep_their_statistics():
    network = MultiDomainNet(NETWORKS["mobilenet_v2"](), "all")
    network.add_domain("second", 3)
    before = {name: value.clone() for name, value in network.network.stages.state_dict().items()}
    network.train()(batch().inputs[0])
    after = network.network.stages.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_domain_has_a_head_of_its_own_and_features_of_its_own():
    network, x = MultiDomainNet(NETWORKS["separable_resnet"]()).eval(), batch().inputs[0]
    network.add_domain("second", 7)
    assert network(x).shape == (6, 7) and network(x, "base").shape == (6, 4)
    network.reset_classifier(0)
    assert network(x).shape == (6, network.num_features) and network(x, "base").shape == (6, 4)
    assert torch.equal(network.forward_features(x)[-1], network.stages[2](network.forward_features(x)[1]))


def test_mistakes_are_named():
    with value_error("has no depthwise convolution"):
        MultiDomainNet(cifar_resnet(8, widths=(4, 8, 16)))
    with value_error("pointwise, depthwise, convolutions, all, none"):
        MultiDomainNet(NETWORKS["separable_resnet"](), share="heads")
    with value_error("exclude each other"):
        MultiDomainNet(NETWORKS["separable_resnet"](), share="all", soft=True)
    with value_error("calls its first domain 'base', not 'cifar'"):
        MultiDomainNet(SeparableResNet(layer=DomainSeparableConv), base="cifar")
    network = MultiDomainNet(NETWORKS["separable_resnet"]())
    with value_error("there is no domain 'second'"):
        network.use("second")
    for name in ("base", "a.b", "keys"):
        with value_error("is no name for a new domain"):
            network.add_domain(name, 2)


def test_layer_of_one_domain_is_the_plain_one():
    layer, plain, x = DomainSeparableConv(4, 6, 2), separable(4, 6, 2), torch.randn(2, 4, 9, 9)
    names = dict(zip(layer.state_dict(), plain.state_dict(), strict=True))
    layer.load_state_dict({name: plain.state_dict()[old] for name, old in names.items()})
    assert torch.equal(layer(x), plain(x))
