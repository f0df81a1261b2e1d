import pytest
import torch
from torch.nn.functional import max_pool2d, relu, scaled_dot_product_attention

from tests.typecheck import value_error
from ziggurat.nn import attach, count_parameters
from ziggurat.nn.operators.non_local import NonLocal
from ziggurat.testing import Subject, run_checks
from ziggurat.testing.networks import STAGED

AFFINITIES = ("gaussian", "embedded_gaussian", "dot", "concat")
SHAPES = ((2, 6, 5), (2, 6, 4, 3), (2, 6, 3, 4, 5))


def block(affinity="embedded_gaussian", channels=6, **named):
    """A block in evaluation mode that adds something."""
    torch.manual_seed(0)
    made = NonLocal(channels, affinity, **named).double().eval()
    for name, parameter in made.named_parameters():
        if "norm" not in name:
            parameter.data.normal_(0, 0.7)
    made.norm.weight.data.uniform_(0.5, 1)
    made.norm.bias.data.normal_()
    made.norm.running_mean.normal_()
    return made


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.fact("nonlocal", 1)
def test_published_parameters():
    assert count_parameters(NonLocal(1024)) == 2_101_760


@pytest.mark.fact("nonlocal", 2)
@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_starts_as_the_identity(affinity, shape):
    x = torch.randn(*shape)
    assert torch.equal(NonLocal(6, affinity)(x), x)


@pytest.mark.fact("nonlocal", 3)
@pytest.mark.parametrize("scale", [False, True])
def test_embedded_gaussian_is_scaled_dot_product_attention(scale):
    part, x = block(scale=scale), double(2, 6, 4, 5)
    flat = x.flatten(2)
    query, key, value = (layer(flat).transpose(1, 2) for layer in (part.query, part.key, part.value))
    y = scaled_dot_product_attention(query, key, value, scale=None if scale else 1.0)
    torch.testing.assert_close(part(x), x + part.norm(part.out(y.transpose(1, 2))).view_as(x))


@pytest.mark.fact("nonlocal", 4)
@pytest.mark.parametrize("affinity", AFFINITIES)
def test_permuting_positions_permutes_the_output(affinity):
    part, x, order = block(affinity, subsample=False), double(2, 6, 3, 2, 4), torch.randperm(24)
    moved = part(x.flatten(2)[:, :, order].view_as(x))
    torch.testing.assert_close(moved.flatten(2), part(x).flatten(2)[:, :, order])


@pytest.mark.fact("nonlocal", 5)
def test_without_theta_the_gaussian_averages_and_the_dot_is_silent():
    x = double(2, 6, 4, 4)
    for affinity in ("embedded_gaussian", "dot"):
        part = block(affinity, subsample=True)
        part.query.weight.data.zero_()
        part.query.bias.data.zero_()
        y = part.value(part.keys(x)).mean(2, keepdim=True).expand(-1, -1, 16)
        y = y if affinity == "embedded_gaussian" else torch.zeros_like(y)
        torch.testing.assert_close(part.response(x), part.norm(part.out(y)).view_as(x))


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_against_loops_over_all_pairs(affinity):
    part, x = block(affinity), double(1, 6, 2, 3)
    flat = x.flatten(2)[0].T
    y = []
    for xi in flat:
        f = []
        for xj in flat:
            theta, phi = (
                (v if affinity == "gaussian" else layer.weight[:, :, 0] @ v + layer.bias)
                for v, layer in ((xi, part.query), (xj, part.key))
            )
            if affinity == "concat":
                w = torch.cat([part.query_score.weight.flatten(), part.key_score.weight.flatten()])
                f.append(relu(w @ torch.cat([theta, phi])))
            else:
                f.append(theta @ phi if affinity == "dot" else (theta @ phi).exp())
        total = len(flat) if affinity in ("dot", "concat") else sum(f)
        y.append(sum(fj * (part.value.weight[:, :, 0] @ xj + part.value.bias) for fj, xj in zip(f, flat)) / total)
    want = part.norm(part.out(torch.stack(y, 1)[None])).view_as(x)
    torch.testing.assert_close(part.response(x), want)


def test_only_keys_are_subsampled_and_of_videos_only_in_space():
    part, x = block(), double(2, 6, 3, 5, 4)
    assert part.attention(x).shape == (2, 60, 3 * 2 * 2)
    pooled = max_pool2d(x.transpose(1, 2).flatten(0, 1), 2).unflatten(0, (2, 3)).transpose(1, 2)
    torch.testing.assert_close(part.keys(x), pooled.flatten(2))
    assert NonLocal(6, subsample=False).attention(x.float()).shape == (2, 60, 60)
    assert NonLocal(6).attention(torch.rand(2, 6, 4, 4)).shape == (2, 16, 16)
    assert NonLocal(6, subsample=True).attention(torch.rand(2, 6, 1, 5)).shape == (2, 5, 2)


@pytest.mark.parametrize("affinity", ["gaussian", "embedded_gaussian"])
def test_gaussian_weights_are_a_softmax_over_keys(affinity):
    weights = block(affinity, subsample=True).attention(double(2, 6, 4, 6))
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 24, dtype=torch.float64))
    assert not torch.allclose(weights.sum(1), weights.sum(1).mean())


def tiny_networks():
    from ziggurat import catalogue

    backbones = "ziggurat.vision.backbones."
    for path in ("resnet.ResNet", "mobilenet_v2.MobileNetV2", "vgg.VGG", "wide_resnet.WideResNet"):
        yield path, catalogue.tiny(backbones + path)
    yield "efficientnet_lite.EfficientNetLite0", catalogue.symbol(backbones + "efficientnet_lite.EfficientNetLite0")(4)


@pytest.mark.parametrize("make", [NonLocal, "GlobalContext", "GCBlock"])
def test_attaches_to_five_backbones_and_starts_as_they_are(make):
    from ziggurat.nn.operators import global_context

    make = getattr(global_context, make) if isinstance(make, str) else make
    x = torch.rand(2, 3, 64, 64)
    for path, network in tiny_networks():
        longer = attach(network.eval(), make)
        added = count_parameters(longer) - count_parameters(network)
        assert added == sum(count_parameters(make(c)) for c in network.channels), path
        torch.testing.assert_close(longer(x), network(x))


def test_a_network_with_blocks_still_meets_its_contract():
    from ziggurat.vision.backbones.resnet import cifar_resnet

    made = Subject(lambda: attach(cifar_resnet(8, 4, widths=(4, 6, 8)), NonLocal, {1: [1], 2: [1]}), "staged")
    run_checks(made, STAGED)


def test_mistakes_are_named():
    with value_error("affinity must be one of gaussian"):
        NonLocal(4, "softmax")
    with value_error("only the Gaussians are scaled"):
        NonLocal(4, "dot", scale=True)
