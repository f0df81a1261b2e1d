import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from tests.typecheck import value_error
from ziggurat.nn.branches import Style, make_branch, make_branches, make_stages, side_needed, stride_of

BLOCK = (
    ((1, 4),),
    ((1, 3), ((((1, 3), 2),), (((3, 1), 5),))),
    (("avg", 3), (1, 2)),
)


def test_a_block_puts_its_branches_side_by_side():
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    block, width = make_branches(3, BLOCK, Style(norm=torch.nn.Identity))
    block.double()
    y = block(x)
    assert y.shape == (2, width, 6, 5) and width == 4 + 7 + 2
    one, two, three = block
    torch.testing.assert_close(y[:, :4], conv2d(x, one[0].conv.weight).relu())
    middle = conv2d(x, two[0].conv.weight).relu()
    torch.testing.assert_close(y[:, 4:6], conv2d(middle, two[1][0][0].conv.weight, padding=(0, 1)).relu())
    torch.testing.assert_close(y[:, 6:11], conv2d(middle, two[1][1][0].conv.weight, padding=(1, 0)).relu())
    pooled = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(y[:, 11:], conv2d(pooled, three[1].conv.weight).relu())


def test_padding_counts_at_the_border_only_where_it_is_asked_for():
    ones = torch.ones(1, 1, 3, 3)
    plain, counted = (make_branch(1, (("avg", 3),), Style(count_padding=count))[0] for count in (False, True))
    assert torch.equal(plain(ones), ones)
    assert counted(ones)[0, 0, 0, 0] == pytest.approx(4 / 9)


def test_strides_and_sizes_are_foretold():
    branch = ((3, 2, 2), (3, 2, 1, "V"), ((("max", 3, 2),), ((5, 2, 2),)), (3, 4))
    assert stride_of(branch) == 4 and side_needed(branch) == 15
    padded, width = make_branch(3, branch, Style(valid=False))
    assert width == 4 and padded(torch.randn(1, 3, 21, 30)).shape[-2:] == (6, 8)
    valid, _ = make_branch(3, ((3, 2, 2), (3, 2, 1, "V"), ((("max", 3, 2),), ((3, 2, 2),)), (3, 4)), Style())
    assert valid.eval()(torch.randn(1, 3, 11, 11)).shape[-2:] == (1, 1)
    with pytest.raises(RuntimeError):
        valid(torch.randn(1, 3, 10, 10))


def test_widths_scale_and_never_vanish():
    _, width = make_branch(3, ((1, 100), (1, 10)), Style(width=1 / 8))
    assert width == 1
    assert make_branch(3, ((1, 100),), Style(width=1 / 8))[0][0].conv.out_channels == 12


def test_stages_know_their_widths_and_strides():
    reduction = (((3, 4, 2),), (("max", 3, 2),))
    stages, widths, strides = make_stages(3, 2, ((BLOCK, BLOCK), (reduction, BLOCK)), Style(valid=False))
    assert (len(stages), widths, strides) == (2, (13, 13), (2, 4))
    x = torch.randn(1, 3, 9, 9)
    assert stages[1](stages[0](x)).shape == (1, 13, 5, 5)
    assert torch.equal(stages[1][0][1](x), max_pool2d(x, 3, 2, 1))


def test_an_unknown_pooling_is_named():
    with value_error("'max' or 'avg', got 'sum'"):
        make_branch(3, (("sum", 3),), Style())
