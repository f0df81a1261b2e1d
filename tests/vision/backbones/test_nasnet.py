from functools import cache

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from tests.typecheck import value_error
from ziggurat.catalogue import translate
from ziggurat.nn import count_parameters, macs
from ziggurat.nn.operators.scheduled_drop_path import ScheduledDropPath, set_progress
from ziggurat.vision.backbones.nasnet import KEYS, NASNet, nasnet_a_cifar, nasnet_a_large, nasnet_a_mobile
from ziggurat.vision.backbones.nasnet_cells import (
    NASNET_A,
    OPERATIONS,
    Block,
    Cell,
    FactorizedReduction,
    Genotype,
    NASNetCell,
    make_operation,
)


@cache
def on_meta(make):
    with torch.device("meta"):
        return make()


def image(size):
    return torch.empty(1, 3, size, size, device="meta")


@pytest.mark.fact(
    "nasnet",
    1,
    corrected="568,234,858 counts a border that pretrainedmodels computes in its reductions and cuts off again; without it there "
    "are 563,638,816 multiply-accumulates, the paper's 564M",
)
def test_published_counts_of_the_mobile_network():
    network = on_meta(nasnet_a_mobile)
    assert (count_parameters(network), macs(network, image(224))) == (5_289_978, 563_638_816)
    border = 0
    for width, places in (
        (22, 29**2 - 28**2),
        (88, 15**2 - 14**2),
        (176, 8**2 - 7**2),
    ):  # even maps are padded in front
        border += places * sum(k * k * width + width * width for k in (5, 7, 7, 5, 3))
    assert 563_638_816 + border == 568_234_858


@pytest.mark.fact("nasnet", 2)
def test_published_counts_of_the_large_network():
    network = on_meta(nasnet_a_large)
    assert (count_parameters(network), macs(network, image(331))) == (88_753_150, 23_783_414_658)


@pytest.mark.fact("nasnet", 3)
def test_widths():
    assert NASNetCell(9, 7, 4).out_channels == 6 * 4
    assert NASNetCell(9, 7, 4, NASNET_A.reduction, stride=2).out_channels == 4 * 4
    large = on_meta(nasnet_a_large)
    assert large.channels == (168, 1008, 2016, 4032) and large.num_features == 4032
    features = on_meta(nasnet_a_mobile).forward_features(image(224))
    assert [tuple(f.shape[1:]) for f in features] == [(44, 56, 56), (264, 28, 28), (528, 14, 14), (1056, 7, 7)]
    cifar = on_meta(nasnet_a_cifar)
    assert cifar.channels == (192, 384, 768) and cifar.strides == (1, 2, 4)
    assert count_parameters(cifar) == pytest.approx(3.3e6, rel=0.02)


