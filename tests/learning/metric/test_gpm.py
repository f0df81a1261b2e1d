import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.data import Batch
from ziggurat.data.feeds import PerClass, feed
from ziggurat.learning.metric.gpm import GPM, GlobalProxySampler, PlaceDescriptor, ProxyBatches, ProxyHead, place_means
from ziggurat.learning.metric.miners import multi_similarity_pairs, same_class
from ziggurat.nn import fit
from ziggurat.nn.losses.tuplets import multi_similarity
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import cifar_resnet

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(places=23, dim=4, seed=0):
    sampler = GlobalProxySampler(places, dim)
    sampler.update(torch.arange(places), torch.randn(places, dim, generator=seeded(seed)))
    sampler.rebuild()
    return sampler


def network():
    torch.manual_seed(0)
    return cifar_resnet(8, 5, widths=(4, 4, 8))


def unit(seed=0, rows=9):
    return nn.functional.normalize(torch.randn(rows, 4, generator=seeded(seed), dtype=torch.float64), dim=1)


@pytest.mark.fact("gpm", 1)
@pytest.mark.parametrize("size", [1, 4, 7, 23, 50])
def test_batches_partition_the_places(size):
    for seed in range(3):
        batches = filled().batches(size, seeded(seed))
        assert torch.cat(batches).sort().values.tolist() == list(range(23))
        assert [len(b) for b in batches[:-1]] == [size] * (len(batches) - 1) and len(batches) == math.ceil(23 / size)


@pytest.mark.fact("gpm", 2)
@pytest.mark.parametrize("equal", [torch.zeros(12, 3), torch.tensor([[0.3, -0.2, 0.9]]).expand(12, 3)])
def test_identical_proxies_give_random_batches(equal):
    sampler = GlobalProxySampler(12, 3)
    sampler.update(torch.arange(12), equal)
    sampler.rebuild()
    together = torch.zeros(12, 12)
    for seed in range(600):
        for batch in sampler.batches(4, seeded(seed)):
            together[batch[:, None], batch] += 1
    apart = together[~torch.eye(12, dtype=torch.bool)] / 600
    # any two places meet with probability 3/11
    assert abs(float(apart.mean()) - 3 / 11) < 1e-6
    assert float((apart - 3 / 11).abs().max()) < 4.5 * math.sqrt(3 / 11 * 8 / 11 / 600)
    (everything,) = sampler.batches(12, seeded())
    assert sorted(everything.tolist()) == list(range(12))


@pytest.mark.fact("gpm", 3)
def test_each_batch_is_a_seed_and_its_nearest_unused_places():
    sampler = filled()
    proxies = nn.functional.normalize(sampler.memory.double(), dim=1)
    for seed in range(5):
        unused = set(range(23))
        for batch in sampler.batches(5, seeded(seed)):
            first, *others = batch.tolist()
            unused.discard(first)
            nearest = sorted(unused, key=lambda p: -float(proxies[first] @ proxies[p]))[: len(others)]
            assert others == nearest
            unused -= set(others)


def test_seeds_are_random_and_the_draw_is_the_generators():
    state, sampler = torch.get_rng_state(), filled()
    assert all(torch.equal(a, b) for a, b in zip(sampler.batches(5, seeded(1)), sampler.batches(5, seeded(1))))
    assert len({int(sampler.batches(5, seeded(i))[0][0]) for i in range(30)}) > 10
    assert torch.equal(state, torch.get_rng_state())


def test_updates_count_from_the_next_rebuild_on():
    sampler = filled()
    before = [b.tolist() for b in sampler.batches(5, seeded())]
    sampler.update(torch.arange(23), torch.randn(23, 4, generator=seeded(9)))
    assert [b.tolist() for b in sampler.batches(5, seeded())] == before
    other = GlobalProxySampler(23, 4)
    other.load_state_dict(sampler.state_dict())
    for s in (sampler, other):
        s.rebuild()
    after = [b.tolist() for b in sampler.batches(5, seeded())]
    assert after != before and after == [b.tolist() for b in other.batches(5, seeded())]


def naive_multi_similarity(s, positive, negative, alpha, beta, base):
    found = []
    for i in range(len(s)):
        near = sum(math.exp(-alpha * (float(s[i, j]) - base)) for j in range(len(s)) if positive[i, j])
        far = sum(math.exp(beta * (float(s[i, j]) - base)) for j in range(len(s)) if negative[i, j])
        found.append(math.log(1 + near) / alpha + math.log(1 + far) / beta)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.fact("gpm", 5)
def test_multi_similarity_loss_by_its_formula():
    z = unit()
    pairs = same_class(LABELS)
    expected = naive_multi_similarity(z @ z.T, *pairs, 1.0, 50.0, 0.0)
    torch.testing.assert_close(multi_similarity(z @ z.T, *pairs, 1.0, 50.0, 0.0), expected)


