import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, lp_pool2d, max_pool2d

from tests.typecheck import value_error
from ziggurat.nn import count_parameters, macs
from ziggurat.vision.backbones.all_conv import AllConvNet, BaseCNN, ConvPoolCNN, StridedCNN

FORMS = (BaseCNN, StridedCNN, ConvPoolCNN, AllConvNet)


def counts(network, classes=10):
    """Parameters and multiply-accumulates of base C at 32 pixels."""
    with torch.device("meta"):
        made = network(num_classes=classes)
    return count_parameters(made), macs(made, torch.empty(1, 3, 32, 32, device="meta"))


@pytest.mark.fact("all_conv", 1)
def test_published_counts_of_all_cnn_c():
    assert counts(AllConvNet) == (1_369_738, 270_798_336)
    assert counts(AllConvNet, 100)[0] == 1_387_108


@pytest.mark.fact("all_conv", 2)
def test_parameters_of_the_other_forms():
    with torch.device("meta"):
        assert [count_parameters(AllConvNet(base)) for base in "ABC"] == [1_254_250, 1_300_618, 1_369_738]
    assert [counts(form)[0] for form in FORMS] == [954_730, 954_730, 1_369_738, 1_369_738]


@pytest.mark.fact("all_conv", 3)
def test_cost_of_the_other_forms():
    assert [counts(form)[1] for form in FORMS[:3]] == [228_331_008, 100_929_024, 398_200_320]


@pytest.mark.fact("all_conv", 4)
def test_average_pooling_is_a_fixed_convolution_and_p_norms_tend_to_the_maximum():
    torch.manual_seed(0)
    x = torch.rand(2, 4, 9, 9, dtype=torch.float64)
    fixed = torch.full((4, 1, 3, 3), 1 / 9, dtype=torch.float64)
    torch.testing.assert_close(avg_pool2d(x, 3, 2), conv2d(x, fixed, stride=2, groups=4))
    far = [float((lp_pool2d(x, p, 3, 2) - max_pool2d(x, 3, 2)).abs().max()) for p in (1.0, 4.0, 16.0, 64.0, 256.0)]
    assert far == sorted(far, reverse=True) and far[0] > 1 and far[-1] < 0.01


@pytest.mark.parametrize("base", ["A", "B", "C"])
@pytest.mark.parametrize("form", FORMS)
def test_layers_of_every_form(form, base):
    with torch.device("meta"):
        network = form(base)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    kernels = {"A": [5], "B": [5, 1], "C": [3, 3]}[base] + [3] * form.extra
    strides = [1] * len(kernels) if form.pooled else [1] * (len(kernels) - 1) + [2]
    assert [c.kernel_size[0] for c in convolutions] == [*kernels, *kernels, 3, 1, 1]
    assert [c.stride[0] for c in convolutions] == [*strides, *strides, 1, 1, 1]
    assert sum(isinstance(m, torch.nn.ReLU) for m in network.modules()) == len(convolutions)
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in network.modules()) == 2 * form.pooled
    assert [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [0.2, 0.5, 0.5]
    last = network.forward_features(torch.empty(1, 3, 32, 32, device="meta"))[-1]
    assert tuple(last.shape[1:]) == (192, 6, 6) and network.strides[-1] == 4


def test_class_maps_are_fully_convolutional():
    torch.manual_seed(0)
    network = AllConvNet(num_classes=5, widths=(6, 8), padding="same").double().eval()
    x = torch.randn(2, 3, 65, 47, dtype=torch.float64)
    maps = network.head.maps(network.forward_features(x)[-1])
    assert maps.shape == (2, 5, 17, 12) and float(maps.detach().min()) >= 0
    torch.testing.assert_close(network(x), maps.mean((2, 3)))


@pytest.mark.parametrize("form", FORMS)
def test_spread_of_activations_at_the_start_stays_bounded(form):
    torch.manual_seed(0)
    network = form(widths=(32, 64)).eval()
    for feature in network.forward_features(torch.randn(8, 3, 32, 32)):
        assert 0.2 < float(feature.detach().square().mean()) < 10


def test_mistakes_are_named():
    with value_error("base must be 'A', 'B' or 'C', got 'D'"):
        AllConvNet("D")
    with value_error("'valid' or 'same', got 'full'"):
        AllConvNet(padding="full")
    with value_error("9 pixels or more, got 8×8"):
        AllConvNet(widths=(4, 4))(torch.rand(1, 3, 8, 8))
