from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.nn import count_parameters, macs
from ziggurat.nn.operators.mu_layer import MuLayer
from ziggurat.vision.backbones.monet import MONet, PolyBlock, monet_s, monet_t


@pytest.mark.fact("monet", 1, 2)
@pytest.mark.parametrize(
    ("make", "counts"), [(monet_t, (10_339_436, 2_702_972_416)), (monet_s, (32_880_688, 6_712_327_168))]
)
def test_published_counts(make, counts):
    with torch.device("meta"):
        network = make()
    assert (count_parameters(network), macs(network, torch.empty(1, 3, 224, 224, device="meta"))) == counts


@pytest.mark.fact("monet", 4)
def test_without_normalisation_and_products_the_whole_network_is_affine():
    network = MONet((1, 2), (8, 16), num_classes=5, norm=False).double().eval()
    x, y = (torch.randn(2, 3, 16, 16, dtype=torch.float64) for _ in range(2))
    bent = network(x) + network(y) - network(torch.zeros_like(x)) - network(x + y)
    assert bent.abs().max() > 1e-3
    for layer in network.modules():
        if isinstance(layer, MuLayer):
            layer.alpha.data.zero_()
    torch.testing.assert_close(network(x) + network(y) - network(torch.zeros_like(x)), network(x + y))


def test_there_is_no_activation_function():
    with torch.device("meta"):
        kinds = {type(part) for part in monet_t().modules() if not list(part.children())}
    assert {kind.__name__ for kind in kinds} == {
        "Conv2d",
        "Linear",
        "LayerNorm",
        "SpatialShift",
        "Identity",
        "DropPath",
        "Dropout",
    }


def test_block_against_a_plain_restatement():
    block = PolyBlock(8).double()
    block.scale.data.uniform_(0.5, 2)
    block.shift.data.normal_()
    norm = nn.LayerNorm(8, eps=1e-6).double()  # the authors' one, called twice
    norm.load_state_dict({"weight": block.scale.data, "bias": block.shift.data})
    x = torch.randn(2, 4, 5, 8, dtype=torch.float64)
    y = x + block.mix_places(norm(x))
    y = y + block.mix_channels(norm(y))
    torch.testing.assert_close(block(x.permute(0, 3, 1, 2)), y.permute(0, 3, 1, 2))


def test_a_place_sees_as_many_steps_as_there_are_blocks():
    network = MONet((3,), (16,)).double().eval()
    x = torch.randn(1, 3, 44, 44, dtype=torch.float64, requires_grad=True)
    network.forward_features(x)[0][0, :, 5, 5].sum().backward()
    seen = x.grad.abs().sum((0, 1)).unflatten(0, (11, 4)).unflatten(2, (11, 4)).sum((1, 3)) > 0
    far = torch.tensor([[abs(i - 5) + abs(j - 5) for j in range(11)] for i in range(11)])
    assert torch.equal(seen, far <= 3)


def test_activations_stay_bounded_with_depth():
    features = MONet((12,), (32,)).stages[0]
    x, deviations = torch.randn(4, 32, 8, 8), []
    with torch.no_grad():
        for block in features:
            x = block(x)
            deviations.append(float(x.std()))
    assert deviations[-1] < 12 and all(0.5 < b / a < 3 for a, b in pairwise(deviations))


def test_mistakes_are_named():
    with value_error("same stages"):
        MONet((1, 1), (8,))
    with value_error("4 pixels or more"):
        MONet((1,), (8,))(torch.zeros(1, 3, 3, 8))
