import itertools

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.curation import InfoBatchSampler, RandomPruningSampler, SeTaSampler
from ziggurat.curation.seta import loss_groups
from ziggurat.data.feeds import Labelled, Loader
from ziggurat.testing import example_images


def scored(sampler, seed=0):
    g = torch.Generator().manual_seed(seed)
    sampler.update(torch.arange(sampler.n), torch.rand(sampler.n, generator=g) ** 3)
    return sampler


@pytest.mark.fact("seta", 1)
def test_without_pruning_every_sample_is_visited():
    sampler = SeTaSampler(50, 6, prune_ratio=0.0, groups=1, window=1.0)
    for epoch in range(6):
        assert sorted(sampler(epoch).tolist()) == list(range(50))
        scored(sampler, epoch)
    assert sampler.saved == 0


@pytest.mark.fact("seta", 2)
def test_where_the_window_stands():
    small, default = SeTaSampler(10, 20, groups=5, window=0.9), SeTaSampler(10, 20)
    assert [small.first_group(t) for t in range(6)] == [None, 1, 0, 1, 0, 1]
    assert [default.first_group(t) for t in range(1, 14)] == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.fact("seta", 3)
def test_the_first_epoch_uses_all_groups():
    sampler = scored(SeTaSampler(77, 10, prune_ratio=0.1))
    assert len(sampler(0)) == int(0.9 * 77)
    assert len(set(sampler(0).tolist())) == int(0.9 * 77)


@pytest.mark.fact("seta", 4)
def test_infobatch_keeps_the_expected_loss():
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 2.0, 3.0], dtype=torch.float64)
    sampler = InfoBatchSampler(6, 100, prune_ratio=0.5)
    sampler.update(torch.arange(6), scores)
    easy = [0, 1, 2, 3]
    draws = itertools.combinations(easy, 2)  # every draw of half of the easy samples, all as likely
    totals = [sum(2 * float(scores[i]) for i in kept) + float(scores[4:].sum()) for kept in draws]
    assert sum(totals) / len(totals) == pytest.approx(float(scores.sum()))
    seen = set()
    for seed in range(40):
        sampler = InfoBatchSampler(6, 100, 0.5, seed=seed)
        sampler.update(torch.arange(6), scores)
        visited = sampler(1)
        assert {4, 5} <= set(visited.tolist()) and len(visited) == 4
        assert sampler.weights(visited).tolist() == [2.0 if i < 4 else 1.0 for i in visited.tolist()]
        seen.add(tuple(sorted(visited.tolist())))
    assert len(seen) == 6, "all six draws occur"
    sampler = InfoBatchSampler(6, 8, 0.5)
    assert len(sampler(7 + 1)) == 6 and sampler.weights(torch.arange(6)).tolist() == [1] * 6


@pytest.mark.fact("seta", 5)
def test_groups_are_intervals_of_the_score():
    scores = torch.rand(500, generator=torch.Generator().manual_seed(1)) ** 4
    group = loss_groups(scores, 10, 0)
    assert group.unique().tolist() == list(range(10))
    for g in range(9):
        assert scores[group == g].max() <= scores[group == g + 1].min()
    equal = loss_groups(torch.full((20,), 3.0), 4, 0)
    assert equal.bincount().tolist() == [5, 5, 5, 5]


def test_the_window_visits_its_groups_from_easy_to_hard():
    sampler = scored(SeTaSampler(400, 30, prune_ratio=0.0, groups=4, window=0.5))
    means = [float(sampler.scores[sampler(t)].mean()) for t in range(1, 7)]
    assert means[1] > means[0] > means[2] and means[:3] == pytest.approx(means[3:], rel=0.3)
    assert 0 < sampler.saved < 1


@pytest.mark.fact("seta", 6)
def test_the_last_epochs_draw_from_all_samples():
    sampler = scored(SeTaSampler(1000, 16, prune_ratio=0.1, groups=5, window=0.4))
    assert len(sampler(14)) < 900, "14 is 0.875 of 16, not beyond it"
    late = sampler(15)
    assert len(late) == 900 and len(set(late.tolist())) == 900
    share = float((sampler.scores[late] > sampler.scores.median()).float().mean())
    assert share == pytest.approx(0.5, abs=0.05)


def test_an_epoch_is_drawn_once_and_the_seed_decides():
    first, second = (scored(SeTaSampler(60, 10, seed=4)) for _ in range(2))
    assert torch.equal(first(3), second(3))
    before = first(3).clone()
    first.update(torch.arange(60), torch.rand(60))
    assert torch.equal(first(3), before) and first.visits == len(before)
    assert not torch.equal(scored(SeTaSampler(60, 10, seed=5))(3), before)
    third = SeTaSampler(60, 10, seed=4)
    third.load_state_dict(first.state_dict())
    assert torch.equal(third(4), first(4)) and third.saved == first.saved


def test_in_a_loader_and_as_a_torch_sampler():
    data = example_images(40)
    sampler = RandomPruningSampler(40, 5, visits=25)
    loader = Loader(data, Labelled(), 10, order=sampler)
    visited = torch.cat([batch.index for batch in loader])
    assert len(loader) == 3 and len(visited) == len(set(visited.tolist())) == 25
    sampler.set_epoch(1)
    assert len(list(torch.utils.data.DataLoader(range(40), 10, sampler=sampler))) == 3
    tuned = scored(InfoBatchSampler(40, 5, None, visits=25))
    assert len(tuned(1)) == 25 and float(tuned.weights(tuned(1)).sum()) == pytest.approx(40)


def test_mistakes_are_named():
    with value_error("n and epochs"):
        SeTaSampler(0, 3)
    with value_error("prune_ratio must be"):
        SeTaSampler(5, 3, prune_ratio=1.0)
    with value_error("window and delta"):
        SeTaSampler(5, 3, window=0.0)
    with value_error("either prune_ratio or visits"):
        InfoBatchSampler(5, 3, None)
    with value_error("visits must be between"):
        RandomPruningSampler(5, 3, 6)
