import copy

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.vision.adapters import Adapted, from_timm, from_torchvision
from ziggurat.vision.detection.retinanet import RetinaNet


class Plain(nn.Module):
    """A user's own network: four convolutions, three sizes of map."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 1, 1))
        self.two = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        self.three = nn.Conv2d(8, 10, 3, 2, 1)
        self.hidden, self.fc = nn.Linear(10, 7), nn.Linear(7, 5)

    def forward(self, x):
        x = self.three(self.two(self.one(x))).mean((2, 3))
        return self.fc(torch.relu(self.hidden(x)))


def test_a_network_of_ones_own_gives_its_levels():
    network = Plain().eval()
    adapted, x = Adapted(network, 32).eval(), torch.rand(2, 2, 48, 40)
    assert (adapted.levels, adapted.channels, adapted.strides) == (("one", "two", "three"), (6, 8, 10), (2, 4, 8))
    features = adapted.forward_features(x)
    assert torch.equal(features[0], network.one(x)) and features[2].shape == (2, 10, 6, 5)
    assert torch.equal(adapted(x), network(x))
    assert torch.equal(
        adapted.forward_head(features, pre_logits=True), torch.relu(network.hidden(features[2].mean((2, 3))))
    )
    assert not any(part._forward_hooks for part in network.modules())
    twin = copy.deepcopy(adapted)
    nn.init.zeros_(twin.network.fc.weight)
    assert torch.equal(adapted(x), network(x))


def test_its_classifier_can_be_changed():
    adapted, x = Adapted(Plain(), 32).eval(), torch.rand(1, 2, 32, 32)
    adapted.reset_classifier(3)
    assert adapted(x).shape == (1, 3)
    adapted.reset_classifier(0)
    assert torch.equal(adapted(x), adapted.forward_head(adapted.forward_features(x), pre_logits=True))


def test_mistakes_are_named():
    with value_error("maps of fewer than two sizes"):
        Adapted(
            nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), 16
        )
    with value_error("no linear layer"):
        Adapted(nn.Conv2d(3, 4, 3))
    adapted = Adapted(Plain(), 32)
    with value_error("the very list"):
        adapted.forward_head([torch.rand(1, 10, 2, 2)])


TIMM = {
    "resnet18": ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
    "mobilenetv2_050": ((8, 16, 16, 48, 160), (2, 4, 8, 16, 32)),
    "convnext_atto": ((40, 80, 160, 320), (4, 8, 16, 32)),
    "deit_tiny_patch16_224": ((192,) * 12, (16,) * 12),
}


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name):
    pytest.importorskip("timm", reason="peer: timm is absent")
    adapted, x = from_timm(name, num_classes=7).eval(), torch.rand(1, 3, 224, 224)
    assert (adapted.channels, adapted.strides) == TIMM[name]
    features = adapted.forward_features(x)
    assert [tuple(f.shape[1:]) for f in features] == [
        (c, 224 // s, 224 // s) for c, s in zip(adapted.channels, adapted.strides, strict=True)
    ]
    torch.testing.assert_close(adapted(x), adapted.network(x))
    assert adapted.forward_head(features, pre_logits=True).shape == (1, adapted.num_features)
    adapted.reset_classifier(3)
    assert adapted(x).shape == (1, 3)


TORCHVISION = {
    "resnet18": ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
    "densenet121": ((64, 256, 512, 1024, 1024), (2, 4, 8, 16, 32)),
    "mobilenet_v3_small": ((16, 16, 24, 48, 576), (2, 4, 8, 16, 32)),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name):
    pytest.importorskip("torchvision.models", reason="peer: torchvision is absent")
    adapted, x = from_torchvision(name, num_classes=7).eval(), torch.rand(1, 3, 224, 224)
    assert adapted.strides == TORCHVISION[name][1] and adapted.channels[-1] == TORCHVISION[name][0][-1]
    torch.testing.assert_close(adapted(x), adapted.network(x))
    detector = RetinaNet(adapted, num_classes=2, width=16, depth=1).train()
    losses = detector([x[0]], [{"boxes": torch.tensor([[20.0, 20, 90, 90]]), "labels": torch.tensor([1])}])
    assert all(torch.isfinite(value) for value in losses.values())


def test_peers_that_are_absent_are_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with value_error("pip install timm"):
        from_timm("resnet18")
    with value_error("pip install torchvision"):
        from_torchvision("resnet18")
