import torch
from torch.nn.functional import layer_norm

from tests.typecheck import value_error
from ziggurat.nn.patch_merging import PatchMerge, PatchSplit


def test_merging_against_a_naive_loop():
    layer, x = PatchMerge(3).double(), torch.randn(2, 5, 4, 6, 3, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 5, 2, 3, 6)
    for i in range(2):
        for j in range(3):
            square = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            four = torch.cat([square[:, :, r, c] for c in (0, 1) for r in (0, 1)], 2)
            want = layer_norm(four, (12,), layer.norm.weight, layer.norm.bias, 1e-6) @ layer.reduction.weight.T
            torch.testing.assert_close(y[:, :, i, j], want)


def test_splitting_against_a_naive_loop():
    layer, x = PatchSplit(6, 2).double(), torch.randn(2, 5, 2, 3, 6, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 5, 4, 6, 2)
    four = layer_norm(x, (6,), layer.norm.weight, layer.norm.bias, 1e-6) @ layer.expansion.weight.T
    for i in range(4):
        for j in range(6):
            part = 2 * (2 * (i % 2) + j % 2)
            torch.testing.assert_close(y[:, :, i, j], four[:, :, i // 2, j // 2, part : part + 2])


def test_odd_grids_are_refused():
    with value_error("has no 2×2 squares"):
        PatchMerge(3)(torch.randn(1, 3, 4, 3))
