import pytest
import torch
from torch import nn

from ziggurat.nn import MLP, count_parameters, fuse, macs, saved_bytes
from ziggurat.nn.conv import fuse_conv_norm, make_divisible
from ziggurat.vision.backbones.resnet import cifar_resnet


def test_macs_of_known_layers():
    assert macs(nn.Conv2d(3, 8, 3, padding=1), torch.rand(2, 3, 5, 7)) == 2 * 8 * 5 * 7 * 3 * 9
    assert macs(nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.rand(1, 8, 4, 4)) == 8 * 16 * 9
    assert macs(MLP(10, 3, (20,)), torch.rand(4, 10)) == 4 * (200 + 60)


def test_macs_leave_the_mode_of_the_network_as_it_was():
    network = cifar_resnet(8)
    macs(network, torch.rand(1, 3, 8, 8))
    assert network.training


def test_parameters_are_counted_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 12
    layer.bias.requires_grad_(False)
    assert count_parameters(layer, trainable=True) == 9


def test_saved_bytes_of_a_product_and_their_release():
    a, b = torch.rand(100, requires_grad=True), torch.rand(100, requires_grad=True)
    with saved_bytes() as meter:
        y = a * b
        assert meter.now == meter.peak == 800
        z = y * y  # y is kept twice and counts once
        assert meter.now == 1200
        z.sum().backward()
    assert meter.peak == 1200


def test_weights_do_not_count_as_saved():
    layer = nn.Linear(50, 50, bias=False)
    x = torch.rand(4, 50, requires_grad=True)
    with saved_bytes(layer) as meter:
        layer(x).sum().backward()
    assert meter.peak == 4 * 50 * 4


def test_fused_network_gives_the_same_output_with_fewer_modules():
    network = cifar_resnet(14, widths=(4, 8, 8), shortcut="B")
    network(torch.rand(8, 3, 16, 16))  # moves the running statistics
    fused = fuse(network)
    x = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(fused(x), network.eval()(x), atol=1e-5, rtol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_fused_convolution_in_float64():
    conv, norm = nn.Conv2d(3, 6, 3, stride=2, groups=3).double(), nn.BatchNorm2d(6).double()
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    norm(conv(x))
    nn.init.normal_(norm.weight)
    norm.eval()
    torch.testing.assert_close(fuse_conv_norm(conv, norm)(x), norm(conv(x)))


@pytest.mark.parametrize(("value", "result"), [(32, 32), (12, 16), (11.2, 16), (44.8, 48), (1, 8), (134.4, 136)])
def test_widths_are_rounded_to_eight_but_not_below_ninety_percent(value, result):
    assert make_divisible(value) == result
