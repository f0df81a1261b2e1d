import re

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones.mobilenet_v2 import KEYS, InvertedResidual, MobileNetV2

PUBLISHED = {1.0: (3_504_872, 300_774_272), 1.4: (6_108_776, 582_195_824), 0.5: (1_968_680, 97_131_840)}


@pytest.mark.fact("mobilenet_v2", 1, 2)
@pytest.mark.parametrize("width", PUBLISHED)
def test_published_counts(width):
    with torch.device("meta"):
        network = MobileNetV2(width=width)
    assert (count_parameters(network), macs(network, torch.empty(1, 3, 224, 224, device="meta"))) == PUBLISHED[width]


@pytest.mark.fact("mobilenet_v2", 3)
def test_seventeen_blocks_ten_with_a_shortcut():
    with torch.device("meta"):
        blocks = [m for m in MobileNetV2().modules() if isinstance(m, InvertedResidual)]
    assert (len(blocks), sum(block.adds_thin for block in blocks)) == (17, 10)


@pytest.mark.fact("mobilenet_v2", 4)
def test_the_bottleneck_is_linear():
    torch.manual_seed(0)
    x = torch.randn(4, 8, 6, 6)
    assert (InvertedResidual(8, 8, shortcut=None)(x) < 0).any()
    y = InvertedResidual(8, 8, linear=False, shortcut=None)(x)
    assert y.min() >= 0 and y.max() <= 6


def torchvision_names(network):
    """Our state under torchvision's names, written down from its documentation."""
    place, state = {}, {}
    for stage, blocks in enumerate(network.stages):
        for block in range(len(blocks)):
            place[f"stages.{stage}.{block}."] = f"features.{len(place) + 1}."
    for name, value in network.state_dict().items():
        for ours, theirs in place.items():
            if name.startswith(ours):
                first = ours == "stages.0.0."
                name = name.replace(ours, theirs)
                d, p = (0, 1) if first else (1, 2)
                name = name.replace(".expand.conv", ".conv.0.0").replace(".expand.norm", ".conv.0.1")
                name = name.replace(".depthwise.conv", f".conv.{d}.0").replace(".depthwise.norm", f".conv.{d}.1")
                name = name.replace(".project.conv", f".conv.{p}").replace(".project.norm", f".conv.{p + 1}")
        name = re.sub("^stem.conv", "features.0.0", re.sub("^stem.norm", "features.0.1", name))
        name = re.sub("^last.conv", "features.18.0", re.sub("^last.norm", "features.18.1", name))
        state[name.replace("head.fc", "classifier.1")] = value
    return state


@pytest.mark.fact("mobilenet_v2", 5)
def test_torchvision_names_load_by_the_key_map_with_none_left_over():
    from ziggurat.catalogue import translate

    network = MobileNetV2(num_classes=5, width=0.5).eval()
    theirs = torchvision_names(network)
    assert (
        "features.1.conv.0.0.weight" in theirs
        and "features.17.conv.2.weight" in theirs
        and "classifier.1.bias" in theirs
    )
    other = MobileNetV2(num_classes=5, width=0.5).eval()
    other.load_state_dict(translate(theirs, KEYS), strict=True)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(x), network(x))


def test_block_against_a_plain_restatement():
    from torch.nn.functional import conv2d, relu6

    torch.manual_seed(0)
    block = InvertedResidual(4, 4, expansion=3).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    y = relu6(block.expand.norm(conv2d(x, block.expand.conv.weight)))
    y = relu6(block.depthwise.norm(conv2d(y, block.depthwise.conv.weight, padding=1, groups=12)))
    y = block.project.norm(conv2d(y, block.project.conv.weight)) + x
    torch.testing.assert_close(block(x), y)


def test_shortcuts_of_the_ablation():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    wide, none = (InvertedResidual(4, 4, shortcut=kind).eval() for kind in ("expansion", None))
    none.load_state_dict(wide.state_dict())
    expanded = none.expand(x)
    torch.testing.assert_close(wide(x), none.project(none.depthwise(expanded) + expanded))
    assert not torch.allclose(wide(x), none(x))


def test_mistakes_are_named():
    with value_error("'bottleneck', 'expansion' or None"):
        InvertedResidual(4, 4, shortcut="thin")
