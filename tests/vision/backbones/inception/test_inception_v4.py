import pytest
import torch

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones.inception.inception_v4 import KEYS, InceptionV4


def on_meta(**options):
    with torch.device("meta"):
        return InceptionV4(**options)


@pytest.mark.fact("inception_v4", 1)
def test_published_counts():
    network = on_meta()
    assert count_parameters(network) == 42_679_816
    assert macs(network, torch.empty(1, 3, 299, 299, device="meta")) == 12_253_974_624


@pytest.mark.fact("inception_v4", 3)
def test_grids_and_widths():
    network = on_meta()
    features = network.forward_features(torch.empty(1, 3, 299, 299, device="meta"))
    assert [tuple(f.shape[1:]) for f in features] == [(384, 35, 35), (1024, 17, 17), (1536, 8, 8)]
    assert [len(stage) for stage in network.stages] == [4, 1 + 7, 1 + 3]
    assert network.channels == (384, 1024, 1536) and network.num_features == 1536


def timm_names(network):
    """Our state under timm's names, written down from its documentation."""
    state = {}
    for name, value in network.state_dict().items():
        if name.startswith("head.fc."):
            state[name.replace("head.fc", "last_linear")] = value
            continue
        part, *path, layer, parameter = name.split(".")
        if part == "stem":
            place, *path = path
        else:
            stage, block, *path = path
            place = str({"0": 6, "1": 10, "2": 18}[stage] + int(block))
        layer = "bn" if layer == "norm" else "conv"
        path = [int(p) for p in path]
        singles = {"3": {1: "conv"}, "5": {0: "conv"}}
        first_only = place in (
            "6",
            "7",
            "8",
            "9",
            "10",
            "11",
            "12",
            "13",
            "14",
            "15",
            "16",
            "17",
            "18",
            "19",
            "20",
            "21",
        )
        if place in singles:
            middle = singles[place][path[0]]
        elif len(path) == 4:  # a fork
            middle = f"branch{path[0]}_{path[1]}{'ab'[path[2]]}"
        elif place in ("19", "20", "21") and path[0] in (1, 2):
            middle = f"branch{path[0]}_{path[1]}"
        elif first_only and path == [0, 0] and place != "18":
            middle = "branch0"
        else:
            middle = ".".join(str(p) for p in path)
            middle = f"branch{middle}" if path else ""
        state[".".join(p for p in ("features", place, middle, layer, parameter) if p)] = value
    return state


def test_timm_names_load_by_the_key_map_with_none_left_over():
    network = on_meta()
    theirs = timm_names(network)
    assert len(theirs) == len(network.state_dict())
    for name in ("features.0.conv.weight", "features.3.conv.bn.bias", "features.21.branch2_3b.conv.weight"):
        assert name in theirs
    assert list(translate(theirs, KEYS)) == list(network.state_dict())


def test_small_images():
    network = on_meta().eval()
    assert network.smallest == 75
    with value_error("75 pixels or more, got 74×75"):
        network(torch.empty(1, 3, 74, 75, device="meta"))
    features = on_meta(padding="same").eval().forward_features(torch.empty(1, 3, 65, 47, device="meta"))
    assert [tuple(f.shape[-2:]) for f in features] == [(9, 6), (5, 3), (3, 2)]


def test_activations_keep_their_size_with_depth():
    features = InceptionV4(0, width=0.125, padding="same").forward_features(torch.randn(4, 3, 64, 64))
    assert all(0.1 < float(f.detach().std()) < 3 for f in features)
