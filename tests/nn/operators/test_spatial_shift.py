import torch

from ziggurat.nn.operators.spatial_shift import SpatialShift


def test_each_quarter_moves_its_way_and_borders_stay():
    height, width, channels = 3, 4, 10
    x = torch.randn(2, height, width, channels, dtype=torch.float64)
    want = x.clone()
    quarter = channels // 4
    ways = {
        0: (-1, 0),
        1: (1, 0),
        2: (0, -1),
        3: (0, 1),
    }  # where each group comes from: above, below, the left, the right
    for c in range(channels):
        rows, columns = ways[min(c // quarter, 3)]
        for i in range(height):
            for j in range(width):
                from_i, from_j = i + rows, j + columns
                inside = 0 <= from_i < height and 0 <= from_j < width
                want[:, i, j, c] = x[:, from_i, from_j, c] if inside else x[:, i, j, c]
    assert torch.equal(SpatialShift()(x), want)


def test_a_single_place_stays():
    x = torch.randn(1, 1, 1, 8)
    assert torch.equal(SpatialShift()(x), x)
