import re

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import DropBlock2d, count_parameters, macs
from ziggurat.vision.backbones import resnest as module
from ziggurat.vision.backbones.resnest import KEYS, ResNeSt, SplitBottleneck, resnest50, resnest101

COUNTS = {
    "resnest14": 10_611_688,
    "resnest26": 17_069_448,
    "resnest50": 27_483_240,
    "resnest101": 48_275_016,
    "resnest200": 70_201_544,
    "resnest269": 110_929_480,
    "resnest50_fast_1s4x24d": 25_677_000,
    "resnest50_fast_4s2x40d": 30_417_592,
}


def on_meta(constructor, **named):
    with torch.device("meta"):
        return constructor(**named)


@pytest.mark.fact("resnest", 1, 2)
@pytest.mark.parametrize("name", COUNTS)
def test_published_parameters(name):
    assert count_parameters(on_meta(getattr(module, name))) == COUNTS[name]


@pytest.mark.fact("resnest", 1)
@pytest.mark.parametrize(
    ("make", "size", "published"), [(resnest50, 224, 5_371_160_576), (resnest101, 256, 13_321_472_000)]
)
def test_published_macs(make, size, published):
    assert macs(on_meta(make), torch.empty(1, 3, size, size, device="meta")) == published


def timm_name(name):
    """One of our names as timm calls it, written down from its documentation."""
    name = re.sub(r"^stem\.(\d)\.conv", lambda m: f"conv1.{3 * int(m[1])}", name)
    name = name.replace("stem.0.norm", "conv1.1").replace("stem.1.norm", "conv1.4").replace("stem.2.norm", "bn1")
    name = re.sub(r"^stages\.(\d)", lambda m: f"layer{int(m[1]) + 1}", name)
    for ours, theirs in (
        ("reduce.conv", "conv1"),
        ("reduce.norm", "bn1"),
        ("split.conv", "conv2.conv"),
        ("split.norm", "conv2.bn0"),
        ("split.squeeze.conv", "conv2.fc1"),
        ("split.squeeze.norm", "conv2.bn1"),
        ("split.excite", "conv2.fc2"),
        ("expand.conv", "conv3"),
        ("expand.norm", "bn3"),
        ("shortcut.project.conv", "downsample.1"),
        ("shortcut.project.norm", "downsample.2"),
    ):
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name.replace("head.fc", "fc")


def test_timm_names_load_by_the_key_map_with_none_left_over():
    network = on_meta(resnest50)
    state = network.state_dict()
    theirs = {timm_name(name): value for name, value in state.items()}
    assert {"conv1.6.weight", "bn1.bias", "layer1.0.downsample.1.weight", "layer4.2.conv2.bn1.running_var"} <= set(
        theirs
    )
    assert {name: value.shape for name, value in translate(theirs, KEYS).items()} == {
        name: value.shape for name, value in state.items()
    }


def test_unit_pools_behind_the_split_attention_and_fast_units_before_it():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9, 8)
    for fast in (False, True):
        unit = SplitBottleneck(6, 4, stride=2, pool_first=fast).eval()
        pool = torch.nn.AvgPool2d(3, 2, 1)
        y = unit.reduce(x)
        y = unit.split(pool(y)) if fast else pool(unit.split(y))
        want = torch.relu(unit.expand(y) + unit.shortcut(x))
        assert want.shape == (2, 16, 5, 4) and torch.equal(unit(x), want)


def test_shortcut_averages_only_pixels_that_are_there():
    unit = SplitBottleneck(6, 4, stride=2)
    pooled = unit.shortcut.pool(torch.ones(1, 6, 5, 5))
    assert pooled.shape == (1, 6, 3, 3) and (pooled == 1).all()


def test_units_start_as_the_identity_on_non_negative_maps():
    torch.manual_seed(0)
    unit = ResNeSt((2,), 3, widths=(4,), stem="cifar", stem_width=8).stages[0][1].eval()
    x = torch.rand(2, 16, 5, 5)
    assert torch.equal(unit(x), x)


def test_drop_block_stands_in_the_last_two_stages_and_is_silent_in_evaluation():
    torch.manual_seed(0)
    network = ResNeSt((1, 1, 1), 3, widths=(4, 4, 8), stem="cifar", stem_width=8, drop_block=0.3)
    count = [sum(isinstance(m, DropBlock2d) for m in stage.modules()) for stage in network.stages]
    assert count == [0, 3, 3]
    plain = ResNeSt((1, 1, 1), 3, widths=(4, 4, 8), stem="cifar", stem_width=8)
    assert set(plain.state_dict()) == set(network.state_dict())
    plain.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(plain.eval()(x), network.eval()(x))


def test_activations_stay_bounded_over_the_depth():
    torch.manual_seed(0)
    features = ResNeSt((4, 4), 3, widths=(16, 32), stem_width=16).forward_features(torch.randn(8, 3, 64, 64))
    assert all(0.3 < float(f.detach().std()) < 5 for f in features)


def test_mistakes_are_named():
    with value_error("3 stages need as many widths"):
        ResNeSt((1, 1, 1), widths=(4, 8))
