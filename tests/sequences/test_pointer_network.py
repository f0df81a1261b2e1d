import itertools

import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.sorting import sorting_problems
from ziggurat.sequences import AttentionSeq2Seq, PointerNetwork
from ziggurat.sequences.tours import (
    canonical_tour,
    convex_hull,
    delaunay,
    hull_coverage,
    is_simple,
    nearest_insertion,
    shortest_tour,
    tour_length,
)


def network(features=2, width=8):
    torch.manual_seed(0)
    net = PointerNetwork(features, width).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return net


def points(b=2, n=6, seed=0):
    return torch.rand(b, n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.fact("pointer_network", 1)
def test_published_count():
    net = PointerNetwork(2, 256)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert parts == {"encoder": 266_240, "decoder": 266_240, "attention": 131_328}
    assert net.start.numel() == 2 and net.end.numel() == 256
    assert sum(parts.values()) == 663_808


@pytest.mark.fact("pointer_network", 2)
@pytest.mark.parametrize("n", [5, 500])
def test_a_distribution_for_any_length(n):
    net, x = network(), points(3, n)
    mask = torch.arange(n) < torch.tensor([[n], [n // 2], [1]])
    p = net(x, mask, torch.ones(3, 2, dtype=torch.int64)).exp()
    assert p.shape == (3, 2, n + 1)
    torch.testing.assert_close(p.sum(2), torch.ones(3, 2, dtype=torch.float64))
    assert (p[:, :, 1:].transpose(1, 2)[~mask] == 0).all() and (p[:, :, 0] > 0).all()


@pytest.mark.fact("pointer_network", 3)
def test_padding_changes_nothing():
    net, x = network(), points(2, 5)
    targets = torch.tensor([[2, 1, 0], [5, 3, 4]])
    padded = torch.cat([x, torch.full((2, 7, 2), 9.0, dtype=torch.float64)], 1)
    mask = torch.arange(12) < 5
    got = net(padded, mask.expand(2, -1), targets)
    torch.testing.assert_close(got[:, :, :6], net(x, None, targets))
    assert torch.equal(net.decode(padded, mask.expand(2, -1), steps=6), net.decode(x, steps=6))


def valid_tours(n):
    """A tour starts at 1, visits everything once, and ends then."""

    def valid(chosen):
        length = chosen.shape[1]
        free = torch.zeros(len(chosen), n + 1, dtype=torch.bool)
        free[:, 0] = length == n
        free[:, 1] = length == 0
        if 0 < length < n:
            free[:, 1:] = True
            free = free.scatter(1, chosen.clamp_min(0), False)
        return free

    return valid


@pytest.mark.fact("pointer_network", 4)
@pytest.mark.parametrize("n", [4, 5, 6])
def test_a_wide_beam_finds_the_most_probable_tour(n):
    net, x = network(), points(1, n, 3)
    tours = torch.tensor([[1, *rest, 0] for rest in itertools.permutations(range(2, n + 1))])
    with torch.no_grad():
        logs = net(x.expand(len(tours), -1, -1), None, tours).gather(2, tours[..., None])[..., 0].sum(1)
    found = net.decode(x, beam=len(tours), valid=valid_tours(n))[0]
    assert found[:n].tolist() == tours[logs.argmax(), :-1].tolist() and (found[n:] == -1).all()


@pytest.mark.fact("pointer_network", 5)
def test_hull_coverage():
    rng = np.random.default_rng(0)
    x = rng.random((20, 2))
    hull = convex_hull(x)
    assert hull[0] == hull.min()
    assert hull_coverage(x, hull) == pytest.approx(1)
    assert hull_coverage(x, np.append(hull, [-1, -1])) == pytest.approx(1)
    for left_out in range(len(hull)):
        assert hull_coverage(x, np.delete(hull, left_out)) < 1 - 1e-9
    crossed = hull.copy()
    crossed[[1, 2]] = crossed[[2, 1]]
    assert not is_simple(x[crossed - 1]) and hull_coverage(x, crossed) == 0
    assert hull_coverage(x, hull[:2]) == 0


def test_tours():
    rng = np.random.default_rng(1)
    for n in (4, 7):
        x = rng.random((n, 2))
        best = min(tour_length(x, np.array([1, *rest])) for rest in itertools.permutations(range(2, n + 1)))
        tour = shortest_tour(x)
        assert tour_length(x, tour) == pytest.approx(best) and tour[0] == 1 and tour[1] < tour[-1]
        greedy = nearest_insertion(x)
        assert sorted(greedy.tolist()) == list(range(1, n + 1)) and tour_length(x, greedy) <= 2 * best
    assert canonical_tour(np.array([3, 4, 1, 2])).tolist() == [1, 2, 3, 4]
    assert canonical_tour(np.array([2, 1, 4, 3])).tolist() == [1, 2, 3, 4]
    triangles = delaunay(np.array([[0, 0], [1, 0], [0, 1], [1.1, 1.2]]))
    assert triangles.tolist() == [[1, 2, 3], [2, 3, 4]]


def test_sorting_problems():
    x, mask, targets = sorting_problems(50, (3, 8), torch.Generator().manual_seed(0))
    assert set(mask.sum(1).tolist()) == set(range(3, 9))
    for row, there, target in zip(x[..., 0], mask, targets, strict=True):
        n = int(there.sum())
        assert target[n] == 0 and (target[n + 1 :] == -1).all()
        assert (row[target[:n] - 1].diff() >= 0).all() and sorted(target[:n].tolist()) == list(range(1, n + 1))
    with value_error("fewest <= most"):
        sorting_problems(2, (4, 3), torch.Generator())


def test_both_learn_and_the_rival_has_a_fixed_dictionary():
    x, mask, targets = sorting_problems(8, (3, 4), torch.Generator().manual_seed(0))
    for make in (lambda: PointerNetwork(1, 32), lambda: AttentionSeq2Seq(1, 32, 6)):
        torch.manual_seed(0)
        net = make()
        optimizer = torch.optim.Adam(net.parameters(), 2e-2)
        for _ in range(150):
            p = net(x, mask, targets)
            loss = -p.gather(2, targets.clamp_min(0)[..., None])[..., 0][targets >= 0].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = net.decode(x, mask)
        want = torch.where(targets > 0, targets, -1)[:, : found.shape[1]]
        assert float((found == want).float().mean()) > 0.9, type(net).__name__
    assert AttentionSeq2Seq(1, 8, 6)(torch.rand(2, 9, 1)).shape == (2, 1, 7)


def test_mistakes_are_named():
    net, x = network(), points()
    with value_error("elements, which come first"):
        net(x, torch.tensor([[True, False] * 3] * 2))
    with value_error("mask must be"):
        net(x, torch.ones(2, 5, dtype=torch.bool))
    with value_error("targets name position 9"):
        net(x, None, torch.full((2, 1), 9))
    with value_error("the dictionary ends at 6"):
        AttentionSeq2Seq(2, 8, 6)(x.float(), None, torch.full((2, 1), 7))
    with value_error("beam must be"):
        net.decode(x, beam=0)
    with value_error("2 to 12 points"):
        shortest_tour(np.zeros((13, 2)))
