"""What every network of stages can do: be attached to, be checkpointed, refuse images that are too small."""

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data.batch import Batch
from ziggurat.learning.supervised import Supervised
from ziggurat.nn import attach, saved_bytes
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.backbones.resnet import ResNet, resnet50
from ziggurat.vision.backbones.vgg import VGG


def small():
    return ResNet("basic", (2, 2), 4, widths=(4, 8), stem="cifar")


class Shift(nn.Module):
    """Adds one number to every value."""

    def __init__(self, channels):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return x + self.shift.view(-1, 1, 1)


@pytest.mark.parametrize(
    "make",
    [
        small,
        lambda: MobileNetV2(3, table=[[1, 8, 1, 1], [2, 8, 2, 2]], stem=8, last=16),
        lambda: VGG((1, 1), (4, 6), 3, hidden=0),
    ],
)
def test_attached_identities_change_nothing_and_weights_still_load(make):
    plain = make().eval()
    more = attach(plain, Shift)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(more(x), plain(x))
    result = more.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys and all("_attached." in key for key in result.missing_keys)
    assert len(result.missing_keys) == len(plain.stages)
    nn.init.ones_(getattr(more.stages[0], more.stages[0]._modules.copy().popitem()[0]).shift)
    torch.testing.assert_close(more.forward_features(x)[0], plain.forward_features(x)[0] + 1)


def test_places_are_behind_units():
    with torch.device("meta"):
        network = attach(resnet50(), Shift, {1: (2, 4), 2: (2, 4, 6)})
    names = [name for name, _ in network.named_modules() if name.endswith("_attached")]
    assert names == [f"stages.1.{i}_attached" for i in (1, 3)] + [f"stages.2.{i}_attached" for i in (1, 3, 5)]
    with value_error("units 1 to 2, got 3"):
        attach(small(), Shift, {0: (3,)})
    with value_error("stages 0 to 1"):
        attach(small(), Shift, {5: (1,)})


def test_checkpointing_gives_the_same_gradient_and_keeps_less():
    torch.manual_seed(0)
    network, x = (
        ResNet("basic", (3, 3), 4, widths=(8, 8), stem="cifar", norm=lambda c: nn.GroupNorm(2, c)),
        torch.rand(4, 3, 16, 16),
    )
    found = []
    for checkpointing in (False, True):
        network.checkpointing = checkpointing
        network.zero_grad()
        with saved_bytes(network) as saved:
            network(x).square().sum().backward()
        found.append((saved.peak, [p.grad.clone() for p in network.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert found[1][0] < 0.6 * found[0][0]


def test_images_that_are_too_small_are_named():
    network = small()
    network.smallest = 8
    network(torch.rand(2, 3, 8, 9))
    with value_error("ResNet takes images of 8 pixels or more, got 7×9"):
        network(torch.rand(2, 3, 7, 9))


class WithAuxiliary(ResNet):
    """A second classifier on the first stage."""

    auxiliary_weight = 0.25

    def auxiliary(self, features):
        return features[0].mean((2, 3))


def test_supervised_trains_through_an_auxiliary_head():
    torch.manual_seed(0)
    network = WithAuxiliary("basic", (1, 1), 4, widths=(4, 8), stem="cifar").eval()
    batch = Batch((torch.rand(5, 3, 16, 16),), torch.arange(5) % 4, torch.arange(5))
    terms = Supervised(network).losses(batch)
    features = network.forward_features(*batch.inputs)
    own = nn.functional.cross_entropy(network.auxiliary(features), batch.target, reduction="none")
    torch.testing.assert_close(terms["auxiliary"], own / 4)
    plain = nn.functional.cross_entropy(network(*batch.inputs), batch.target, reduction="none")
    torch.testing.assert_close(terms["cross_entropy"], plain)
