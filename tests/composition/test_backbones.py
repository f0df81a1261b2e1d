"""Every Staged network of images of the catalogue, in its tiny form, with learners, rules, necks, explainers and folding.

One learning step on eight images lowers the loss; whatever takes a network takes each of them.
"""

import pytest
import torch

from ziggurat import catalogue
from ziggurat.data.feeds import feed
from ziggurat.explain.saliency import saliency_map
from ziggurat.learning.fewshot.protonet import PrototypicalNetwork
from ziggurat.learning.selfsup.simsiam import SimSiam
from ziggurat.learning.supervised import Supervised
from ziggurat.nn import fuse
from ziggurat.rules.mono_forward import MonoForward
from ziggurat.rules.stagewise import StagewiseMonoForward
from ziggurat.testing.examples import example_images
from ziggurat.vision.necks.fpn import FPN

BACKBONES = [
    path
    for row in (*catalogue.rows().values(), *catalogue.baselines().values())
    for path in row["symbols"]
    if catalogue.contract(path)["contract"] == "staged" and catalogue.contract(path)["input"] == "image"
]


RATES = (0.1, 0.01, 1e-3, 1e-4)


def short(path):
    return path.rpartition(".")[2]


def backbone(path):
    torch.manual_seed(0)
    return catalogue.tiny(path)


def size(path):
    return catalogue.contract(path).get("example", {}).get("size", 32)


def images(path, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, size(path), size(path), generator=g)


SEQUENTIAL = [path for path in BACKBONES if catalogue.tiny(path).sequential]


def local(path):
    """Mono-Forward; inside the network where its stages hand on more than a map."""
    try:
        return MonoForward(backbone(path), num_classes=3, input_shape=(3, size(path), size(path)), immediate=False)
    except ValueError as error:
        assert "more than one tensor" in str(error)
        return StagewiseMonoForward(backbone(path), 3)


def lowered(learner, batch):
    """Whether one step along the gradient, of one of four lengths, lowers the loss on the same draws."""

    def loss():
        torch.manual_seed(1)
        return learner.total(learner.losses(batch), batch)

    before = loss()
    before.backward()
    steps = [(p, p.grad.clone()) for p in learner.parameters() if p.grad is not None]
    length = torch.stack([grad.norm() for _, grad in steps]).norm()
    assert torch.isfinite(length) and length > 0
    start = [p.detach().clone() for p, _ in steps]
    for rate in RATES:
        with torch.no_grad():
            for (p, grad), old in zip(steps, start, strict=True):
                p.copy_(old - rate * grad / length)
            if loss() < before:
                return True
    return False


LEARNERS = {
    "supervised": lambda network, size: Supervised(network),
    "simsiam": lambda network, size: SimSiam(network, image_size=size, width=16, bottleneck=8),
    "protonet": lambda network, size: PrototypicalNetwork(network, ways=4, shots=1, queries=1),
}


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_a_step_lowers_the_loss(path, learner):
    made = LEARNERS[learner](backbone(path), size(path)).train()
    classes = 4 if learner == "protonet" else 3
    batch = next(iter(feed(example_images(8, classes, size(path)), made.feed, 8)))
    assert lowered(made, batch)


@pytest.mark.parametrize("path", SEQUENTIAL, ids=short)
def test_a_local_rule_lowers_every_loss(path):
    learner = local(path).train()
    batch = next(iter(feed(example_images(8, 3, size(path)), learner.feed, 8)))
    assert lowered(learner, batch)


@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_a_pyramid_stands_on_it(path):
    network = backbone(path).eval()
    features = network.forward_features(images(path))
    ordered = list(dict.fromkeys(network.strides))
    last = [max(i for i, s in enumerate(network.strides) if s == stride) for stride in ordered]
    neck = FPN([network.channels[i] for i in last], ordered, width=6).eval()
    maps = neck([features[i] for i in last])
    assert [m.shape[-2:] for m in maps[: len(last)]] == [features[i].shape[-2:] for i in last]


@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_its_decisions_can_be_explained(path):
    x = images(path)
    heat = saliency_map(backbone(path).eval(), x)
    assert heat.shape == (2, *x.shape[-2:]) and torch.isfinite(heat).all() and heat.amax() > 0


@pytest.mark.parametrize("path", BACKBONES, ids=short)
def test_folding_keeps_its_output(path):
    network = backbone(path).train()
    with torch.no_grad():
        network(images(path, 1))  # statistics that are not those of the start
    x = images(path)
    torch.testing.assert_close(fuse(network)(x), network.eval()(x), rtol=1e-3, atol=1e-4)
