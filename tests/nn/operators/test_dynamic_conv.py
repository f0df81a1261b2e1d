import pytest
import torch

from tests.typecheck import value_error
from ziggurat.nn.operators.dynamic_conv import ContMix, RelativeBias, dynamic_conv2d, window_starts


@pytest.mark.parametrize(("height", "width", "kernel"), [(7, 6, 3), (5, 9, 5), (6, 6, 1)])
def test_against_a_naive_loop_with_clamped_neighbourhoods(height, width, kernel):
    x = torch.randn(2, 8, height, width, dtype=torch.float64)
    kernels = torch.randn(2, 4, height, width, kernel**2, dtype=torch.float64)
    want = torch.zeros_like(x)
    for channel in range(8):
        for i in range(height):
            for j in range(width):
                top = min(max(i - kernel // 2, 0), height - kernel)
                left = min(max(j - kernel // 2, 0), width - kernel)
                for a in range(kernel):
                    for b in range(kernel):
                        weight = kernels[:, channel // 2, i, j, a * kernel + b]
                        want[:, channel, i, j] += weight * x[:, channel, top + a, left + b]
    torch.testing.assert_close(dynamic_conv2d(x, kernels, kernel), want)


def test_relative_bias_is_looked_up_by_offset():
    bias = RelativeBias(2, 3)
    bias.table.data.normal_()
    found = bias(4, 6)
    for i, j, a, b in ((0, 0, 0, 0), (0, 0, 2, 2), (2, 3, 1, 1), (3, 5, 0, 2), (1, 5, 2, 0)):
        row = window_starts(4, 3)[i] + a - i + 2
        column = window_starts(6, 3)[j] + b - j + 2
        assert torch.equal(found[:, i, j, 3 * a + b], bias.table[:, row, column])
    assert torch.equal(found[:, 2, 3, 4], bias.table[:, 2, 2])  # a place and itself


@pytest.mark.fact("overlock", 4)
@pytest.mark.parametrize("size", [(9, 8), (3, 5)])
def test_kernels_sum_to_one_and_constant_maps_stay(size):
    mix = ContMix(16, 6, heads=2, kernel=7).double().eval()
    for bias in (mix.bias_small, mix.bias_large):
        bias.table.data.normal_()
    x, context = torch.randn(2, 16, *size, dtype=torch.float64), torch.randn(2, 6, *size, dtype=torch.float64)
    mix.project = torch.nn.Identity()
    constant = torch.randn(2, 16, 1, 1, dtype=torch.float64).expand(-1, -1, *size)
    torch.testing.assert_close(mix(x, context, constant), constant)
    if min(size) >= 7:
        for kernels in mix.kernels(x, context):
            torch.testing.assert_close(kernels.sum(4), torch.ones(2, 4, *size, dtype=torch.float64))


@torch.no_grad()
def test_each_half_of_the_channels_has_its_own_kernel():
    mix = ContMix(8, 4, heads=1, kernel=7, small=5).eval()
    mix.project = torch.nn.Identity()
    x, context = torch.randn(1, 8, 10, 10), torch.randn(1, 4, 10, 10)
    value = torch.randn(1, 8, 10, 10)
    small, large = mix.kernels(x, context)
    assert (small.shape[4], large.shape[4]) == (25, 49)
    mixed = mix(x, context, value)
    torch.testing.assert_close(mixed[:, :4], dynamic_conv2d(value[:, :4], small, 5))
    torch.testing.assert_close(mixed[:, 4:], dynamic_conv2d(value[:, 4:], large, 7))


def test_affinities_by_hand():
    mix = ContMix(8, 4, heads=1, kernel=5, grid=2).double().eval()
    x, context = torch.randn(1, 8, 6, 6, dtype=torch.float64), torch.randn(1, 4, 6, 6, dtype=torch.float64)
    _, large = mix.kernels(x, context)
    queries = mix.query(x)[0]
    regions = torch.stack([context[..., a : a + 3, b : b + 3].mean((2, 3)) for a in (0, 3) for b in (0, 3)], 2)
    keys = mix.key(regions[..., None])[0, :, :, 0]
    for group in range(2):
        own = slice(2 * group, 2 * group + 2)
        affinity = queries[own, 2, 5] @ keys[own] / 4**0.5
        taps = mix.taps(affinity)[25:].softmax(0)  # the five by five taps of the small kernel stand first
        torch.testing.assert_close(large[0, group, 2, 5], taps)


def test_mistakes_are_named():
    with value_error("4 places has no neighbourhoods of 5"):
        window_starts(4, 5)
    with value_error("take a multiple of 8"):
        ContMix(12, 4, heads=2)
