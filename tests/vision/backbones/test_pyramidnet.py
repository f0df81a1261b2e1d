import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, pad, relu

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.vision.backbones import pyramidnet as module
from ziggurat.vision.backbones.pyramidnet import PyramidNet, PyramidUnit, cifar_pyramidnet, pyramid_widths

PUBLISHED = {
    "pyramidnet110_a84": 3_904_446, "pyramidnet110_a270": 28_485_477, "pyramidnet164_a270_bottleneck": 27_216_021,
    "pyramidnet272_a200_bottleneck": 26_210_842, "pyramidnet200_a240_bottleneck": 26_752_702,
}  # fmt: skip


def on_meta(constructor, *arguments, **named):
    with torch.device("meta"):
        return constructor(*arguments, **named)


def small(**options):
    torch.manual_seed(0)
    return PyramidNet((2, 2, 2), 12, 5, start=8, **options).eval()


@pytest.mark.fact("pyramidnet", 1)
def test_published_count_of_the_smallest():
    network = on_meta(module.pyramidnet110_a48)
    widths = [unit.branch[1].out_channels for unit in network.units()]
    assert count_parameters(network) == 1_772_706
    assert (widths[0], widths[-1], len(widths)) == (17, 64, 54)


@pytest.mark.fact("pyramidnet", 2)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    assert count_parameters(on_meta(getattr(module, name))) == PUBLISHED[name]


def test_the_imagenet_forms_are_about_as_large_as_the_paper_prints():
    for name, printed, last in (("pyramidnet200_a300", 62.1, 1456), ("pyramidnet200_a450", 116.4, 2056)):
        network = on_meta(getattr(module, name))
        assert count_parameters(network) / 1e6 == pytest.approx(printed, rel=0.005)
        assert network.num_features == last and network.strides == (4, 8, 16, 32)


@pytest.mark.fact("pyramidnet", 3)
def test_with_silent_branches_only_stem_pooling_and_padding_are_left():
    network = small()
    for unit in network.units():
        torch.nn.init.zeros_(unit.branch[-1].weight)
    x = torch.rand(2, 3, 16, 16)
    pooled = avg_pool2d(avg_pool2d(network.stem(x), 2), 2)
    last = pad(pooled, (0, 0, 0, 0, 0, network.num_features - 8))
    torch.testing.assert_close(network.forward_features(x)[-1], last)
    pooled = relu(network.head.norm(last)).mean((2, 3))
    torch.testing.assert_close(network(x), network.head.classifier.fc(pooled))


@pytest.mark.fact("pyramidnet", 4)
@pytest.mark.parametrize(("alpha", "units"), [(48, 54), (84, 54), (20, 54), (200, 90), (7, 9)])
def test_widths_follow_the_line(alpha, units):
    widths = pyramid_widths(alpha, units)
    assert all(abs(width - (16 + k * alpha / units)) <= 0.5 for k, width in enumerate(widths, 1))
    assert widths[-1] == 16 + alpha


def test_multiplicative_widths_grow_by_a_factor():
    widths = pyramid_widths(4.75, 54, growth="multiplicative")
    assert widths[-1] == 76 and widths[26] == round(16 * 4.75**0.5)
    counts = [count_parameters(on_meta(cifar_pyramidnet, 110, a, growth="multiplicative")) for a in (4.75, 8)]
    assert counts == pytest.approx([1.7e6, 3.8e6], rel=0.06), "what the paper prints"


@pytest.mark.fact("pyramidnet", 5)
def test_shortcuts_hold_no_parameters_and_the_new_channels_are_zeros_at_the_end():
    unit = PyramidUnit(None, 4, 7, stride=2)
    x = torch.randn(2, 4, 6, 6)
    y = unit(x)
    assert count_parameters(unit) == 0
    assert torch.equal(y[:, :4], avg_pool2d(x, 2)) and not y[:, 4:].any()
    network = small()
    assert all(
        count_parameters(unit) == count_parameters(unit.branch) and not list(unit.pool.parameters())
        for unit in network.units()
    )


def test_units_against_a_plain_restatement():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    b = module.basic_branch(4, 6, 2).double().eval()
    y = conv2d(relu(b[2](conv2d(b[0](x), b[1].weight, stride=2, padding=1))), b[4].weight, padding=1)
    torch.testing.assert_close(b(x), b[5](y))
    b = module.bottleneck_branch(4, 3, 2).double().eval()
    y = conv2d(relu(b[2](conv2d(b[0](x), b[1].weight))), b[4].weight, stride=2, padding=1)
    torch.testing.assert_close(b(x), b[8](conv2d(relu(b[5](y)), b[7].weight)))
    assert (PyramidUnit(b, 4, 12, 2)(x) < 0).any(), "nothing follows the addition"


def test_odd_sizes_are_averaged_over_what_is_there():
    unit = PyramidUnit(None, 1, 1, stride=2)
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert unit(x).flatten().tolist() == [2.0, 3.5, 6.5, 8.0]
    assert [tuple(f.shape[2:]) for f in small().forward_features(torch.rand(1, 3, 33, 21))] == [
        (33, 21),
        (17, 11),
        (9, 6),
    ]


def test_a_deleted_unit_passes_on_its_shortcut():
    network = small()
    x = torch.rand(2, 3, 16, 16)
    lesioned = network.delete_unit(3)
    before, after = network.forward_features(x), lesioned.forward_features(x)
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])
    torch.testing.assert_close(lesioned.stages[1][0](before[0])[:, :12], avg_pool2d(before[0], 2))
    assert all(unit.branch is not None for unit in network.units()), "the network itself is left as it was"
    with value_error("units 1 to 6, got 7"):
        network.delete_unit(7)


def test_signals_grow_slowly_with_depth():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    for units in (2, 8):
        assert PyramidNet((units,) * 3, 12, 5, start=8).train().forward_features(x)[-1].std() < 4 * units


def test_mistakes_are_named():
    with value_error("6n \\+ 2 with basic"):
        cifar_pyramidnet(109)
    with value_error("9n \\+ 2 with bottleneck"):
        cifar_pyramidnet(111, block="bottleneck")
    with value_error("additive widths must not shrink"):
        PyramidNet(alpha=-1)
    with value_error("multiplicative widths must not shrink"):
        PyramidNet(alpha=0.5, growth="multiplicative")
    with value_error("'additive' or 'multiplicative'"):
        pyramid_widths(3, 3, growth="square")
    with value_error("basic.*bottleneck"):
        PyramidNet(block="wide")
    with value_error("'cifar' or 'imagenet'"):
        PyramidNet(stem="deep")
