import pytest
import torch
from torch.nn.functional import conv2d, relu

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones import resnext as module
from ziggurat.vision.backbones.resnet import Bottleneck, resnet50
from ziggurat.vision.backbones.resnext import KEYS, ResNeXt, aggregate, matched_branch, resnext50_32x4d

COUNTS = {
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x4d": 44_177_704,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "resnext29_8x64d": 34_426_698,
    "resnext29_16x64d": 68_155_210,
}
SMALL = {"layers": (1, 2), "cardinality": 4, "branches": (2, 3), "widths": (4, 8), "num_classes": 5}


def on_meta(constructor, **named):
    with torch.device("meta"):
        return constructor(**named)


@pytest.mark.fact("resnext", 1, 2, 3)
@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name):
    assert count_parameters(on_meta(getattr(module, name))) == COUNTS[name]


@pytest.mark.fact("resnext", 1)
def test_published_macs():
    assert macs(on_meta(resnext50_32x4d), torch.empty(1, 3, 224, 224, device="meta")) == 4_230_479_872


def branches(unit, x):
    """(w₁, w₂, w₃) of each branch, and its map after the 3×3 convolution; the normalisations work channel by channel."""
    groups = unit.conv2.groups
    inner = unit.conv2.out_channels // groups
    for i in range(groups):
        mine = slice(i * inner, (i + 1) * inner)
        norms = []
        for norm in (unit.bn1, unit.bn2):
            scale = norm.weight[mine] / (norm.running_var[mine] + norm.eps).sqrt()
            norms.append((scale[:, None, None], (norm.bias[mine] - norm.running_mean[mine] * scale)[:, None, None]))
        y = relu(conv2d(x, unit.conv1.weight[mine]) * norms[0][0] + norms[0][1])
        y = conv2d(y, unit.conv2.weight[mine], stride=unit.conv2.stride, padding=1)
        yield relu(y * norms[1][0] + norms[1][1]), unit.conv3.weight[:, mine]


@pytest.mark.fact("resnext", 4)
@pytest.mark.parametrize("stride", [1, 2])
def test_sum_of_branches_and_concatenation_equal_the_grouped_convolution(stride):
    torch.manual_seed(0)
    unit = Bottleneck(12, 3, stride)
    aggregate(unit, cardinality=4, branch=5)
    unit = unit.double().eval()
    for norm in (unit.bn1, unit.bn2, unit.bn3, *([] if stride == 1 else [unit.shortcut.norm])):
        for value in (norm.weight, norm.running_var):
            value.data.uniform_(0.5, 2)
        for value in (norm.bias, norm.running_mean):
            value.data.normal_()
    x = torch.randn(2, 12, 7, 6, dtype=torch.float64)
    shortcut = unit.shortcut(x)
    summed = sum(conv2d(y, last) for y, last in branches(unit, x))
    joined = conv2d(torch.cat([y for y, _ in branches(unit, x)], 1), unit.conv3.weight)
    for y in (summed, joined):
        torch.testing.assert_close(relu(unit.bn3(y) + shortcut), unit(x))


@pytest.mark.fact("resnext", 5)
def test_one_branch_of_width_64_is_the_residual_network():
    ours, theirs = (on_meta(make) for make in (lambda: ResNeXt(cardinality=1, branches=(64, 128, 256, 512)), resnet50))
    assert str(ours.stages) == str(theirs.stages)
    torch.manual_seed(0)
    plain = Bottleneck(16, 4)
    unit = Bottleneck(16, 4)
    aggregate(unit, cardinality=1, branch=4)
    unit.load_state_dict(plain.state_dict())
    x = torch.randn(2, 16, 5, 5)
    assert torch.equal(unit(x), plain(x))


def test_branches_of_equal_cost():
    """The paper's table 2: widths of a branch, and about 70,000 weights of a block of 256 channels."""
    table = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}
    assert {c: round(matched_branch(c)) for c in table} == table
    for c, d in table.items():
        assert c * (256 * d + 9 * d * d + d * 256) == pytest.approx(70_000, rel=0.05)


@pytest.mark.parametrize("constructor", [resnext50_32x4d, lambda **named: ResNeXt(**{**SMALL, **named})])
def test_torchvision_names_load_by_the_key_map_with_none_left_over(constructor):
    network = on_meta(constructor, num_classes=5)
    theirs = {}
    for name, value in network.state_dict().items():
        name = name.replace("stem.0.conv", "conv1").replace("stem.0.norm", "bn1").replace("head.fc", "fc")
        name = name.replace(".shortcut.conv", ".downsample.0").replace(".shortcut.norm", ".downsample.1")
        for stage in range(4):
            name = name.replace(f"stages.{stage}.", f"layer{stage + 1}.")
        theirs[name] = value
    assert "layer1.0.conv2.weight" in theirs and "layer2.0.downsample.1.running_mean" in theirs
    assert set(translate(theirs, KEYS)) == set(network.state_dict())


def test_the_three_by_three_strides_and_dilates():
    network = on_meta(lambda: ResNeXt(output_stride=16))
    middle = network.stages[1][0].conv2
    assert (middle.stride, network.stages[1][0].conv1.stride, middle.groups) == ((2, 2), (1, 1), 32)
    assert network.strides == (4, 8, 16, 16) and network.stages[3][1].conv2.dilation == (2, 2)


def test_activations_stay_bounded_over_the_depth():
    torch.manual_seed(0)
    network = ResNeXt(**{**SMALL, "layers": (6, 6), "widths": (16, 32), "branches": (4, 8)})
    features = network.forward_features(torch.randn(8, 3, 64, 64))
    assert all(0.3 < float(f.detach().std()) < 5 for f in features)


def test_mistakes_are_named():
    with value_error("cardinality must be 1 or more"):
        ResNeXt(cardinality=0)
    with value_error("4 stages need as many widths of a branch"):
        ResNeXt(branches=(4, 8))
