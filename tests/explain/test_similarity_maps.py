import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.explain.similarity_maps import (
    SimilarityVisualizer,
    parts,
    region_embedding,
    region_search,
    signed_colours,
    similarity_map,
    upsample_map,
)
from ziggurat.memory.indexes import ExactIndex
from ziggurat.vision.backbones.resnet import cifar_resnet

CASES = [("avg", False), ("max", False), ("avg", True), ("max", True), ("flatten", True)]


def maps(seed=0, size=(3, 4)):
    return torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(pool, wanted=True, size=12):
    torch.manual_seed(1)
    return nn.Linear(5 * (size if pool == "flatten" else 1), 7).double() if wanted else None


def pooled(x, pool):
    return {"avg": x.mean((2, 3)), "max": x.amax((2, 3)), "flatten": x.flatten(1)}[pool]


@pytest.mark.fact("similarity_maps", 1)
@pytest.mark.parametrize(("pool", "with_head"), CASES)
def test_both_maps_add_up_to_the_cosine(pool, with_head):
    a, b, head = maps(0), maps(1), linear(pool, with_head)
    e_a, e_b = (pooled(x, pool) if head is None else head(pooled(x, pool)) for x in (a, b))
    torch.testing.assert_close(parts(a, pool, head).sum((2, 3)), e_a)
    found = similarity_map(a, b, pool, head)
    expected = nn.functional.cosine_similarity(e_a, e_b)
    for total in (found.a.sum((1, 2)), found.b.sum((1, 2)), found.score):
        torch.testing.assert_close(total, expected, atol=1e-10, rtol=0)


def test_average_map_by_a_double_sum():
    a, b = maps(0), maps(1, (2, 2))
    found = similarity_map(a, b)
    for n in range(2):
        lengths = float(a[n].mean((1, 2)).norm() * b[n].mean((1, 2)).norm())
        for y, x in itertools.product(range(3), range(4)):
            total = sum(float(a[n, :, y, x] @ b[n, :, v, u]) for v, u in itertools.product(range(2), range(2)))
            assert float(found.a[n, y, x]) == pytest.approx(total / (12 * 4 * lengths))


@pytest.mark.fact("similarity_maps", 2)
@pytest.mark.parametrize(("pool", "with_head"), CASES)
def test_full_mask_searches_as_the_whole_image(pool, with_head):
    head, query = linear(pool, with_head), maps(3)
    gallery = torch.randn(30, 5, 3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    whole = [pooled(x, pool) if head is None else head(pooled(x, pool)) for x in (gallery, query)]
    index = ExactIndex(whole[0].shape[1])
    index.add(np.arange(30), whole[0].detach().float().numpy())
    expected, away = index.search(whole[1].detach().float().numpy(), 10)
    full = torch.ones(2, 3, 4, dtype=torch.bool)
    keys, distances = region_search(index, query, full, 10, pool, head)
    assert keys.tolist() == expected.tolist()
    np.testing.assert_allclose(distances, away, atol=1e-6)


@pytest.mark.fact("similarity_maps", 3)
def test_max_pooling_has_at_most_k_positions():
    a, b = maps(0, (6, 7)), maps(1, (6, 7))
    found = similarity_map(a, b, "max")
    assert ((found.a != 0).sum((1, 2)) <= 5).all() and ((found.b != 0).sum((1, 2)) <= 5).all()
    tied = torch.ones(1, 1, 2, 2)
    torch.testing.assert_close(parts(tied, "max"), torch.full((1, 1, 2, 2), 0.25))


@pytest.mark.fact("similarity_maps", 4)
@pytest.mark.parametrize(("pool", "with_head"), CASES)
def test_swapping_images_swaps_maps_and_an_image_is_like_itself(pool, with_head):
    a, b, head = maps(0), maps(1), linear(pool, with_head)
    one, other = similarity_map(a, b, pool, head), similarity_map(b, a, pool, head)
    torch.testing.assert_close(one.a, other.b)
    torch.testing.assert_close(one.b, other.a)
    itself = similarity_map(a, a, pool, head)
    torch.testing.assert_close(itself.a.sum((1, 2)), torch.ones(2, dtype=torch.float64))


@pytest.mark.fact("similarity_maps", 5)
def test_average_map_is_activation_times_gradient_of_the_dot_product():
    a, b = maps(0).requires_grad_(), maps(1)
    e_a, e_b = a.mean((2, 3)), b.mean((2, 3))
    (gradient,) = torch.autograd.grad((e_a * e_b).sum(), a)
    expected = (a * gradient).sum(1) / (e_a.norm(dim=1) * e_b.norm(dim=1))[:, None, None]
    torch.testing.assert_close(similarity_map(a, b).a, expected)
    (normalised,) = torch.autograd.grad(nn.functional.cosine_similarity(a.mean((2, 3)), e_b).sum(), a)
    assert float((a * normalised).sum((1, 2, 3)).abs().max()) < 1e-12  # with the lengths inside, all parts cancel


def test_region_takes_the_positions_inside_alone():
    x, mask = maps(0), torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[:, 1:, 2:] = True
    for pool, with_head in CASES[:4]:
        head = linear(pool, with_head)
        inside = pooled(x[:, :, 1:, 2:], pool)
        expected = nn.functional.normalize(inside if head is None else head(inside), dim=1)
        torch.testing.assert_close(region_embedding(x, mask, pool, head), expected)
    head = linear("flatten")
    found = region_embedding(x, mask, "flatten", head)
    kept = nn.functional.linear((x * mask[:, None]).flatten(1), head.weight) + head.bias * 4 / 12
    torch.testing.assert_close(found, nn.functional.normalize(kept, dim=1))


def test_visualizer_is_exact_for_a_network_and_tells_what_it_was_not_told():
    torch.manual_seed(0)
    network = cifar_resnet(8, 0, widths=(4, 4, 8)).train()
    a, b = torch.rand(2, 2, 3, 16, 16).unbind(0)
    show = SimilarityVisualizer(network)
    found = show(a, b)
    assert found.a.shape == (2, 4, 4) and network.training
    torch.testing.assert_close(found.a.sum((1, 2)), found.score)
    assert float(show.residual(a, b).abs().max()) < 1e-5
    head = nn.Linear(8, 3)
    told = SimilarityVisualizer(network, head=head, embed=lambda x: head(network(x)))
    assert float(told.residual(a, b).abs().max()) < 1e-5
    untold = SimilarityVisualizer(network, embed=lambda x: head(network(x)))
    assert float(untold.residual(a, b).abs().max()) > 1e-3


def test_pictures_of_maps():
    one = torch.tensor([[[1.0, -0.5], [0.0, 0.0]]])
    red, blue, white = (signed_colours(one)[0, :, y, x].tolist() for y, x in ((0, 0), (0, 1), (1, 0)))
    assert (red, blue, white) == ([1, 0, 0], [0.5, 0.5, 1], [1, 1, 1])
    assert upsample_map(one, (6, 8)).shape == (1, 6, 8)


def test_mistakes_are_named():
    with value_error("'avg', 'max' or 'flatten'"):
        parts(maps(), "sum")
    with value_error("give it as head"):
        parts(maps(), "flatten")
    with value_error("give 60"):
        parts(maps(), "flatten", nn.Linear(5, 2))
    with value_error("a mask is empty"):
        region_embedding(maps(), torch.zeros(2, 3, 4, dtype=torch.bool))
    with value_error("masks of as many"):
        region_embedding(maps(), torch.ones(2, 3, 3, dtype=torch.bool))
    with value_error("no maps to split"):
        SimilarityVisualizer(nn.Flatten())
