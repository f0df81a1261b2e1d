import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, layer_norm, relu

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.nn.operators.global_context import GCBlock, GlobalContext, attention_agreement, pairwise_distance
from ziggurat.nn.operators.non_local import NonLocal

SHAPES = ((2, 8, 7), (2, 8, 4, 3), (2, 8, 3, 4, 5))


def moved(part):
    """A block in float64 whose parameters are all random, so that it adds something."""
    torch.manual_seed(0)
    for parameter in part.parameters():
        parameter.data.normal_(0, 0.7)
    return part.double()


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.fact("gcnet", 1)
@pytest.mark.parametrize(("channels", "published"), [(512, 33_889), (1024, 133_313), (2048, 528_769)])
def test_published_parameters(channels, published):
    c, hidden = channels, channels // 16
    assert (c + 1) + (c * hidden + hidden) + 2 * hidden + (hidden * c + c) == published
    assert count_parameters(GCBlock(channels)) == published


@pytest.mark.fact("gcnet", 3)
@pytest.mark.parametrize("make", [GCBlock, GlobalContext])
@pytest.mark.parametrize("shape", SHAPES)
def test_starts_as_the_identity(make, shape):
    x = torch.randn(*shape)
    assert torch.equal(make(8)(x), x)


@pytest.mark.fact("gcnet", 4)
@pytest.mark.parametrize("shape", SHAPES)
def test_adds_one_vector_everywhere_whatever_the_order_of_places(shape):
    part, x = moved(GCBlock(8, 2)), double(*shape)
    added = (part(x) - x).flatten(2)
    torch.testing.assert_close(added, added[:, :, :1].expand_as(added))
    assert added.abs().max() > 0.1
    order = torch.randperm(added.shape[2])
    shuffled = part(x.flatten(2)[:, :, order].view_as(x))
    torch.testing.assert_close(shuffled.flatten(2), part(x).flatten(2)[:, :, order])


@pytest.mark.fact("gcnet", 4)
def test_without_a_key_attention_is_the_mean():
    part, x = moved(GCBlock(8, 2)), double(2, 8, 4, 4)
    part.key.weight.data.zero_()
    mean = GCBlock(8, 2, pool="avg").double()
    mean.load_state_dict({k: v for k, v in part.state_dict().items() if not k.startswith("key")})
    torch.testing.assert_close(part(x), mean(x))


@pytest.mark.fact("gcnet", 5)
def test_the_value_may_stand_inside_or_outside_the_sum():
    part, x = moved(GlobalContext(8)), double(2, 8, 3, 5)
    flat = x.flatten(2)
    a = conv1d(flat, part.key.weight, part.key.bias).softmax(2)
    inside = (conv1d(flat, part.transform.weight[:, :, None], part.transform.bias) * a).sum(2)
    torch.testing.assert_close(part(x), x + inside[:, :, None, None])


@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_against_plain_loops(fusion):
    part, x = moved(GCBlock(8, 2, fusion=fusion)), double(2, 8, 3, 2)
    first, norm, _, last = part.transform
    for image, out in zip(x.flatten(2), part(x).flatten(2)):
        scores = torch.stack([part.key.weight.flatten() @ place for place in image.T]).exp()
        context = sum(s * place for s, place in zip(scores, image.T)) / scores.sum()
        t = (
            last.weight @ relu(layer_norm(first.weight @ context + first.bias, (4,), norm.weight, norm.bias))
            + last.bias
        )
        for place, got in zip(image.T, out.T):
            torch.testing.assert_close(got, place + t if fusion == "add" else place * torch.sigmoid(t))


def test_pairwise_distance_against_all_pairs():
    torch.manual_seed(0)
    vectors = torch.randn(2, 5, 7)
    pairs = nn.functional.cosine_similarity(vectors[:, :, :, None], vectors[:, :, None, :], dim=1)
    assert pairwise_distance(vectors) == pytest.approx(float((1 - pairs).mean() / 2), abs=1e-6)


def test_agreement_tells_shared_attention_from_attention_of_each_position():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    block = NonLocal(8).eval()
    block.norm.weight.data.fill_(1.0)
    for layer in (block.query, block.key, block.value, block.out):
        nn.init.normal_(layer.weight)
    own = attention_agreement(block, x)
    block.query.weight.data.zero_()
    shared = attention_agreement(block, x)
    assert own.inputs == shared.inputs > 0.3
    assert own.attention > 0.2 and own.outputs > 0.1
    assert shared.attention == pytest.approx(0, abs=1e-6) and shared.outputs == pytest.approx(0, abs=1e-6)


def test_mistakes_are_named():
    with value_error("pool must be 'att' or 'avg'"):
        GCBlock(8, pool="max")
    with value_error("fusion must be 'add' or 'mul'"):
        GlobalContext(8, fusion="cat")
