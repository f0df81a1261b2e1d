import math

import pytest
import torch
from torch.nn.functional import adaptive_max_pool2d

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.nn.operators.spatial_pyramid_pool import SpatialPyramidPool, box_cells, nearest_scale, spp_regions


@pytest.mark.fact("sppnet", 1)
@pytest.mark.parametrize(("levels", "bins"), [((6, 3, 2, 1), 50), ((4, 3, 2, 1), 30)])
def test_bins_of_the_paper(levels, bins):
    pool = SpatialPyramidPool(levels)
    assert pool.bins == bins and pool(torch.rand(1, 256, 13, 13)).shape == (1, 256 * bins)


@pytest.mark.fact("sppnet", 2)
@pytest.mark.parametrize("size", [(13, 13), (7, 10), (2, 5)])
def test_order_and_ends_of_bins(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    height, width = size
    want = []
    for n in (4, 1, 3):
        for channel in range(3):
            for i in range(n):
                for j in range(n):
                    rows = slice(math.floor(i * height / n), math.ceil((i + 1) * height / n))
                    columns = slice(math.floor(j * width / n), math.ceil((j + 1) * width / n))
                    want.append(x[:, channel, rows, columns].amax((1, 2)))
    assert torch.equal(SpatialPyramidPool((4, 1, 3))(x), torch.stack(want, 1))
    assert torch.equal(SpatialPyramidPool((1,))(x), x.amax((2, 3)))
    for n in (1, 2, 5):
        assert torch.equal(SpatialPyramidPool((n,))(x), adaptive_max_pool2d(x, n).flatten(1))


@pytest.mark.fact("sppnet", 3)
def test_no_parameters_and_one_length():
    pool = SpatialPyramidPool()
    assert count_parameters(pool) == 0
    assert {pool(torch.rand(1, 4, *size)).shape for size in ((1, 1), (6, 6), (9, 31), (40, 7))} == {(1, 200)}


@pytest.mark.fact("sppnet", 4)
def test_a_window_of_the_whole_image_takes_the_whole_map():
    stride, (height, width) = 16, (5, 9)
    features, whole = torch.randn(1, 4, height, width), torch.tensor([[0.0, 0, stride * width, stride * height]])
    assert torch.equal(spp_regions(features, [whole], stride), SpatialPyramidPool()(features))
    bare = math.floor(0 / stride) + 1, math.ceil(stride * width / stride) - 1
    assert bare == (1, width - 1)
    assert box_cells(whole, stride, height, width).tolist() == [[0, 0, width - 1, height - 1]]


@pytest.mark.fact("sppnet", 5)
@pytest.mark.parametrize("size", [(6, 6), (12, 18), (24, 6)])
def test_sliding_windows_equal_bins_where_the_grids_divide_the_map(size):
    x = torch.randn(2, 3, *size)
    assert torch.equal(SpatialPyramidPool(mode="window")(x), SpatialPyramidPool()(x))


def test_the_papers_windows_of_a_map_of_13():
    x = torch.randn(1, 2, 13, 13)
    want = [torch.nn.functional.max_pool2d(x, w, s).flatten(1) for w, s in ((5, 4), (7, 6), (13, 13))]
    assert torch.equal(SpatialPyramidPool((3, 2, 1), "window")(x), torch.cat(want, 1))


def test_regions_one_by_one():
    features = torch.randn(2, 5, 13, 17, dtype=torch.float64)
    corners = torch.rand(40, 2) * torch.tensor([60.0, 45.0])
    boxes = torch.cat([corners, corners + torch.rand(40, 2) * 40], 1)
    described = spp_regions(features, [boxes[:25], boxes[25:]], 4)
    pool = SpatialPyramidPool()
    for row, box in enumerate(boxes.tolist()):
        inside = [
            [c for c in range(size) if a < 4 * c < b] for a, b, size in ((box[0], box[2], 17), (box[1], box[3], 13))
        ]
        if min(map(len, inside)) == 0:
            continue
        (left, right), (top, bottom) = ((cells[0], cells[-1] + 1) for cells in inside)
        window = features[int(row >= 25)][:, top:bottom, left:right]
        assert torch.equal(described[row], pool(window[None])[0])


def test_windows_without_a_cell_take_the_nearest():
    boxes = torch.tensor([[17.0, 17, 19, 31], [33, 1, 47, 90], [500, 500, 600, 600], [-9, -9, 30, 30]])
    cells = box_cells(boxes, 16, 4, 4)
    assert cells[:3].tolist() == [[1, 2, 1, 2], [2, 1, 2, 3], [3, 3, 3, 3]]
    assert cells[3].tolist() == [0, 0, 1, 1]


def test_gradients_reach_the_map_and_no_windows_give_no_rows():
    features = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    boxes = [torch.tensor([[0.0, 0, 24, 24], [4, 4, 20, 16]])]
    assert torch.autograd.gradcheck(lambda x: spp_regions(x, boxes, 4, (3, 2)), features)
    assert spp_regions(features, [torch.zeros(0, 4)], 4, (2, 1)).shape == (0, 10)


def test_the_scale_at_which_a_window_is_nearest_to_224():
    boxes = torch.tensor([[0.0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 448, 448], [0, 0, 100, 400]])
    assert nearest_scale(boxes, (0.5, 1.0, 2.0)).tolist() == [1, 2, 0, 1]


def test_mistakes_are_named():
    with value_error("'max' or 'window'"):
        SpatialPyramidPool(mode="mean")
    with value_error("each 1 or more"):
        SpatialPyramidPool((3, 0))
    with value_error("take mode 'max'"):
        SpatialPyramidPool((3,), "window")(torch.zeros(1, 1, 5, 5))
    with value_error("2 images need as many"):
        spp_regions(torch.zeros(2, 1, 4, 4), [torch.zeros(1, 4)], 4)
