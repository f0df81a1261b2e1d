import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, relu

from tests.typecheck import value_error
from ziggurat.catalogue import build, translate
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones import wide_resnet as module
from ziggurat.vision.backbones.resnet import KEYS, ResNet
from ziggurat.vision.backbones.wide_resnet import PreactBlock, WideBottleneck, WideResNet, blocks_a_stage

CIFAR = {
    (28, 10): 36_479_194, (40, 4): 8_949_210, (16, 8): 10_961_370, (22, 8): 17_158_106, (40, 8): 35_748_314,
    (28, 12): 52_517_850, (40, 2): 2_243_546, (40, 1): 563_930, (16, 4): 2_748_890, (10, 1): 77_850,
}  # fmt: skip


@pytest.mark.fact("wide_resnet", 1)
@pytest.mark.parametrize(("depth", "width"), CIFAR)
def test_published_parameter_counts(depth, width):
    with torch.device("meta"):
        network = getattr(module, f"wrn_{depth}_{width}")()
    assert count_parameters(network) == CIFAR[depth, width]


@pytest.mark.fact("wide_resnet", 2)
def test_published_macs():
    with torch.device("meta"):
        assert macs(module.wrn_28_10(), torch.empty(1, 3, 32, 32)) == 5_243_328_768


@pytest.mark.fact("wide_resnet", 3)
def test_published_counts_for_imagenet():
    with torch.device("meta"):
        assert count_parameters(module.wide_resnet50_2()) == 68_883_240
        assert count_parameters(module.wide_resnet101_2()) == 126_886_696


@pytest.mark.fact("wide_resnet", 4)
def test_widths_and_quadratic_growth():
    with torch.device("meta"):
        assert WideResNet(16, 1).channels == (16, 32, 64)
        counts = [count_parameters(WideResNet(16, k)) for k in (1, 16, 32)]
        assert WideResNet(16, 4).stem.out_channels == 16, "k does not widen the stem"
    assert counts[2] / counts[1] == pytest.approx(4, rel=0.02)
    assert counts[1] / counts[0] < 256


@pytest.mark.parametrize(
    ("kernels", "depth", "printed"),
    [((1, 3, 1), 58, 1.4), ((3, 1), 40, 1.2), ((1, 3), 40, 1.3), ((3, 1, 1), 58, 1.3), ((3, 3), 28, 1.5), ((3, 1, 3), 31, 1.1)],
)  # fmt: skip
def test_block_types_are_as_large_as_the_paper_prints(kernels, depth, printed):
    """Its table 2 (k = 2) counts two convolutions a block whatever the block: 40 for B(1, 3, 1), and 22 for B(3, 1, 3)."""
    with torch.device("meta"):
        assert round(count_parameters(WideResNet(depth, 2, kernels=kernels)) / 1e6, 1) == printed


def test_deeper_blocks_are_fewer_at_equal_depth():
    with torch.device("meta"):
        counts = [count_parameters(WideResNet(40, 2, kernels=(3,) * n)) for n in (1, 2, 3, 4)]
    assert [blocks_a_stage(40, n) for n in (1, 2, 3, 4)] == [12, 6, 4, 3]
    assert all(count / 1e6 == pytest.approx(2.2, abs=0.1) for count in counts)


def test_block_against_a_plain_restatement():
    torch.manual_seed(0)
    block = PreactBlock(4, 6, stride=2, dropout=0.5).double().eval()
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    active = relu(block.norms[0](x))
    y = relu(block.norms[1](conv2d(active, block.convs[0].weight, stride=2, padding=1)))
    y = conv2d(y, block.convs[1].weight, padding=1)
    torch.testing.assert_close(block(x), y + conv2d(active, block.shortcut.weight, stride=2))
    same = PreactBlock(4, 4).double().eval()
    nn.init.zeros_(same.convs[-1].weight)
    assert torch.equal(same(x), x), "where nothing changes, the raw input is added"


def test_dropout_stands_between_the_convolutions():
    torch.manual_seed(0)
    block, seen = PreactBlock(4, 4, dropout=0.5, kernels=(3, 1, 3)).eval(), []
    block.dropout.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    x = torch.randn(2, 4, 6, 6)
    y = block(x)
    assert len(seen) == 1 and (seen[0] >= 0).all() and block.dropout.p == 0.5
    torch.testing.assert_close(y, x + block.convs[2](seen[0]))


def test_torchvision_names_load_by_the_key_map_of_residual_networks():
    torch.manual_seed(0)
    small = dict(num_classes=5, layers=(1, 2, 1, 1), widths=(4, 4, 6, 8))
    network = build("wide_resnet50_2", **small).eval()
    theirs = {}
    for name, value in network.state_dict().items():
        name = name.replace("stem.0.conv", "conv1").replace("stem.0.norm", "bn1").replace("head.fc", "fc")
        name = name.replace(".shortcut.conv", ".downsample.0").replace(".shortcut.norm", ".downsample.1")
        for stage in range(4):
            name = name.replace(f"stages.{stage}.", f"layer{stage + 1}.")
        theirs[name] = value
    assert {"layer2.1.conv2.weight", "layer4.0.downsample.1.bias", "fc.weight"} < set(theirs)
    other = build("wide_resnet50_2", **small).eval()
    other.load_state_dict(translate(theirs, KEYS), strict=True)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(x), network(x))


def test_the_inner_convolution_is_twice_as_wide():
    block = WideBottleneck(16, 4, stride=2, dilation=2)
    assert block.conv2.weight.shape == (8, 8, 3, 3) and block.conv3.weight.shape == (16, 8, 1, 1)
    assert block.conv2.stride == (2, 2) and block.conv2.dilation == (2, 2)
    assert WideBottleneck(16, 4, stride=2, stride_in="1x1").conv1.stride == (2, 2)
    assert isinstance(build("wide_resnet50_2", widths=(4, 4, 4, 4), output_stride=8), ResNet)


def test_signals_neither_vanish_nor_explode_with_depth():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    for depth in (10, 40):
        features = WideResNet(depth, 1).train()(x)
        assert 0.05 < features.std() < 20


def test_mistakes_are_named():
    with value_error("6n \\+ 4 \\(10, 16, 22"):
        WideResNet(26)
    with value_error("9n \\+ 4 \\(13, 22, 31"):
        WideResNet(28, kernels=(3, 1, 3))
