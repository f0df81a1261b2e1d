"""Distances, miners and losses of pairs and triplets, and the batches that they need."""

import itertools

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.feeds import PerClass, feed
from ziggurat.learning.metric.distances import cosine, dot, euclidean, squared_euclidean
from ziggurat.learning.metric.miners import (
    all_triplets,
    batch_hard,
    margin_triplets,
    multi_similarity_pairs,
    same_class,
)
from ziggurat.nn.losses.tuplets import contrastive, mean_of_active, multi_similarity, triplet_margin
from ziggurat.testing.examples import example_images

LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


def embeddings(seed=0, rows=6):
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 5, generator=g, dtype=torch.float64), dim=1)


def test_distances_are_those_of_every_pair():
    a, b = embeddings(), embeddings(1, 4)
    for i, j in itertools.product(range(6), range(4)):
        assert float(squared_euclidean(a, b)[i, j]) == pytest.approx(float((a[i] - b[j]).square().sum()))
        assert float(euclidean(a, b)[i, j]) == pytest.approx(float((a[i] - b[j]).norm()))
        assert float(dot(a, b)[i, j]) == pytest.approx(float(cosine(3 * a, b)[i, j]))
    torch.testing.assert_close(squared_euclidean(a, b), 2 - 2 * cosine(a, b))


@pytest.mark.parametrize("distance", [squared_euclidean, euclidean, cosine, dot])
def test_equal_points_have_a_finite_gradient(distance):
    x = torch.ones(3, 4, requires_grad=True)
    distance(x, x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_triplets_are_listed_by_anchor_positive_and_negative():
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 1])
    every = all_triplets(labels)
    assert every.shape == (3 * 2 * 4 + 3 * 2 * 4, 3) and every.tolist() == sorted(every.tolist())
    x = embeddings(3, 7)
    d = euclidean(x, x)
    gap = d[every[:, 0], every[:, 2]] - d[every[:, 0], every[:, 1]]
    assert torch.equal(margin_triplets(d, labels, 0.1, "hard"), every[gap <= 0])
    assert margin_triplets(d, torch.arange(7), 0.1).shape == all_triplets(torch.zeros(7).long()).shape == (0, 3)


def naive(d, keep):
    return {
        (a, p, n)
        for a, p, n in itertools.product(range(6), repeat=3)
        if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n] and keep(float(d[a, n] - d[a, p]))
    }


@pytest.mark.parametrize(
    ("strategy", "keep"),
    [
        ("all", lambda gap: gap <= 0.3),
        ("hard", lambda gap: gap <= 0),
        ("semi_hard", lambda gap: 0 < gap <= 0.3),
        ("easy", lambda gap: gap > 0.3),
    ],
)
def test_triplets_of_each_kind_are_those_of_three_loops(strategy, keep):
    d = euclidean(embeddings(), embeddings())
    found = margin_triplets(d, LABELS, 0.3, strategy)
    assert {tuple(t) for t in found.tolist()} == naive(d, keep) and len(found) == len(naive(d, keep))
    assert {tuple(t) for t in all_triplets(LABELS).tolist()} == naive(d, lambda gap: True)


def test_the_hardest_of_each_anchor():
    d = euclidean(embeddings(), embeddings())
    found = batch_hard(d, LABELS)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4]  # the last one has no positive
    for anchor, positive, negative in found.tolist():
        own, other = (LABELS[anchor] == LABELS).nonzero().flatten(), (LABELS[anchor] != LABELS).nonzero().flatten()
        assert positive == int(own[own != anchor][d[anchor, own[own != anchor]].argmax()])
        assert negative == int(other[d[anchor, other].argmin()])


