import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, layer_norm, linear

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.learning.batchformer import BatchFormed, BatchFormer, BatchFormerV2, classifier
from ziggurat.learning.supervised import Supervised
from ziggurat.nn import MLP, Recipe, constant, count_parameters, fit
from ziggurat.vision.backbones.efficientnet_lite import EfficientNetLite0
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.backbones.wide_resnet import WideResNet

NETWORKS = {
    "resnet": lambda: cifar_resnet(8, 4, widths=(4, 8, 16)),
    "mobilenet_v2": lambda: MobileNetV2(4, table=[[1, 8, 1, 1], [2, 8, 2, 2]], stem=8, last=16),
    "vgg": lambda: VGG((1,) * 5, (4, 4, 6, 6, 8), num_classes=4, hidden=8, size=1),
    "wide_resnet": lambda: WideResNet(10, 1, num_classes=4),
    "efficientnet_lite0": lambda: EfficientNetLite0(num_classes=4),
}


def images(count=6, classes=4):
    return Batch((torch.rand(count, 3, 32, 32),), torch.arange(count) % classes, torch.arange(count))


@pytest.mark.fact("batchformer", 1)
@pytest.mark.parametrize(("dim", "parameters"), ((64, 25_216), (512, 1_577_984), (2048, 25_186_304)))
def test_published_parameters(dim, parameters):
    with torch.device("meta"):
        assert count_parameters(BatchFormer(dim)) == parameters == 6 * dim**2 + 10 * dim


@pytest.mark.fact("batchformer", 2)
def test_permuting_the_batch_permutes_both_halves():
    layer, x = BatchFormer(8, dropout=0.0).double(), torch.randn(6, 8, dtype=torch.float64)
    order = torch.randperm(6)
    torch.testing.assert_close(layer(x[order]), layer(x)[torch.cat([order, order + 6])])


@pytest.mark.fact("batchformer", 3)
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_is_that_of_the_network_alone(name):
    network, x = NETWORKS[name](), torch.rand(3, 3, 32, 32)
    learner = BatchFormed(network).eval()
    assert torch.equal(learner.predict(x), network(x))
    torch.testing.assert_close(learner.predict(x[:1]), learner.predict(x)[:1])
    features = torch.randn(5, learner.layer.encoder.self_attn.embed_dim)
    assert learner.layer(features) is features


@pytest.mark.fact("batchformer", 4)
def test_gradients_cross_samples_in_the_mixed_half_only():
    layer, x = BatchFormer(8, dropout=0.0).double(), torch.randn(5, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(layer, x).abs().sum((1, 3))
    plain, mixed = jacobian.split(5)
    torch.testing.assert_close(plain, 8 * torch.eye(5, dtype=torch.float64))
    assert (mixed > 0).all()


def naive(layer, x):
    """Attention over the samples, head by head, and two linear layers, each added and normalised."""
    attention, dim = layer.self_attn, x.shape[1]
    q, k, v = linear(x, attention.in_proj_weight, attention.in_proj_bias).split(dim, 1)
    heads, width = [], dim // attention.num_heads
    for h in range(attention.num_heads):
        part = slice(h * width, (h + 1) * width)
        heads.append((q[:, part] @ k[:, part].T / math.sqrt(width)).softmax(1) @ v[:, part])
    y = linear(torch.cat(heads, 1), attention.out_proj.weight, attention.out_proj.bias)
    x = layer_norm(x + y, (dim,), layer.norm1.weight, layer.norm1.bias)
    return layer_norm(x + layer.linear2(layer.linear1(x).relu()), (dim,), layer.norm2.weight, layer.norm2.bias)


def test_encoder_against_a_plain_restatement():
    layer, x = BatchFormer(8, dropout=0.0).double(), torch.randn(6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.cat([x, naive(layer.encoder, x)]))


def test_tokens_and_maps_attend_at_each_place():
    plain, maps = BatchFormer(8, dropout=0.0).double(), BatchFormerV2(8, dropout=0.0).double()
    maps.load_state_dict(plain.state_dict())
    x = torch.randn(4, 8, 2, 3, dtype=torch.float64)
    got = maps(x)
    torch.testing.assert_close(got[:, :, 1, 2], plain(x[:, :, 1, 2]))
    torch.testing.assert_close(plain(x.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(got), got)


def test_views_of_a_contrastive_method_share_the_projector():
    layer, projector = BatchFormer(8), nn.Linear(8, 4)
    one, two = (projector(layer(torch.randn(6, 8))) for _ in range(2))
    assert one.shape == two.shape == (12, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_classifier_scores_both_halves_and_the_loss_is_their_mean(name):
    torch.manual_seed(0)
    network, batch = NETWORKS[name](), images()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    learner, scored = BatchFormed(network, dropout=0.0), []
    watched = classifier(network).register_forward_hook(lambda *given: scored.append(given[2]))
    loss = learner.losses(batch)["cross_entropy"]
    watched.remove()
    assert len(scored) == 1 and scored[0].shape == (12, 4)
    torch.testing.assert_close(loss.mean(), cross_entropy(scored[0], batch.target.repeat(2)))
    torch.testing.assert_close(scored[0][:6], network(*batch.inputs))
    loss.sum().backward()
    assert all(p.grad is not None for p in learner.parameters())
    assert not classifier(network)._forward_pre_hooks


def test_the_loss_of_one_sample_reaches_the_features_of_the_others():
    batch, reached = images(), {}
    for kind in (Supervised, BatchFormed):
        torch.manual_seed(0)
        learner = kind(MLP(3 * 32 * 32, 4, (8,)))
        x = batch.inputs[0].clone().requires_grad_()
        learner.losses(Batch((x,), batch.target, batch.index))["cross_entropy"][0].backward()
        reached[kind] = (x.grad.flatten(1).abs().sum(1) > 0).tolist()
    assert reached == {Supervised: [True] + [False] * 5, BatchFormed: [True] * 6}


class Smooth(Supervised):
    """Another supervised learner: its own loss and recipe."""

    def loss(self, logits, batch):
        return super().loss(logits, batch) + logits.pow(2).mean(1)

    def recipe(self):
        return Recipe(torch.optim.SGD(self.parameters(), lr=0.1), constant)


class SmoothFormed(BatchFormed, Smooth):
    """Both."""


class Recipes(MLP):
    """A network that brings its paper's optimiser."""

    def recipe(self, lr):
        groups = [{"params": self.stages.parameters()}, {"params": self.head.parameters()}]
        return Recipe(torch.optim.SGD(groups, lr=lr or 0.1), [constant, constant])


def test_it_goes_in_front_of_another_learner_and_keeps_its_recipe():
    batch = images()
    learner = SmoothFormed(MLP(3 * 32 * 32, 4, (8,)))
    assert isinstance(learner.recipe().optimizer, torch.optim.SGD) and learner.losses(batch)["cross_entropy"].shape == (
        6,
    )
    learner = BatchFormed(Recipes(3 * 32 * 32, 4, (8,)))
    before = [p.detach().clone() for p in learner.layer.parameters()]
    fit(learner, [batch], steps=2)
    assert any(not torch.equal(a, b) for a, b in zip(before, learner.layer.parameters(), strict=True))


def test_mistakes_are_named():
    with value_error("needs two or more, got 1"):
        BatchFormer(8)(torch.randn(1, 8))
    with value_error("cannot be shared among 4 heads"):
        BatchFormer(6)
    with value_error("has no linear classifier"):
        BatchFormed(cifar_resnet(8, 0, widths=(4, 8, 16)))
