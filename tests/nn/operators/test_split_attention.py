import pytest
import torch
from torch.nn.functional import conv2d, relu

from tests.typecheck import value_error
from ziggurat.nn import SqueezeExcite
from ziggurat.nn.operators.split_attention import SplitAttention


def layer(channels=8, radix=2, cardinality=1, **named):
    """In evaluation mode, with statistics that are not trivial."""
    torch.manual_seed(0)
    made = SplitAttention(channels, radix, cardinality, **named).double()
    for norm in (made.norm, made.squeeze.norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.mark.fact("resnest", 3)
@pytest.mark.parametrize(("radix", "cardinality"), [(2, 1), (2, 2), (4, 2), (3, 1)])
def test_attention_sums_to_one_over_the_splits(radix, cardinality):
    part = layer(24, radix, cardinality)
    attention = part.attention(part.splits(torch.randn(3, 24, 5, 6, dtype=torch.float64)))
    assert attention.shape == (3, radix, 24)
    torch.testing.assert_close(attention.sum(1), torch.ones(3, 24, dtype=torch.float64))
    assert attention.std() > 0.01


@pytest.mark.fact("resnest", 4)
def test_one_split_is_squeeze_and_excitation():
    part = layer(8, radix=1)
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    gate = SqueezeExcite(8, 32).double()
    scale = part.squeeze.norm.weight / (part.squeeze.norm.running_var + part.squeeze.norm.eps).sqrt()
    shift = part.squeeze.norm.bias - part.squeeze.norm.running_mean * scale
    gate.reduce.weight.data = part.squeeze.conv.weight.flatten(1) * scale[:, None]
    gate.reduce.bias.data = part.squeeze.conv.bias * scale + shift
    gate.expand.weight.data, gate.expand.bias.data = part.excite.weight.flatten(1), part.excite.bias
    torch.testing.assert_close(part(x), gate(part.splits(x)[:, 0]))


@pytest.mark.fact("resnest", 5)
def test_equal_splits_come_out_as_they_are():
    part = layer(6, radix=3)
    u = torch.rand(2, 1, 6, 4, 4, dtype=torch.float64)
    attention = part.attention(u.expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close((attention[..., None, None] * u).sum(1), u[:, 0])


def test_against_plain_loops_over_splits_and_groups():
    channels, radix, cardinality = 12, 2, 3
    part, x = layer(channels, radix, cardinality, hidden=9), torch.randn(2, 12, 5, 4, dtype=torch.float64)
    width, hidden = channels // cardinality, part.excite.in_channels // cardinality
    u = relu(part.norm(conv2d(x, part.conv.weight, padding=1, groups=radix * cardinality)))
    u = u.view(2, radix, cardinality, width, 5, 4)
    means = u.sum(1).mean((3, 4))
    z = torch.cat(
        [means[:, k] @ part.squeeze.conv.weight.flatten(1)[k * hidden : (k + 1) * hidden].T for k in range(3)], 1
    )
    z = relu(part.squeeze.norm((z + part.squeeze.conv.bias)[..., None, None]))[..., 0, 0]
    want = torch.zeros(2, cardinality, width, 5, 4, dtype=torch.float64)
    for k in range(cardinality):
        rows = slice(k * radix * width, (k + 1) * radix * width)
        logits = z[:, k * hidden : (k + 1) * hidden] @ part.excite.weight.flatten(1)[rows].T + part.excite.bias[rows]
        share = logits.view(2, radix, width).softmax(1)
        for r in range(radix):
            want[:, k] += share[:, r, :, None, None] * u[:, r, k]
    torch.testing.assert_close(part(x), want.flatten(1, 2))


def test_the_attention_is_narrow_but_never_below_32():
    assert SplitAttention(64).excite.in_channels == 32
    assert SplitAttention(512).excite.in_channels == 256
    assert SplitAttention(8, hidden=4).excite.in_channels == 4


def test_mistakes_are_named():
    with value_error("a multiple of radix · cardinality"):
        SplitAttention(6, radix=2, cardinality=2)
    with value_error("hidden must be a multiple of the cardinality 3"):
        SplitAttention(12, cardinality=3)
