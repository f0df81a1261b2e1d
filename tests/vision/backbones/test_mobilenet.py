import re
from fractions import Fraction

import pytest
import torch
from torch.nn.functional import conv2d

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.separable import DepthwiseSeparable
from ziggurat.vision.backbones.mobilenet import (
    KEYS,
    SHALLOW,
    TABLE,
    MobileNet,
    mobilenet_full,
    mobilenet_shallow,
    without_decay_on_depthwise,
)

PUBLISHED = {
    (1.0, 224): (4_231_976, 568_740_352),
    (0.75, 224): (2_585_560, 325_400_448),
    (0.5, 224): (1_331_592, 149_497_088),
    (0.25, 224): (470_072, 41_030_272),
    (1.0, 192): (4_231_976, 418_121_728),
    (1.0, 160): (4_231_976, 290_675_200),
    (1.0, 128): (4_231_976, 186_400_768),
}


@pytest.mark.fact("mobilenet", 1, 2, 3)
@pytest.mark.parametrize(("width", "size"), PUBLISHED)
def test_published_counts(width, size):
    with torch.device("meta"):
        network = MobileNet(width=width)
    images = torch.empty(1, 3, size, size, device="meta")
    assert (count_parameters(network), macs(network, images)) == PUBLISHED[width, size]


@pytest.mark.fact("mobilenet", 4)
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 6), (32, 64), (5, 128)])
def test_cost_of_a_layer_is_one_nth_and_one_ninth_of_the_full_one(inputs, outputs):
    x = torch.zeros(1, inputs, 7, 7)
    pair, full = macs(DepthwiseSeparable(inputs, outputs), x), macs(ConvNormAct(inputs, outputs, 3), x)
    assert pair == 49 * (9 * inputs + inputs * outputs)
    assert Fraction(pair, full) == Fraction(1, outputs) + Fraction(1, 9)


@pytest.mark.fact("mobilenet", 5)
def test_without_its_inner_norm_and_activation_the_pair_is_one_full_convolution():
    torch.manual_seed(0)
    pair = DepthwiseSeparable(4, 6, norm=None, act=None).double()
    d, p = pair.depthwise.conv, pair.pointwise.conv
    kernel = torch.empty(6, 4, 3, 3, dtype=torch.float64)
    for n in range(6):
        for m in range(4):
            kernel[n, m] = p.weight[n, m] * d.weight[m, 0]
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    bias = p.weight[:, :, 0, 0] @ d.bias + p.bias
    torch.testing.assert_close(pair(x), conv2d(x, kernel, bias, padding=1))


def test_block_has_both_nonlinearities_and_no_shortcut():
    torch.manual_seed(0)
    block = MobileNet(width=0.25).eval().stages[0][0].double()
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    y = conv2d(x, block.depthwise.conv.weight, padding=1, groups=8)
    y = conv2d(block.depthwise.norm(y).relu(), block.pointwise.conv.weight)
    torch.testing.assert_close(block(x), block.pointwise.norm(y).relu())


def test_table_levels_and_the_shallow_and_full_forms():
    assert len(TABLE) == 13 and len(SHALLOW) == 8 and SHALLOW[-3:] == ((512, 2), (1024, 2), (1024, 1))
    with torch.device("meta"):
        network, shallow, full = MobileNet(width=0.5), mobilenet_shallow(), mobilenet_full()
    assert network.strides == shallow.strides == (4, 8, 16, 32)
    assert network.channels == (64, 128, 256, 512) and [len(stage) for stage in network.stages] == [3, 2, 6, 2]
    x = torch.empty(1, 3, 224, 224, device="meta")
    assert [tuple(f.shape[1:]) for f in network.forward_features(x)] == [
        (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7),
    ]  # fmt: skip
    counted = {
        "shallow": (count_parameters(shallow), macs(shallow, x)),
        "full": (count_parameters(full), macs(full, x)),
    }
    published = {"shallow": (2.9, 307), "full": (29.3, 4866)}  # tables 5 and 4
    for name, (parameters, cost) in counted.items():
        assert parameters / 1e6 == pytest.approx(published[name][0], abs=0.05)
        assert cost / 1e6 == pytest.approx(published[name][1], rel=2e-3)


def timm_names(network):
    """Our state under timm's names, written down from its documentation: its first stage has one block, its second our next two."""
    state = {}
    for name, value in network.state_dict().items():
        name = name.replace("depthwise.conv", "conv_dw").replace("depthwise.norm", "bn1")
        name = name.replace("pointwise.conv", "conv_pw").replace("pointwise.norm", "bn2")
        name = re.sub(r"^stages\.([123])\.", lambda m: f"blocks.{int(m[1]) + 1}.", name)
        name = name.replace("stages.0.0.", "blocks.0.0.").replace("stages.0.1.", "blocks.1.0.")
        name = name.replace("stages.0.2.", "blocks.1.1.")
        name = name.replace("stem.conv", "conv_stem").replace("stem.norm", "bn1").replace("head.fc", "classifier")
        state[name] = value
    return state


def test_timm_names_load_by_the_key_map_with_none_left_over():
    torch.manual_seed(0)
    network, other = (MobileNet(num_classes=5, width=0.25).eval() for _ in range(2))
    theirs = timm_names(network)
    assert {"conv_stem.weight", "bn1.bias", "blocks.3.5.conv_dw.weight", "blocks.4.1.bn2.weight"} <= set(theirs)
    other.load_state_dict(translate(theirs, KEYS), strict=True)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(x), network(x))


def test_depthwise_filters_are_not_decayed():
    network = MobileNet(num_classes=5, width=0.25)
    decayed, free = without_decay_on_depthwise(network, 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {tuple(p.shape[1:]) for p in free["params"]} == {(1, 3, 3)} and len(free["params"]) == 13
    assert sum(p.numel() for group in (decayed, free) for p in group["params"]) == count_parameters(network)
    assert len(without_decay_on_depthwise(MobileNet(width=0.25, separable=False), 0.1)) == 1


def test_spread_of_activations_at_the_start_stays_bounded():
    torch.manual_seed(0)
    network = MobileNet(num_classes=5, width=0.25)
    for feature in network.forward_features(torch.randn(8, 3, 96, 96)):
        assert 0.2 < float(feature.detach().std()) < 2


def test_mistakes_are_named():
    with value_error("width must be positive, got 0"):
        MobileNet(width=0)