def test_multi_similarity_by_loops():
    s = cosine(embeddings(), embeddings())
    positive, negative = multi_similarity_pairs(s, LABELS, 0.1)
    every_positive, every_negative = same_class(LABELS)
    want = []
    for i in range(6):
        near, far = s[i][every_positive[i]], s[i][every_negative[i]]
        kept_near = near[near - 0.1 < far.max()]
        kept_far = far[far + 0.1 > near.min()] if len(near) else far[:0]
        assert torch.equal(s[i][positive[i]], kept_near) and torch.equal(s[i][negative[i]], kept_far)
        want.append(
            torch.log(1 + torch.exp(-2 * (kept_near - 0.5)).sum()) / 2
            + torch.log(1 + torch.exp(50 * (kept_far - 0.5)).sum()) / 50
        )
    torch.testing.assert_close(multi_similarity(s, positive, negative), torch.stack(want))


def test_losses_of_triplets_and_pairs():
    d = euclidean(embeddings(), embeddings())
    triplets = all_triplets(LABELS)
    values = triplet_margin(d, triplets, 0.2)
    want = [max(0.0, float(d[a, p] - d[a, n]) + 0.2) for a, p, n in triplets.tolist()]
    assert values.tolist() == pytest.approx(want)
    active = [v for v in want if v > 0]
    assert float(mean_of_active(values)) == pytest.approx(sum(active) / len(active))
    assert float(mean_of_active(torch.zeros(3))) == 0
    near, far = contrastive(d, *same_class(LABELS), 0.5, 1.2)
    assert near.tolist() == pytest.approx([max(0, v - 0.5) for v in d[same_class(LABELS)[0]].tolist()])
    assert far.tolist() == pytest.approx([max(0, 1.2 - v) for v in d[same_class(LABELS)[1]].tolist()])


def test_peer_has_the_same_numbers():
    peers = pytest.importorskip("pytorch_metric_learning", reason="peer: pytorch-metric-learning is absent")
    from pytorch_metric_learning import distances, losses, miners

    assert peers
    x = embeddings().float()
    far = distances.LpDistance(normalize_embeddings=False)
    mined = miners.TripletMarginMiner(0.3, "semihard", distance=far)(x, LABELS)
    ours = margin_triplets(euclidean(x, x), LABELS, 0.3, "semi_hard")
    assert {tuple(t) for t in ours.tolist()} == {tuple(t) for t in torch.stack(mined, 1).tolist()}
    theirs = losses.TripletMarginLoss(0.2, distance=far)(x, LABELS)
    assert float(mean_of_active(triplet_margin(euclidean(x, x), all_triplets(LABELS), 0.2))) == pytest.approx(
        float(theirs), abs=1e-5
    )
    s = cosine(x, x)
    loss = losses.MultiSimilarityLoss(2, 50, 0.5)
    assert float(multi_similarity(s, *same_class(LABELS)).mean()) == pytest.approx(float(loss(x, LABELS)), abs=1e-5)
    chosen = miners.MultiSimilarityMiner(0.1)(x, LABELS)
    ours = multi_similarity(s, *multi_similarity_pairs(s, LABELS, 0.1)).mean()
    assert float(ours) == pytest.approx(float(loss(x, LABELS, chosen)), abs=1e-5)


def test_batches_have_classes_and_samples_of_each():
    images = example_images(40, classes=10)
    loader = feed(images, PerClass(3), 12)
    batches = list(loader)
    assert len(batches) == len(loader) == 2
    seen = []
    for batch in batches:
        groups = batch.target.view(4, 3)
        assert (groups == groups[:, :1]).all() and len(batch.index.unique()) == 12
        seen += groups[:, 0].tolist()
    assert len(set(seen)) == len(seen) == 8
    few = next(iter(feed(images, PerClass(6), 12)))  # classes have four
    assert all(len(row.unique()) == 4 for row in few.index.view(2, 6))
    with value_error("give a multiple"):
        next(iter(feed(images, PerClass(5), 12)))
    with value_error("make it smaller"):
        next(iter(feed(images, PerClass(2), 40)))


def test_a_strategy_that_is_none_is_named():
    with value_error("strategy must be one of all, hard, semi_hard, easy"):
        margin_triplets(torch.zeros(6, 6), LABELS, 0.2, "hardest")
