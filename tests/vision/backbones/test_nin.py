import pytest
import torch
from torch.nn.functional import linear, unfold

from tests.typecheck import value_error
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones.nin import NIN, WIDTHS, FlatMaps, MLPConv, nin_fc, nin_linear

SMALL = ((8, 7, 6), (8, 8, 8), (8, 8))


@pytest.mark.fact("nin", 1, 2)
def test_published_counts():
    x = torch.empty(1, 3, 32, 32, device="meta")
    with torch.device("meta"):
        ten, hundred = NIN(10), NIN(100)
    assert (count_parameters(ten), count_parameters(hundred)) == (966_986, 984_356)
    assert macs(ten, x) == 222_486_528
    assert [tuple(f.shape[1:]) for f in ten.forward_features(x)] == [(96, 32, 32), (192, 16, 16), (192, 8, 8)]
    assert tuple(ten.head.maps(ten.forward_features(x)[-1]).shape) == (1, 10, 8, 8)


@pytest.mark.fact("nin", 3)
def test_mlpconv_is_one_perceptron_on_every_patch():
    torch.manual_seed(0)
    layer = MLPConv(3, (8, 7, 6), 5).double()
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    y = unfold(x, 5, padding=2).transpose(1, 2)  # patches as rows
    for step in layer:
        y = linear(y, step.conv.weight.flatten(1), step.conv.bias).relu()
    torch.testing.assert_close(layer(x), y.transpose(1, 2).unflatten(2, (9, 7)))


@pytest.mark.fact("nin", 4)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (32, 32), (65, 47)])
def test_logits_are_means_of_class_maps_at_any_size(size, relu):
    torch.manual_seed(0)
    network = NIN(5, widths=SMALL, relu_logits=relu).double().eval()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    features = network.forward_features(x)
    maps = network.head.maps(features[-1])
    assert maps.shape[1] == 5 and bool((maps < 0).any()) != relu
    torch.testing.assert_close(network(x), maps.flatten(2).sum(2) / maps[0, 0].numel())
    torch.testing.assert_close(network.forward_head(features, pre_logits=True), features[-1].flatten(2).mean(2))


def test_the_average_is_a_fully_connected_layer_with_fixed_weights():
    torch.manual_seed(0)
    network, flat = NIN(5, widths=SMALL).eval(), nin_fc(5, widths=SMALL).eval()
    assert isinstance(flat.head, FlatMaps) and flat.head.fc.weight.shape == (5, 5 * 64)
    flat.load_state_dict(network.state_dict(), strict=False)
    torch.nn.init.zeros_(flat.head.fc.bias)
    with torch.no_grad():
        flat.head.fc.weight.copy_(torch.eye(5).repeat_interleave(64, 1) / 64)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(flat(x), network(x))
    flat.reset_classifier(0)
    network.reset_classifier(0)
    assert torch.equal(flat(x), network(x)) and network(x).shape == (2, 8)
    flat.reset_classifier(3)
    assert flat.double()(x.double()).shape == (2, 3)


def test_linear_form_has_three_convolutions_and_dropout_stands_between_the_blocks():
    with torch.device("meta"):
        network = nin_linear()
    assert [len([m for m in s.modules() if isinstance(m, torch.nn.Conv2d)]) for s in network.stages] == [1, 1, 1]
    kinds = [[type(m).__name__ for m in stage] for stage in NIN(widths=SMALL).stages]
    assert kinds == [["MLPConv"], ["MaxPool2d", "Dropout", "MLPConv"], ["AvgPool2d", "Dropout", "MLPConv"]]
    assert [len(row) for row in WIDTHS] == [3, 3, 2]


def test_spread_of_activations_at_the_start_stays_bounded():
    torch.manual_seed(0)
    widths = tuple(tuple(w // 3 for w in row) for row in WIDTHS)
    for feature in NIN(widths=widths).forward_features(torch.randn(8, 3, 32, 32)):
        assert 0.2 < float(feature.detach().square().mean()) < 5


def test_mistakes_are_named():
    with value_error("head must be 'gap' or 'fc', got 'mlp'"):
        NIN(head="mlp")
    with value_error("three perceptrons"):
        NIN(widths=WIDTHS[:2])
    with value_error("takes maps of 8×8, got 16×16"):
        nin_fc(4, widths=SMALL)(torch.rand(1, 3, 64, 64))
    with value_error("num_classes must be 0"):
        NIN(-1, widths=SMALL)
    with value_error("4 pixels or more, got 3×5"):
        NIN(4, widths=SMALL)(torch.rand(1, 3, 3, 5))