def restated(cell, x, previous):
    """NASNet-A's normal cell, written out."""
    h0, h1 = cell.current(x), cell.before(previous)

    def sep(op, h):
        for part, norm in ((op.first, op.norm1), (op.second, op.norm2)):
            side = part.depthwise.kernel_size[0]
            h = conv2d(h.relu(), part.depthwise.weight, padding=side // 2, groups=h.shape[1])
            h = norm(conv2d(h, part.pointwise.weight))
        return h

    def avg(h):
        return avg_pool2d(h, 3, 1, 1, count_include_pad=False)

    b = cell.blocks
    return torch.cat(
        [
            h1,
            sep(b[0].left, h0) + sep(b[0].right, h1),
            sep(b[1].left, h1) + sep(b[1].right, h1),
            avg(h0) + h1,
            avg(h1) + avg(h1),
            sep(b[4].left, h0) + h0,
        ],
        1,
    )


def test_normal_cell_against_a_plain_restatement():
    cell = NASNetCell(5, 3, 4).double().eval()
    x, previous = (torch.randn(2, n, 7, 6, dtype=torch.float64) for n in (5, 3))
    torch.testing.assert_close(cell(x, previous), restated(cell, x, previous))


def test_a_reduction_strides_only_what_reads_the_inputs():
    cell = NASNetCell(5, 3, 4, NASNET_A.reduction, stride=2, previous_stride=2).eval()
    strides = [m.stride for m in cell.modules() if isinstance(m, torch.nn.AvgPool2d | torch.nn.MaxPool2d)]
    assert sorted(strides) == [1, 2, 2, 2]
    assert cell(torch.randn(1, 5, 7, 7), torch.randn(1, 3, 14, 14)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize("skip", [True, False])
def test_a_cell_reads_the_two_before_it(skip):
    network = NASNet(3, cells=2, width=4, stem="cifar", skip=skip)
    stem = network.stem(torch.randn(2, 3, 12, 12))
    assert stem.x is stem.previous
    first, second = network.stages[0]
    middle = first(stem.x, stem.previous)
    pair = network.stages[0](stem)
    assert pair.previous.shape == middle.shape and pair.x.shape == second(middle, stem.x).shape
    seen = []
    network.stages[1][1].register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    network.stages[1](pair)
    assert seen[0] is (pair.previous if skip else pair.x)


def test_factorised_reduction_takes_both_diagonals():
    layer = FactorizedReduction(2, 4).eval()
    x = torch.randn(1, 2, 5, 6)
    shifted = pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
    want = [conv2d(x[:, :, ::2, ::2], layer.first.weight), conv2d(shifted[:, :, ::2, ::2], layer.second.weight)]
    torch.testing.assert_close(layer(x), layer.norm(torch.cat(want, 1)))
    assert FactorizedReduction(2, 5)(x).shape == (1, 5, 3, 3)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("width", [3, 4])
def test_operations_keep_their_promise_of_shapes(name, width):
    for stride, size in ((1, (9, 6)), (2, (5, 3))):
        assert make_operation(name, 3, width, stride)(torch.randn(2, 3, 9, 6)).shape == (2, width, *size)


def test_pools_do_not_count_the_border():
    ones = torch.ones(1, 3, 5, 5)
    assert torch.equal(make_operation("avg3", 3, 3, 1)(ones), ones)
    x = -torch.ones(1, 3, 5, 5)
    assert torch.equal(make_operation("max7", 3, 3, 2)(x), max_pool2d(x, 1, 2))


def test_a_plan_reads_as_the_figure():
    text = str(NASNetCell(9, 7, 4))
    assert "b1 = sep5(h0) + sep3(h1)" in text and "b5 = sep3(h0) + h0" in text
    assert "out = [h1, b1, b2, b3, b4, b5]" in text
    joined = Cell((Block(("max3", 0), ("1x1", 1), "concat"),))
    assert str(joined) == "b1 = [max3(h0), 1x1(h1)]\nout = [b1]"
    assert NASNetCell(5, 3, 4, joined).out_channels == 8


def test_drop_path_grows_with_depth_and_training():
    network = NASNet(3, cells=1, width=4, stem="cifar", drop_path=0.5)
    rates = [m.p for m in network.modules() if isinstance(m, ScheduledDropPath) and m.p]
    assert sorted(set(rates)) == pytest.approx([0.1 * i for i in range(1, 6)])
    x = torch.randn(8, 3, 8, 8)
    network.train()
    assert torch.equal(network.stages[0](network.stem(x)).x, network.stages[0](network.stem(x)).x)
    set_progress(network, 1.0)
    assert not torch.equal(network.stages[0](network.stem(x)).x, network.stages[0](network.stem(x)).x)


def timm_names(network):
    """Our state under timm's names, written down from its documentation."""
    state = {}
    for name, value in network.state_dict().items():
        name = name.replace(".norm1.", ".bn_sep_1.").replace(".norm2.", ".bn_sep_2.")
        name = name.replace(".first.depth", ".separable_1.depth").replace(".first.point", ".separable_1.point")
        name = name.replace(".second.depth", ".separable_2.depth").replace(".second.point", ".separable_2.point")
        name = name.replace("wise.weight", "wise_conv2d.weight").replace("head.fc", "last_linear")
        name = name.replace("before.1.first", "path_1.conv").replace("before.1.second", "path_2.conv")
        name = name.replace("before.1.norm", "final_path_bn").replace("stem.conv", "conv0")
        name = name.replace("before.norm", "conv_prev_1x1.bn").replace("before.conv", "conv_prev_1x1.conv")
        name = name.replace("current.norm", "conv_1x1.bn").replace("current.conv", "conv_1x1.conv")
        for block in range(5):
            for side in ("left", "right"):
                name = name.replace(f"blocks.{block}.{side}", f"comb_iter_{block}_{side}")
        name = name.replace("conv0.norm", "conv0.bn")
        if name.startswith("stages."):
            _, stage, cell, *rest = name.split(".")
            place = {("0", "0"): "cell_stem_0", ("1", "0"): "cell_stem_1"}.get((stage, cell))
            place = place or (
                f"reduction_cell_{int(stage) - 2}" if cell == "0" else f"cell_{6 * int(stage) + int(cell) - 7}"
            )
            name = ".".join([place, *rest])
        state[name] = value
    return state


def test_timm_names_load_by_the_key_map_with_none_left_over():
    network = on_meta(nasnet_a_large)
    theirs = timm_names(network)
    assert len(theirs) == len(network.state_dict())
    for name in (
        "cell_17.comb_iter_4_left.separable_2.pointwise_conv2d.weight",
        "cell_6.final_path_bn.running_var",
        "reduction_cell_1.conv_prev_1x1.bn.weight",
        "cell_stem_1.path_2.conv.weight",
        "conv0.bn.bias",
    ):
        assert name in theirs
    assert list(translate(theirs, KEYS)) == list(network.state_dict())


def test_a_short_network_for_a_search():
    network = NASNet(3, 1, cells=(1, 0), width=6, stem="cifar")
    assert network.channels == (36, 48) and network.strides == (1, 2)
    assert network(torch.randn(2, 1, 14, 14)).shape == (2, 3)


def test_the_auxiliary_head_is_a_second_classifier():
    network = NASNet(5, cells=1, width=4, stem="cifar", auxiliary=True)
    features = network.forward_features(torch.randn(2, 3, 12, 12))
    assert network.auxiliary_weight == 0.4 and network.auxiliary(features).shape == (2, 5)
    network.reset_classifier(3)
    assert network.auxiliary(features).shape == network.forward_head(features).shape == (2, 3)


def test_activations_keep_their_size_with_depth():
    features = NASNet(0, cells=3, width=8, stem="cifar").forward_features(torch.randn(4, 3, 32, 32))
    assert all(0.3 < float(f.detach().std()) < 4 for f in features)


def test_mistakes_are_named():
    with value_error("'imagenet' or 'cifar'"):
        NASNet(stem="mnist")
    with value_error("multiple of 4"):
        NASNet(width=6)
    with value_error("at least 1 in the first stage"):
        NASNet(cells=0)
    with value_error("in all with skip"):
        NASNet(cells=(1, 0), skip=True)
    with value_error("has no auxiliary head"):
        NASNet(3, cells=1, width=4, stem="cifar").auxiliary([])
    with value_error("can read the states 0 to 2, got 3"):
        Genotype(Cell((Block(("sep3", 0), ("sep3", 1)), Block(("sep3", 3), ("sep3", 1)))), NASNET_A.reduction)
    with value_error("'sep9' is no operation"):
        Cell((Block(("sep9", 0), ("sep3", 1)),))
