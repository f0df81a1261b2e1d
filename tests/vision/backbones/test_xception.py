import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.nn.separable import SeparableConv2d
from ziggurat.vision.backbones.xception import KEYS, ActivatedSeparable, InceptionSpectrum, Xception, XceptionBlock

SMALL = {"num_classes": 4, "stem": (4, 6), "entry": (8, 8, 12), "blocks": 1, "exit_width": 16, "last": (16, 20)}


@pytest.mark.fact("xception", 1, 2)
def test_published_counts_and_grids():
    with torch.device("meta"):
        network = Xception()
    x = torch.empty(1, 3, 299, 299, device="meta")
    assert (count_parameters(network), macs(network, x)) == (22_855_952, 8_357_403_496)
    assert network.stem(x).shape[-1] == 149
    assert [(f.shape[1], f.shape[-1]) for f in network.forward_features(x)] == [
        (64, 147), (128, 74), (256, 37), (728, 19), (2048, 10),
    ]  # fmt: skip
    assert (network.channels, network.strides) == ((64, 128, 256, 728, 2048), (2, 4, 8, 16, 32))
    assert sum(isinstance(m, SeparableConv2d) for m in network.modules()) == 34


def rank_one_kernel(p, d):
    """k[n, m] = p[n, m] d[m], by loops."""
    kernel = torch.empty(*p.shape[:2], 3, 3, dtype=p.dtype)
    for n in range(p.shape[0]):
        for m in range(p.shape[1]):
            kernel[n, m] = p[n, m, 0, 0] * d[m, 0]
    return kernel


@pytest.mark.fact("xception", 3)
def test_separable_convolution_is_one_full_convolution_of_low_rank():
    torch.manual_seed(0)
    pair = SeparableConv2d(4, 6).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    kernel = rank_one_kernel(pair.pointwise.weight, pair.depthwise.weight)
    torch.testing.assert_close(pair(x), conv2d(x, kernel, padding=1))
    active = ActivatedSeparable(4, 6).double()
    active.load_state_dict(pair.state_dict())
    hidden = conv2d(x, pair.depthwise.weight, padding=1, groups=4).relu()
    torch.testing.assert_close(active(x), conv2d(hidden, pair.pointwise.weight))


@pytest.mark.fact("xception", 4)
@pytest.mark.parametrize("towers", [1, 2, 3, 6, None])
def test_spectrum_from_an_ordinary_to_a_depthwise_convolution(towers):
    torch.manual_seed(0)
    layer = InceptionSpectrum(4, 6, towers).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    mixed = conv2d(x, layer.pointwise.weight)
    width = 6 // (towers or 6)
    want = [
        conv2d(segment, layer.spatial.weight[i * width : (i + 1) * width], padding=1)
        for i, segment in enumerate(mixed.split(width, 1))
    ]
    torch.testing.assert_close(layer(x), torch.cat(want, 1))
    assert count_parameters(layer) == 4 * 6 + 9 * 6 * width


def test_block_against_a_plain_restatement():
    torch.manual_seed(0)
    block = XceptionBlock((4, 4, 6), 2).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    y = block.units[0].norm(block.units[0].conv(x.clamp(min=0)))
    y = block.units[1].norm(block.units[1].conv(y.clamp(min=0)))
    want = max_pool2d(y, 3, 2, 1) + block.shortcut.norm(conv2d(x, block.shortcut.conv.weight, stride=2))
    torch.testing.assert_close(block(x), want)
    first = XceptionBlock((4, 4, 6), 2, leading=False).double().eval()
    first.load_state_dict(block.state_dict())
    assert not torch.allclose(first(x), want) and torch.allclose(first(x.relu()), block(x.relu()))


def test_additions_are_not_activated_and_the_ablation_has_none():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    block = XceptionBlock((4, 4, 4, 4)).eval()
    assert (block(x) < 0).any() and isinstance(block.shortcut, nn.Identity)
    plain = XceptionBlock((4, 4, 4, 4), residual=False).eval()
    plain.load_state_dict(block.state_dict())
    torch.testing.assert_close(plain(x) + x, block(x))


def test_same_padding_keeps_the_strides_of_small_images():
    network = Xception(**SMALL, padding="same", stem_stride=1).eval()
    assert network.strides == (1, 2, 4, 8, 16)
    assert [f.shape[-1] for f in network.forward_features(torch.rand(1, 3, 33, 33))] == [33, 17, 9, 5, 3]


def timm_names(network):
    """Our state under the names of timm's legacy_xception, written down from its documentation."""
    state = {}
    for name, value in network.state_dict().items():
        name = re.sub(r"^stages\.([12])\.0\.", r"block\1.", name)
        name = re.sub(r"^stages\.3\.(\d)\.", lambda m: f"block{int(m[1]) + 3}.", name)
        name = name.replace("stages.4.0.", "block12.")
        name = name.replace("shortcut.conv", "skip").replace("shortcut.norm", "skipbn")
        found = re.match(r"(block\d+)\.units\.(\d)\.(conv|norm)\.(.*)", name)
        if found:
            block, unit, part, rest = found.groups()
            place = 3 * int(unit) + (part == "norm") + (block != "block1")
            name = f"{block}.rep.{place}.{rest}"
        for ours, theirs in (("stem", "1"), ("stages.0.0", "2"), ("stages.4.1", "3"), ("stages.4.2", "4")):
            name = name.replace(f"{ours}.conv", f"conv{theirs}").replace(f"{ours}.norm", f"bn{theirs}")
        state[name.replace("depthwise", "conv1").replace("head.fc", "fc")] = value
    return state


def test_timm_names_load_by_the_key_map_with_none_left_over():
    torch.manual_seed(0)
    options = {**SMALL, "blocks": 8}
    network, other = (Xception(**options).eval() for _ in range(2))
    theirs = timm_names(network)
    known = {"block1.rep.0.conv1.weight", "block11.rep.8.bias", "block12.skipbn.weight", "conv4.pointwise.weight"}
    assert known | {"block2.rep.1.pointwise.weight", "bn3.bias", "conv2.weight"} <= set(theirs)
    other.load_state_dict(translate(theirs, KEYS), strict=True)
    x = torch.rand(1, 3, 71, 71)
    assert torch.equal(other(x), network(x))


def test_spread_of_activations_at_the_start_stays_bounded():
    torch.manual_seed(0)
    options = {**SMALL, "stem": (16, 32), "entry": (32, 48, 64), "blocks": 8, "padding": "same"}
    for feature in Xception(**options).forward_features(torch.randn(8, 3, 64, 64)):
        assert 0.2 < float(feature.detach().std()) < 5


def test_mistakes_are_named():
    with value_error("towers must divide the 6 output channels, got 4"):
        InceptionSpectrum(4, 6, 4)
    with value_error("towers must divide"):
        Xception(**SMALL, conv=partial(InceptionSpectrum, towers=5))
    with value_error("'valid' or 'same', got 'none'"):
        Xception(padding="none")
    network = Xception(**SMALL).eval()
    assert network(torch.rand(1, 3, 7, 7)).shape == (1, 4)
    with value_error("7 pixels or more, got 6×9"):
        network(torch.rand(1, 3, 6, 9))
