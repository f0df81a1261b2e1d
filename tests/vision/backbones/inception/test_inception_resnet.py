from functools import cache

import pytest
import torch
from torch import nn

from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.nn.scaled_residual import ScaledResidual
from ziggurat.vision.backbones.inception.inception_resnet import (
    KEYS,
    InceptionResNet,
    InceptionResNetV1,
    InceptionResNetV2,
)

UNIT = (((1, 4),), ((1, 4), (3, 6)))


@cache
def on_meta(make):
    with torch.device("meta"):
        return make()


X = torch.empty(1, 3, 299, 299, device="meta")


@pytest.mark.fact("inception_v4", 2)
def test_published_counts():
    network = on_meta(InceptionResNetV2)
    assert (count_parameters(network), macs(network, X)) == (55_843_464, 13_155_794_016)


def test_each_version_costs_about_as_much_as_the_plain_network_it_is_compared_with():
    for version, plain in ((InceptionResNetV1, 5_713_216_096), (InceptionResNetV2, 12_253_974_624)):
        assert macs(on_meta(version), X) == pytest.approx(plain, rel=0.1)


@pytest.mark.fact("inception_v4", 3)
def test_grids_and_widths():
    network = on_meta(InceptionResNetV2)
    assert [tuple(f.shape[1:]) for f in network.forward_features(X)] == [(320, 35, 35), (1088, 17, 17), (2080, 8, 8)]
    assert network.num_features == 1536 and on_meta(InceptionResNetV1).channels == (256, 896, 1792)


def units(network):
    return [m for m in network.modules() if isinstance(m, ScaledResidual)]


def test_scales_by_stage_and_the_last_unit():
    network = on_meta(InceptionResNetV2)
    assert [unit.scale for unit in units(network)] == [0.17] * 10 + [0.10] * 20 + [0.20] * 9 + [1.0]
    assert [isinstance(unit.act, nn.ReLU) for unit in units(network)] == [True] * 39 + [False]
    small = InceptionResNetV1(width=0.01, scale=0.3)
    assert {unit.scale for unit in units(small)} == {0.3, 1.0}


def test_a_branch_ends_linearly_and_is_not_normalised():
    for unit in units(on_meta(InceptionResNetV1)):
        assert isinstance(unit.branch[-1], nn.Conv2d) and unit.branch[-1].bias is not None


def test_the_twin_without_additions_has_the_same_layers():
    table = (((), UNIT, 0.2, 2),)
    torch.manual_seed(0)
    residual, plain = (InceptionResNet(table, ((3, 8),), num_classes=3, residual=on) for on in (True, False))
    assert count_parameters(residual) == count_parameters(plain)
    x = torch.rand(2, 3, 9, 9)
    assert macs(residual, x) == macs(plain, x)
    plain.load_state_dict({k.replace("branch.", "0."): v for k, v in residual.state_dict().items()})
    plain, residual = plain.eval(), residual.eval()
    stem = residual.stem(x)
    torch.testing.assert_close(plain.stages[0][0](stem), residual.stages[0][0].branch(stem).relu())
    torch.testing.assert_close(residual.stages[0][0](stem), (stem + 0.2 * residual.stages[0][0].branch(stem)).relu())


def timm_names(network):
    """Our state under timm's names, written down from its documentation."""
    stem = {"0": "conv2d_1a", "1": "conv2d_2a", "2": "conv2d_2b", "4": "conv2d_3b", "5": "conv2d_4a"}
    fronts, repeats = ("mixed_5b", "mixed_6a", "mixed_7a"), ("repeat", "repeat_1", "repeat_2")
    state = {}
    for name, value in network.state_dict().items():
        path = name.replace("norm", "bn").split(".")
        if path[0] == "stem":
            new = [stem[path[1]], *path[2:]]
        elif path[0] == "last":
            new = ["conv2d_7b", *path[1:]]
        elif path[0] == "head":
            new = ["classif", path[-1]]
        else:
            stage, block, inner = int(path[1]), int(path[2]), path[3:]
            last = (stage, block) == (2, 10)
            new = [fronts[stage]] if block == 0 else ["block8"] if last else [repeats[stage], str(block - 1)]
            inner = inner if block == 0 else inner[1:] if inner[1] == "1" else inner[2:]
            if block and path[3:5] == ["branch", "1"]:
                new += ["conv2d", path[-1]]
            else:
                alone = inner[0] == "0" and not (block == 0 and stage == 2)
                new += [f"branch{inner[0]}", *(inner[2:] if alone else inner[1:])]
        state[".".join(new)] = value
    return state


def test_timm_names_load_by_the_key_map_with_none_left_over():
    network = on_meta(InceptionResNetV2)
    theirs = timm_names(network)
    assert len(theirs) == len(network.state_dict())
    for name in ("mixed_5b.branch3.1.bn.weight", "repeat_1.19.conv2d.bias", "block8.branch1.2.conv.weight"):
        assert name in theirs
    assert list(translate(theirs, KEYS)) == list(network.state_dict())


def test_activations_keep_their_size_with_depth():
    network = InceptionResNetV2(0, width=0.125, padding="same")
    features = network.forward_features(torch.randn(4, 3, 64, 64))
    assert all(0.1 < float(f.detach().std()) < 5 for f in features)
