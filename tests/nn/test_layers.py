"""The layers that several backbones share, each against a plain restatement."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, layer_norm, softmax

from tests.typecheck import value_error
from ziggurat.nn import (
    Attention,
    ConvNormAct,
    CrossAttention,
    DepthwiseSeparable,
    DropBlock2d,
    DropPath,
    GlobalResponseNorm,
    LayerNorm2d,
    LayerScale,
    PatchEmbed,
    SeparableConv2d,
    SqueezeExcite,
    TransformerBlock,
    count_parameters,
    drop_path_rates,
    resize_positions,
    sincos_positions,
)

D = torch.float64


@pytest.mark.parametrize(
    ("kernel", "padding", "want"), [((1, 7), None, (9, 11)), ((7, 1), None, (9, 11)), (3, 0, (7, 9))]
)
def test_factorised_and_valid_convolutions(kernel, padding, want):
    assert ConvNormAct(3, 4, kernel, padding=padding)(torch.rand(2, 3, 9, 11)).shape[-2:] == want


def test_separable_pair_is_one_convolution_with_the_kernel_p_d():
    pair, x = SeparableConv2d(3, 5, stride=2).to(D), torch.randn(2, 3, 9, 8, dtype=D)
    kernel = pair.pointwise.weight * pair.depthwise.weight.transpose(0, 1)
    torch.testing.assert_close(pair(x), conv2d(x, kernel, stride=2, padding=1))


def test_depthwise_separable_activates_twice():
    block, x = DepthwiseSeparable(4, 6).eval(), torch.randn(2, 4, 5, 5)
    assert (block(x) >= 0).all() and (block.depthwise(x) >= 0).all()
    assert count_parameters(block) == 4 * 9 + 2 * 4 + 4 * 6 + 2 * 6


@pytest.mark.parametrize("places", [(5,), (4, 5), (2, 3, 4)])
def test_squeeze_excite_on_any_number_of_axes(places):
    gate, x = SqueezeExcite(6, 2).to(D), torch.randn(2, 6, *places, dtype=D)
    got = gate(x)
    for b in range(2):
        means = torch.stack([x[b, c].mean() for c in range(6)])
        scale = torch.sigmoid(gate.expand(torch.relu(gate.reduce(means))))
        for c in range(6):
            torch.testing.assert_close(got[b, c], x[b, c] * scale[c])


def test_layer_norm_of_channels_at_every_place():
    norm, x = LayerNorm2d(4).to(D), torch.randn(2, 4, 3, 5, dtype=D)
    nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x)[1, :, 2, 3], layer_norm(x[1, :, 2, 3], (4,), norm.weight, norm.bias))


def test_global_response_norm():
    norm, x = GlobalResponseNorm(4).to(D), torch.randn(2, 4, 3, 5, dtype=D)
    assert torch.equal(norm(x), x)
    nn.init.normal_(norm.scale)
    nn.init.normal_(norm.shift)
    energy = [x[1, c].pow(2).sum().sqrt() for c in range(4)]
    share = energy[2] / (sum(energy) / 4)
    torch.testing.assert_close(
        norm(x)[1, 2], x[1, 2] + norm.scale[2] * x[1, 2] * share + norm.shift[2], rtol=1e-5, atol=1e-6
    )


def test_layer_scale_along_both_axes():
    x = torch.randn(2, 4, 4, 4)
    assert torch.equal(LayerScale(4, 0.5)(x), 0.5 * x) and torch.equal(
        LayerScale(4, 2.0, axis=-1, shift=True)(x), 2 * x
    )


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    drop, x = DropPath(0.3), torch.ones(20_000, 2, 3)
    y = drop(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(y.amin((1, 2)), y.amax((1, 2))) and abs(float(y.mean()) - 1) < 0.02
    assert drop.eval()(x) is x
    assert drop_path_rates(0.2, 5) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2]) and drop_path_rates(0.2, 1) == [0.0]
    with value_error("below 1"):
        DropPath(1.0)


def test_drop_block_drops_about_p_and_keeps_the_mean():
    drop, x = DropBlock2d(0.1, 3), torch.ones(500, 2, 16, 16)
    y = drop(x)
    assert abs(float((y == 0).float().mean()) - 0.1) < 0.01 and float(y.mean()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(y[:, 0] == 0, y[:, 1] == 0)
    zeros = (y[0, 0] == 0).nonzero()
    assert drop.eval()(x) is x and all(((zeros - z).abs().amax(1) <= 2).sum() >= 9 for z in zeros)
    with value_error("odd"):
        DropBlock2d(0.1, 4)


def test_positions_are_waves_of_row_and_column():
    table = sincos_positions(3, 4, 8)
    row, column, rates = 2, 1, [1.0, 1e-2]
    want = [f(place * r) for place in (row, column) for f in (math.sin, math.cos) for r in rates]
    assert table[row * 4 + column].tolist() == pytest.approx(want)
    with value_error("multiple of 4"):
        sincos_positions(2, 2, 6)


def test_positions_follow_the_grid():
    positions = torch.randn(1, 1 + 6, 8)
    assert resize_positions(positions, (2, 3), (2, 3), 1) is positions
    assert resize_positions(positions, (2, 3), (4, 6), 1).shape == (1, 25, 8)
    assert torch.equal(resize_positions(positions, (2, 3), (4, 6), 1)[:, 0], positions[:, 0])
    constant = torch.full((1, 6, 4), 0.7)
    torch.testing.assert_close(resize_positions(constant, (2, 3), (5, 4)), torch.full((1, 20, 4), 0.7))
    with value_error("give the grid"):
        resize_positions(positions, (2, 3), (4, 6))


def test_patches_row_by_row():
    embed, x = PatchEmbed(4, 3, 8).to(D), torch.randn(2, 3, 8, 12, dtype=D)
    want = (embed.proj.weight * x[1, :, 4:8, 8:12]).sum((1, 2, 3)) + embed.proj.bias
    torch.testing.assert_close(embed(x)[1, 1 * 3 + 2], want)
    with value_error("patches of 4 pixels"):
        embed(torch.rand(1, 3, 8, 10, dtype=D))


def test_attention_against_a_loop():
    layer, x = Attention(6, 2).to(D), torch.randn(1, 5, 6, dtype=D)
    q, k, v = layer.qkv(x)[0].split(6, 1)
    heads = []
    for h in (slice(0, 3), slice(3, 6)):
        weights = softmax(
            torch.stack([torch.stack([q[i, h] @ k[j, h] / 3**0.5 for j in range(5)]) for i in range(5)]), 1
        )
        heads.append(torch.stack([sum(weights[i, j] * v[j, h] for j in range(5)) for i in range(5)]))
    torch.testing.assert_close(layer(x)[0], layer.proj(torch.cat(heads, 1)))
    with value_error("choose a divisor"):
        Attention(6, 4)


def test_cross_attention_of_tokens_to_themselves_is_attention():
    own, cross, x = Attention(6, 2).to(D), CrossAttention(6, 2).to(D), torch.randn(2, 5, 6, dtype=D)
    state = own.state_dict()
    cross.load_state_dict(
        {"q.weight": state["qkv.weight"][:6], "q.bias": state["qkv.bias"][:6], "kv.weight": state["qkv.weight"][6:]}
        | {"kv.bias": state["qkv.bias"][6:], "proj.weight": state["proj.weight"], "proj.bias": state["proj.bias"]}
    )
    torch.testing.assert_close(cross(x, x), own(x))
    assert CrossAttention(6, 2, other=4, inner=8)(torch.rand(1, 5, 6), torch.rand(1, 3, 4)).shape == (1, 5, 6)


def test_transformer_block_counts_and_starts_near_the_identity():
    block = TransformerBlock(192, 3)
    assert count_parameters(block) == 12 * 192**2 + 13 * 192
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(TransformerBlock(8, 2, layer_scale=0.0)(x), x)