@pytest.mark.fact("gpm", 5)
def test_multi_similarity_loss_and_miner_equal_the_peers():
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="peer: pytorch-metric-learning is absent")
    miners = pytest.importorskip("pytorch_metric_learning.miners", reason="peer: pytorch-metric-learning is absent")
    z = unit(2).float()
    peer = losses.MultiSimilarityLoss(alpha=1, beta=50, base=0)
    pairs = multi_similarity_pairs(z @ z.T, LABELS)
    ours = [multi_similarity(z @ z.T, *chosen, 1.0, 50.0, 0.0).mean() for chosen in (same_class(LABELS), pairs)]
    torch.testing.assert_close(ours[0], peer(z, LABELS), atol=1e-5, rtol=0)
    a1, p, a2, n = miners.MultiSimilarityMiner(epsilon=0.1)(z, LABELS)
    assert {(int(i), int(j)) for i, j in zip(a1, p)} == {tuple(x) for x in pairs[0].nonzero().tolist()}
    assert {(int(i), int(j)) for i, j in zip(a2, n)} == {tuple(x) for x in pairs[1].nonzero().tolist()}
    torch.testing.assert_close(ours[1], peer(z, LABELS, (a1, p, a2, n)), atol=1e-5, rtol=0)


def test_place_means():
    vectors = torch.arange(12.0).view(6, 2)
    ids, means = place_means(vectors, torch.tensor([7, 2, 7, 2, 2, 9]))
    assert ids.tolist() == [2, 7, 9]
    torch.testing.assert_close(means, torch.tensor([[(2 + 6 + 8) / 3, (3 + 7 + 9) / 3], [2.0, 3.0], [10.0, 11.0]]))


def test_feed_takes_k_images_of_each_place_and_the_last_few_make_no_batch():
    images = example_images(40, classes=10)
    sampler = filled(10)
    loader = feed(images, ProxyBatches(2, sampler=sampler), 8, seed=3)
    batches = list(loader)
    assert len(batches) == len(loader) == 2
    seen = torch.cat([b.target for b in batches])
    assert torch.bincount(seen, minlength=10).unique().tolist() == [0, 2]
    for batch in batches:
        assert len(batch.index.unique()) == 8 and (images.labels[batch.index] == batch.target).all()
    some = images.subset(images.labels != 4)
    assert 4 not in torch.cat([b.target for b in feed(some, ProxyBatches(2, sampler=sampler), 2)])


def test_losses_of_both_branches_and_the_memory():
    x = torch.rand(9, 3, 16, 16, generator=seeded())
    batch = Batch((x,), LABELS, torch.arange(9))
    learner = GPM(network(), places=5, dim=6).eval()
    z = learner.represent(x)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(9))
    pooled = learner.pool(learner.network.forward_features(x)[-1])
    torch.testing.assert_close(z, nn.functional.normalize(pooled, dim=1))
    proxies = learner.branch(z)
    for name, vectors in (("descriptor", z), ("proxy", proxies)):
        s = vectors @ vectors.T
        expected = multi_similarity(s, *multi_similarity_pairs(s, LABELS), 1.0, 50.0, 0.0)
        torch.testing.assert_close(learner.losses(batch)[name], expected)
    learner.losses(batch)
    kept = sum(part.sum() for part in multi_similarity_pairs(z @ z.T, LABELS))
    assert learner.kept == pytest.approx(float(kept) / 72)
    learner.after_step(batch)
    torch.testing.assert_close(learner.sampler.memory[:3], proxies.detach().view(3, 3, 6).mean(1))
    assert not learner.sampler.memory[3:].any() and not learner.sampler.index.any()


def test_the_branch_trains_the_backbone():
    batch = Batch((torch.rand(9, 3, 16, 16, generator=seeded()),), LABELS, torch.arange(9))
    learner = GPM(network(), places=3, dim=6)
    learner.losses(batch)["proxy"].mean().backward()
    assert all(p.grad is not None for p in learner.network.stem.parameters())


def test_proxies_of_an_epoch_make_the_next_ones_batches():
    images = example_images(24, classes=6)
    learner = GPM(network(), places=6, samples=2, dim=6)
    loader = feed(images, learner.feed, 4, seed=1)
    fit(learner, loader, epochs=2)
    torch.testing.assert_close(learner.sampler.index, nn.functional.normalize(learner.sampler.memory, dim=1))
    assert learner.sampler.memory.any(1).all()
    assert PlaceDescriptor(network()).feed == PerClass(4)


def test_proxy_head_has_length_one():
    torch.testing.assert_close(ProxyHead(8, 3)(torch.randn(5, 8)).norm(dim=1), torch.ones(5))


def test_mistakes_are_named():
    images = example_images(12, classes=6)
    kind = ProxyBatches(2, sampler=filled(6))
    with value_error("give a multiple"):
        next(iter(feed(images, kind, 3)))
    with value_error("the sampler knows 4"):
        next(iter(feed(images, replace(kind, sampler=filled(4)), 4)))
    with value_error("make it smaller"):
        next(iter(feed(images, kind, 20)))
    with value_error("1 or more"):
        GlobalProxySampler(0)
    with value_error("1 place or more"):
        filled().batches(0, seeded())
    with value_error("no maps to pool"):
        PlaceDescriptor(nn.Flatten())
