import copy
import math
from functools import partial

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.nn import count_parameters
from ziggurat.nn.operators.idw_attention import (
    IDWAttention,
    IDWClassifier,
    KeyValueClassifier,
    dot_weights,
    idw_weights,
    inverse_softmax_weights,
    kernel_softmax_weights,
    negative_distance_weights,
    powered_distances,
    relu_weights,
)


def points(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def classifier(**options):
    """A classifier whose values are not 0."""
    torch.manual_seed(0)
    made = IDWClassifier(6, 4, 9, **options).double()
    torch.nn.init.normal_(made.values)
    return made


@pytest.mark.fact("idw_attention", 1)
@pytest.mark.parametrize("power", [1, 2, 3.5])
def test_weights_are_a_softmax_of_minus_log_distance(power):
    x, keys = points(7, 5), points(4, 5, seed=1)
    naive = torch.tensor([[1 / (1e-3 + math.dist(a, k) ** power) for k in keys.tolist()] for a in x.tolist()])
    naive = naive.double() / naive.double().sum(1, keepdim=True)
    torch.testing.assert_close(idw_weights(x, keys, power), naive, atol=1e-6, rtol=1e-6)
    scores = -(1e-3 + torch.cdist(x, keys).pow(power)).log()
    torch.testing.assert_close(idw_weights(x, keys, power), scores.softmax(1), atol=1e-6, rtol=0)


@pytest.mark.fact("idw_attention", 2)
def test_interpolates_and_becomes_the_nearest_key():
    x, keys, values = points(7, 5), points(4, 5, seed=1), points(4, 3, seed=2)
    at_keys = idw_weights(keys, keys, eps=1e-30) @ values
    torch.testing.assert_close(at_keys, values, atol=1e-9, rtol=0)
    nearest = values[torch.cdist(x, keys).argmin(1)]
    torch.testing.assert_close(idw_weights(x, keys, power=300.0, eps=1e-300) @ values, nearest, atol=1e-6, rtol=0)


@pytest.mark.fact("idw_attention", 3)
def test_rigid_motions_and_without_eps_scaling_change_nothing():
    x, keys = points(7, 5), points(4, 5, seed=1)
    rotation, _ = torch.linalg.qr(points(5, 5, seed=3))
    reflection = torch.diag(torch.tensor([-1.0, 1, 1, 1, 1], dtype=torch.float64))
    moved = [p @ rotation @ reflection + 3 for p in (x, keys)]
    torch.testing.assert_close(idw_weights(*moved), idw_weights(x, keys))
    torch.testing.assert_close(idw_weights(5 * x, 5 * keys, eps=0.0), idw_weights(x, keys, eps=0.0))
    assert not torch.allclose(negative_distance_weights(5 * x, 5 * keys), negative_distance_weights(x, keys))


@pytest.mark.fact("idw_attention", 4)
def test_parameter_count():
    assert count_parameters(IDWClassifier(784, 10, 50)) == 39_700
    assert count_parameters(IDWClassifier(7, 3, 11)) == 11 * (7 + 3)


@pytest.mark.fact("idw_attention", 5)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_case_is_repaired(power):
    for label in range(4):
        made, x, others = classifier(power=power), points(6, seed=5), points(200, 6, seed=6)
        before, said = made(others).argmax(1), int(made(x[None]).argmax())
        logits = made(x[None])[0].detach()
        strength = made.add_case(x, label)
        if label == said:
            assert strength == 0 and len(made.keys) == 9
            continue
        total = sum(1 / (1e-3 + math.dist(x.tolist(), k) ** power) for k in made.keys[:-1].tolist())
        assert strength == pytest.approx((1 + 1e-3 * total) * float(logits.max() - logits[label]))
        assert len(made.keys) == len(made.values) == 10 and int(made(x[None]).argmax()) == label
        assert float((made(others).argmax(1) == before).double().mean()) > 0.8  # six dimensions: others are not far


@pytest.mark.fact("idw_attention", 6)
def test_starts_undecided():
    made = IDWClassifier(6, 4, 9)
    x = torch.rand(20, 2, 3)
    assert not made(x).any()
    loss = torch.nn.functional.cross_entropy(made(x), torch.randint(4, (20,)))
    assert float(loss.detach()) == pytest.approx(math.log(4))


def test_a_far_input_moves_by_the_weight_of_the_new_key():
    made, x = classifier(), points(6, seed=5)
    far = x + 40 * torch.nn.functional.normalize(points(1, 6, seed=7))
    before = made(far)
    label = int((made(x[None]).argmax() + 1) % 4)
    old = (1 / (1e-3 + torch.cdist(far, made.keys).square())).sum()
    strength = made.add_case(x, label)
    weight = 1 / (1e-3 + 1600) / (old + 1 / (1e-3 + 1600))
    want = (1 - weight) * before + weight * strength * torch.eye(4, dtype=torch.float64)[label]
    torch.testing.assert_close(made(far), want)


def test_distances_near_zero_are_exact_in_float32():
    x = 20 * torch.rand(3, 784, generator=torch.Generator().manual_seed(0))
    near = x + 1e-3
    want = (near.double() - x.double()).square().sum(1)
    torch.testing.assert_close(powered_distances(near, x).diagonal(), want, rtol=1e-6, atol=0)
    assert idw_weights(x, x).dtype == torch.float32


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_gradient_at_a_key_is_finite(power):
    x = torch.rand(4, 5, requires_grad=True)
    idw_weights(x, x.detach().clone(), power).square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_rival_weights_against_their_formulas():
    x, keys = points(7, 5), points(4, 5, seed=1)
    d, dots = torch.cdist(x, keys), x @ keys.T
    torch.testing.assert_close(dot_weights(x, keys), (dots / 5**0.5).softmax(1))
    torch.testing.assert_close(negative_distance_weights(x, keys), (-(d**2)).softmax(1))
    torch.testing.assert_close(kernel_softmax_weights(x, keys, 1.0), (-d / 2).exp().softmax(1))
    torch.testing.assert_close(inverse_softmax_weights(x, keys, 1.0), (1 / (1e-3 + d)).softmax(1))
    torch.testing.assert_close(relu_weights(x, keys), dots.clamp_min(0))
    made = KeyValueClassifier(5, 3, 4, partial(negative_distance_weights, power=1.0)).double()
    torch.nn.init.normal_(made.values)
    torch.testing.assert_close(made(x), (-torch.cdist(x, made.keys)).softmax(1) @ made.values)
    assert count_parameters(made) == count_parameters(IDWClassifier(5, 3, 4))


def test_sequences_by_a_loop_and_without_a_look_ahead():
    q, k, v = points(2, 3, 6, 4), points(2, 3, 6, 4, seed=1), points(2, 3, 6, 5, seed=2)
    y = IDWAttention(causal=True)(q, k, v)
    assert y.shape == (2, 3, 6, 5)
    inverse = [1 / (1e-3 + math.dist(q[1, 2, 3].tolist(), k[1, 2, j].tolist()) ** 2) for j in range(4)]
    want = sum(a * v[1, 2, j] for j, a in enumerate(inverse)) / sum(inverse)
    torch.testing.assert_close(y[1, 2, 3], want)
    later = v.clone()
    later[..., 4:, :] += 1
    torch.testing.assert_close(IDWAttention(causal=True)(q, k, later)[..., :4, :], y[..., :4, :])
    torch.testing.assert_close(IDWAttention().weights(q, k).sum(-1), torch.ones(2, 3, 6).double())
    assert IDWAttention()(q[..., :2, :], k, v).shape == (2, 3, 2, 5)


def test_keys_start_around_the_mean_of_the_data():
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(5_000, 2, 2)
    made = IDWClassifier(4, 3, 4_000)
    made.start(x)
    assert made.keys.detach().mean(0) == pytest.approx(x.flatten(1).mean(0).tolist(), abs=0.02)
    assert made.keys.detach().std(0) == pytest.approx([0.2] * 4, abs=0.02)


def test_copies_are_independent():
    made = classifier()
    copied = copy.deepcopy(made)
    copied.add_case(torch.rand(6).double(), int((made(torch.zeros(1, 6).double()).argmax() + 1) % 4))
    assert len(made.keys) == 9


def test_mistakes_are_named():
    with value_error("power must be 1"):
        IDWAttention(power=0.5)
    with value_error("eps must be positive"):
        IDWClassifier(4, 2, eps=0)
    with value_error("1 or more"):
        IDWClassifier(0, 2)
    with value_error("do not fit keys of 4"):
        IDWClassifier(4, 2)(torch.rand(2, 5))
    with value_error("no class 2"):
        IDWClassifier(4, 2).add_case(torch.rand(4), 2)
    with value_error("as many queries as keys"):
        IDWAttention(causal=True)(torch.rand(1, 2, 3), torch.rand(1, 4, 3), torch.rand(1, 4, 3))
