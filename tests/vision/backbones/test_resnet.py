import copy

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones import resnet as module
from ziggurat.vision.backbones.resnet import KEYS, ResNet, cifar_resnet, resnet18, resnet50

IMAGENET = {
    18: (11_689_512, 1_814_073_344),
    34: (21_797_672, 3_663_761_408),
    50: (25_557_032, 4_089_184_256),
    101: (44_549_160, 7_801_405_440),
    152: (60_192_808, 11_513_626_624),
}
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}


def on_meta(constructor, *arguments, **named):
    with torch.device("meta"):
        return constructor(*arguments, **named)


@pytest.mark.fact("resnet", 1)
@pytest.mark.parametrize("depth", IMAGENET)
def test_published_parameter_counts(depth):
    assert count_parameters(on_meta(getattr(module, f"resnet{depth}"))) == IMAGENET[depth][0]


@pytest.mark.fact("resnet", 2)
@pytest.mark.parametrize("depth", IMAGENET)
def test_published_macs(depth):
    network = on_meta(getattr(module, f"resnet{depth}"))
    assert macs(network, torch.empty(1, 3, 224, 224, device="meta")) == IMAGENET[depth][1]


@pytest.mark.fact("resnet", 2)
@pytest.mark.parametrize(("depth", "published"), [(50, 3.8), (101, 7.6), (152, 11.3)])
def test_stride_in_the_first_convolution_costs_what_the_paper_prints(depth, published):
    network = on_meta(getattr(module, f"resnet{depth}"), stride_in="1x1")
    assert macs(network, torch.empty(1, 3, 224, 224, device="meta")) / 1e9 == pytest.approx(published, abs=0.1)


@pytest.mark.fact("resnet", 3)
@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_parameter_counts_and_macs(depth):
    network = on_meta(cifar_resnet, depth)
    assert count_parameters(network) == CIFAR[depth]
    if depth == 20:
        assert macs(network, torch.empty(1, 3, 32, 32, device="meta")) == 40_551_040


def test_projections_on_cifar_would_be_another_network():
    assert count_parameters(on_meta(cifar_resnet, 20, shortcut="B")) == 272_474


@pytest.mark.fact("resnet", 4)
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_with_zero_scales_identity_units_are_the_identity_on_non_negative_inputs(block):
    network = ResNet(block, (2,), 10, widths=(8,), zero_init=True)
    unit = network.stages[0][1]
    x = torch.rand(2, network.channels[0], 5, 7)
    assert torch.equal(unit(x), x)


def torchvision_names(network):
    """The state of a network under torchvision's names, written down from its documentation."""
    state = {}
    for name, value in network.state_dict().items():
        new = name.replace("stem.0.conv", "conv1").replace("stem.0.norm", "bn1").replace("head.fc", "fc")
        new = new.replace(".shortcut.conv", ".downsample.0").replace(".shortcut.norm", ".downsample.1")
        for stage in range(4):
            new = new.replace(f"stages.{stage}.", f"layer{stage + 1}.")
        state[new] = value
    return state


@pytest.mark.fact("resnet", 5)
@pytest.mark.parametrize("constructor", [resnet18, resnet50])
def test_torchvision_names_load_by_the_key_map_with_none_left_over(constructor):
    import re

    network = constructor(num_classes=5)
    theirs = torchvision_names(network)
    assert "layer2.0.downsample.0.weight" in theirs and "fc.bias" in theirs
    ours = {}
    for name, value in theirs.items():
        for pattern, replacement in KEYS.items():
            name = re.sub(pattern, replacement, name)
        ours[name] = value
    other = constructor(num_classes=5)
    other.load_state_dict(ours, strict=True)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(other.eval()(x), network.eval()(x))


def test_residual_arithmetic_against_a_plain_restatement():
    unit = module.BasicBlock(4, 6, stride=2).double().eval()
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    y = nn.functional.relu(unit.bn1(nn.functional.conv2d(x, unit.conv1.weight, stride=2, padding=1)))
    y = unit.bn2(nn.functional.conv2d(y, unit.conv2.weight, padding=1))
    s = unit.shortcut.norm(nn.functional.conv2d(x, unit.shortcut.conv.weight, stride=2))
    torch.testing.assert_close(unit(x), (y + s).clamp_min(0))


def test_shortcut_a_subsamples_and_pads_with_zeros():
    shortcut = module.BasicBlock(4, 8, stride=2, shortcut="A").shortcut
    x = torch.rand(1, 4, 5, 5)
    y = shortcut(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() == y[:, 6:].abs().sum() == 0


def test_plain_network_has_no_shortcuts_and_differs():
    plain, residual = cifar_resnet(20, shortcut=None), cifar_resnet(20)
    assert count_parameters(plain) == count_parameters(residual)
    plain.load_state_dict(residual.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(plain.eval()(x), residual.eval()(x))


@pytest.mark.parametrize(("stride", "strides"), [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))])
def test_output_stride_dilates_and_keeps_weights(stride, strides):
    network = resnet18(num_classes=3, output_stride=stride, widths=(4, 6, 8, 10))
    assert network.strides == strides
    for feature, s in zip(network.forward_features(torch.rand(1, 3, 64, 96)), strides, strict=True):
        assert feature.shape[-2:] == (64 // s, 96 // s)
    dense = copy.deepcopy(network.state_dict())
    resnet18(num_classes=3, widths=(4, 6, 8, 10)).load_state_dict(dense)


def test_cifar_stem_keeps_small_images_large():
    features = resnet18(num_classes=10, stem="cifar", widths=(8, 8, 8, 8)).forward_features(torch.rand(1, 3, 32, 32))
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cifar_resnet(21), "6n \\+ 2"),
        (lambda: ResNet("wide", (1,)), "basic.*bottleneck"),
        (lambda: resnet18(stem="tiny"), "imagenet.*cifar.*deep"),
        (lambda: resnet18(output_stride=4), "8, 16 or 32"),
        (lambda: resnet18(num_classes=-1), "0 \\(features\\)"),
    ],
)
def test_mistakes_are_named(call, says):
    with value_error(says):
        call()
