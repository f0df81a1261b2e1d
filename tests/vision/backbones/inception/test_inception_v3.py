import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.nn.branches import Style, make_branch
from ziggurat.vision.backbones.inception.inception_v3 import (
    KEYS,
    AuxiliaryHead,
    InceptionV3,
    asymmetric,
    inception_recipe,
    reduction,
    stacked,
)

SMALL = ((reduction(((3, 4, 2),)), (((1, 4),), ((3, 4),))), (reduction(((3, 4, 2),)),))


def on_meta(**options):
    with torch.device("meta"):
        return InceptionV3(**options)


@pytest.mark.fact("inception_v3", 1)
def test_published_counts():
    plain, whole = on_meta(), on_meta(auxiliary=True)
    assert count_parameters(plain) == 23_834_568
    assert count_parameters(whole) == 27_161_264
    assert count_parameters(whole.auxiliary_head) == 3_326_696
    assert macs(plain, torch.empty(1, 3, 299, 299, device="meta")) == 5_713_216_096


@pytest.mark.fact("inception_v3", 2)
def test_scales_of_the_normalisations():
    network = on_meta()
    scales = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert (scales, count_parameters(network) - scales) == (17_216, 23_817_352)
    assert all(m.eps == 1e-3 for m in network.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.fact("inception_v3", 3)
def test_grids():
    network = on_meta()
    features = network.forward_features(torch.empty(1, 3, 299, 299, device="meta"))
    assert [tuple(f.shape[1:]) for f in features] == [(288, 35, 35), (768, 17, 17), (2048, 8, 8)]


def cost(steps, width=6):
    module, _ = make_branch(width, steps, Style())
    return macs(module, torch.zeros(1, width, 12, 12))


@pytest.mark.fact("inception_v3", 5)
def test_factorised_filters_cost_less_and_see_as_much():
    assert cost(stacked(5, 6)) / cost(((5, 6),)) == pytest.approx(18 / 25)
    assert cost(asymmetric(3, 6, 6)) / cost(((3, 6),)) == pytest.approx(6 / 9)
    assert cost(asymmetric(7, 6, 6)) / cost(((7, 6),)) == pytest.approx(2 / 7)
    for steps, side in ((stacked(5, 2), 5), (stacked(7, 2), 7), (asymmetric(7, 2, 2), 7)):
        module, _ = make_branch(1, steps, Style(norm=nn.Identity))
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.ones_(part.weight)
        x = torch.zeros(1, 1, 15, 15, requires_grad=True)
        seen = torch.autograd.grad(module(x + 1)[0, 0, 7, 7], x)[0][0, 0] != 0
        assert int(seen.sum()) == side**2 and int(seen[7].sum()) == side


def torchvision_names(network):
    """Our state under torchvision's names, written down from its documentation."""
    kinds = {
        "a": {"0.0": "1x1", "1.0": "5x5_1", "1.1": "5x5_2", "2.0": "3x3dbl_1", "2.1": "3x3dbl_2"}
        | {"2.2": "3x3dbl_3", "3.1": "_pool"},
        "b": {"0.0": "3x3", "1.0": "3x3dbl_1", "1.1": "3x3dbl_2", "1.2": "3x3dbl_3"},
        "c": {"0.0": "1x1", "3.1": "_pool"}
        | {f"1.{i}": f"7x7_{i + 1}" for i in range(3)}
        | {f"2.{i}": f"7x7dbl_{i + 1}" for i in range(5)},
        "d": {"0.0": "3x3_1", "0.1": "3x3_2"} | {f"1.{i}": f"7x7x3_{i + 1}" for i in range(4)},
        "e": {"0.0": "1x1", "1.0": "3x3_1", "1.1.0.0": "3x3_2a", "1.1.1.0": "3x3_2b", "2.0": "3x3dbl_1", "2.1": "3x3dbl_2"}
        | {"2.2.0.0": "3x3dbl_3a", "2.2.1.0": "3x3dbl_3b", "3.1": "_pool"},
    }  # fmt: skip
    places = {"5b": ("0.0", "a"), "5c": ("0.1", "a"), "5d": ("0.2", "a"), "6a": ("1.0", "b"), "7a": ("2.0", "d")}
    places |= {f"6{letter}": (f"1.{i}", "c") for i, letter in enumerate("bcde", 1)} | {
        "7b": ("2.1", "e"),
        "7c": ("2.2", "e"),
    }
    names = {"stem.0": "Conv2d_1a_3x3", "stem.1": "Conv2d_2a_3x3", "stem.2": "Conv2d_2b_3x3", "stem.4": "Conv2d_3b_1x1"}
    names |= {"stem.5": "Conv2d_4a_3x3", "head.fc": "fc", "auxiliary_head.project": "AuxLogits.conv0"}
    names |= {"auxiliary_head.conv": "AuxLogits.conv1", "auxiliary_head.classifier.fc": "AuxLogits.fc"}
    for theirs, (ours, kind) in places.items():
        names |= {f"stages.{ours}.{place}": f"Mixed_{theirs}.branch{name}" for place, name in kinds[kind].items()}
    state = {}
    for name, value in network.state_dict().items():
        module, _, parameter = name.rpartition(".")
        layer, _, part = module.rpartition(".")
        if part in ("conv", "norm") and layer in names:
            state[f"{names[layer]}.{'conv' if part == 'conv' else 'bn'}.{parameter}"] = value
        else:
            state[f"{names[module]}.{parameter}"] = value
    return state


def test_torchvision_names_load_by_the_key_map_with_none_left_over():
    network = on_meta(auxiliary=True)
    theirs = torchvision_names(network)
    assert len(theirs) == len(network.state_dict()) and "Mixed_7c.branch3x3dbl_3b.bn.running_var" in theirs
    translated = translate(theirs, KEYS)
    assert {name: id(value) for name, value in translated.items()} == {
        name: id(theirs[other]) for name, other in zip(network.state_dict(), theirs, strict=True)
    }


def test_small_images_are_refused_where_nothing_is_padded():
    network = on_meta().eval()
    assert network.smallest == 75
    features = network.forward_features(torch.empty(1, 3, 75, 75, device="meta"))
    assert [f.shape[-1] for f in features] == [7, 3, 1]
    with value_error("75 pixels or more, got 74×80"):
        network(torch.empty(1, 3, 74, 80, device="meta"))
    same = on_meta(padding="same")
    features = same.forward_features(torch.empty(1, 3, 65, 47, device="meta"))
    assert [tuple(f.shape[-2:]) for f in features] == [(9, 6), (5, 3), (3, 2)]


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_auxiliary_head_is_a_second_classifier(padding):
    network = on_meta(num_classes=7, auxiliary=True, padding=padding)
    assert network.auxiliary_weight == 0.4
    features = network.forward_features(torch.empty(2, 3, 299, 299, device="meta"))
    assert network.auxiliary(features).shape == network.forward_head(features).shape == (2, 7)
    network.reset_classifier(4)
    assert network.auxiliary(features).shape == (2, 4)


def test_the_auxiliary_loss_does_not_reach_the_last_stage():
    network = InceptionV3(3, table=SMALL, stem=((3, 4),), padding="same", width=0.5, auxiliary=True)
    network.auxiliary(network.forward_features(torch.rand(4, 3, 16, 16))).logsumexp(1).sum().backward()
    assert network.auxiliary_head.conv.conv.weight.grad.any() and network.stem[0].conv.weight.grad.any()
    assert network.stages[1][0][0][0].conv.weight.grad is None


def test_activations_keep_their_size_with_depth():
    features = InceptionV3(0, width=0.125, padding="same").forward_features(torch.randn(4, 3, 64, 64))
    assert all(0.1 < float(f.detach().std()) < 3 for f in features)


def test_the_papers_optimiser():
    recipe = inception_recipe([nn.Parameter(torch.zeros(1))])
    group = recipe.optimizer.param_groups[0]
    assert (group["lr"], group["alpha"], group["eps"]) == (0.045, 0.9, 1.0)
    assert [recipe.schedule(epoch / 100) for epoch in (0, 1, 2, 4.5)] == pytest.approx([1, 1, 0.94, 0.94**2])


def test_mistakes_are_named():
    with value_error("'valid' or 'same'"):
        InceptionV3(padding="full")
    with value_error("build it with auxiliary=True"):
        on_meta().auxiliary([])
    with value_error("maps of 17×17 or more, got 16×20"):
        AuxiliaryHead(4, 3)(torch.rand(1, 4, 16, 20))
