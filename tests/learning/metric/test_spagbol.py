import itertools
import math

import networkx as nx
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch_geometric.nn.models import GraphSAGE as PyGGraphSAGE

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.data.graphs.city_graph import CityGraph, haversine
from ziggurat.graphs.convolutions.graphsage import GraphSAGE
from ziggurat.learning.metric.spagbol import (
    BearingVectorMatching,
    SpaGBOL,
    Walks,
    all_walks,
    bearing_vectors,
    canonical,
    geographic_negatives,
    hamming,
    place_distances,
    random_negatives,
    rotations,
    walk_graph,
)
from ziggurat.metrics.retrieval import recall_at
from ziggurat.nn.fitting import fit
from ziggurat.testing import learners
from ziggurat.testing.checking import Subject


class Encoder(nn.Sequential):
    """Vectors of width 12."""

    num_features = 12

    def __init__(self):
        super().__init__(nn.Conv2d(3, 12, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def spagbol(**given):
    torch.manual_seed(0)
    return SpaGBOL(Encoder(), Encoder(), (16, 8), **given)


def graph(nodes=14, seed=0):
    """A random graph with a triangle, a dead end and roads in both directions."""
    edges = nx.gnm_random_graph(nodes - 1, 20, seed=seed)
    edges.add_edges_from([(0, 1), (1, 2), (0, 2), (0, nodes - 1)])
    return torch.tensor(sorted(edges.to_directed().edges)).T


def city(nodes=14, seed=0, views=2):
    g = torch.Generator().manual_seed(seed)
    roads = graph(nodes, seed)
    return CityGraph(
        torch.randint(256, (nodes, 3, 8, 8), generator=g, dtype=torch.uint8),
        torch.randint(256, (nodes, views, 3, 4, 12), generator=g, dtype=torch.uint8),
        roads,
        torch.tensor([60.0, 25.0]) + 0.01 * torch.rand(nodes, 2, generator=g, dtype=torch.float64),
        roads[0],
        360 * torch.rand(roads.shape[1], generator=g, dtype=torch.float64),
        "example",
    )


def vectors(count=60, bins=8, seed=0):
    return torch.rand(count, bins, generator=torch.Generator().manual_seed(seed)) < 0.4


# The graph network


@pytest.mark.fact("spagbol", 1)
def test_parameters_of_the_graph_network():
    class Wide(Encoder):
        num_features = 768

    learner = SpaGBOL(Wide(), Wide())
    sizes = [sum(p.numel() for p in part.parameters()) for part in (learner.graph.stages[0], learner.graph.head)]
    assert sizes == [393_472, 32_832]
    assert sum(p.numel() for p in learner.graph.parameters()) == 426_304


def test_same_as_torch_geometric():
    peer = PyGGraphSAGE(12, 16, num_layers=2, out_channels=8)
    ours = spagbol().graph.eval()
    first, second = peer.convs
    with torch.no_grad():
        ours.stages[0].own.weight.copy_(first.lin_r.weight)
        ours.stages[0].own.bias.copy_(first.lin_l.bias)
        ours.stages[0].neighbours.weight.copy_(first.lin_l.weight)
        last = next(m for m in ours.head.modules() if isinstance(m, nn.Linear))
        last.weight.copy_(torch.cat([second.lin_r.weight, second.lin_l.weight], 1))
        last.bias.copy_(second.lin_l.bias)
    assert isinstance(ours, GraphSAGE) and sum(p.numel() for p in ours.parameters()) == sum(
        p.numel() for p in peer.parameters()
    )
    walks, _ = all_walks(graph(), 14, torch.arange(14), 4)
    made = walk_graph(walks)
    x = torch.randn(len(made.node), 12)
    torch.testing.assert_close(ours(x, made.edge_index), peer(x, made.edge_index), atol=1e-5, rtol=1e-5)


@pytest.mark.fact("spagbol", 4)
def test_a_walk_of_one_is_a_perceptron_of_each_node():
    learner = spagbol(walk=1).eval()
    images, order = torch.rand(9, 3, 8, 8), torch.randperm(9)
    batch = next(iter(feed(city(), learner.feed, 9)))
    none = batch.inputs[1]
    assert none.shape == (2, 0) and torch.equal(batch.node, batch.index)
    z = learner.encode(images, none, "street")
    torch.testing.assert_close(learner.encode(images[order], none, "street"), z[order])
    own = learner.graph.stages[0].own
    last = next(m for m in learner.graph.head.modules() if isinstance(m, nn.Linear))
    for i in range(9):
        hidden = torch.relu(own(learner.network(images[i : i + 1])))
        out = nn.functional.linear(hidden, last.weight[:, :16], last.bias)
        torch.testing.assert_close(z[i : i + 1], out / out.norm(), atol=1e-6, rtol=1e-5)


# Walks


def walks_in_a_loop(neighbours, start, length):
    """The same by recursion."""

    def grow(walk):
        if len(walk) == length:
            return [walk]
        onward = [v for v in neighbours[walk[-1]] if len(walk) < 2 or v != walk[-2]]
        return [w for v in onward for w in grow([*walk, v])] or [walk + [-1] * (length - len(walk))]

    return grow([start])


@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_all_walks(length):
    roads = graph()
    neighbours = [roads[1, roads[0] == v].tolist() for v in range(14)]
    starts = torch.tensor([5, 13, 0, 2])
    walks, owner = all_walks(roads, 14, starts, length)
    for i, start in enumerate(starts.tolist()):
        assert sorted(walks[owner == i].tolist()) == sorted(walks_in_a_loop(neighbours, start, length))
    assert owner.tolist() == sorted(owner.tolist())


def test_an_island_is_a_walk_of_its_own():
    walks, owner = all_walks(torch.tensor([[0, 1], [1, 0]]), 3, torch.arange(3), 3)
    assert walks.tolist() == [[0, 1, -1], [1, 0, -1], [2, -1, -1]] and owner.tolist() == [0, 1, 2]


def test_walk_graph():
    walks = torch.tensor([[4, 2, 7, 4], [3, -1, -1, -1], [2, 7, 1, -1]])
    made = walk_graph(walks)
    assert made.node.tolist() == [4, 2, 7, 3, 2, 7, 1] and made.walk.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert made.step.tolist() == [0, 1, 2, 0, 0, 1, 2] and made.first.tolist() == [0, 3, 4]
    pairs = [(0, 1), (1, 2), (0, 2), (4, 5), (5, 6)]  # the first walk came back to its start
    assert made.edge_index.T.tolist() == sorted([list(p) for p in pairs] + [list(p[::-1]) for p in pairs])


def test_batches_are_walks_of_the_city():
    where, seen = city(), set()
    roads = set(map(tuple, where.roads.T.tolist()))
    for epoch in range(6):
        loader = feed(where, Walks(4), 5)
        loader.set_epoch(epoch)
        starts = []
        for batch in loader:
            starts += batch.index.tolist()
            assert batch.node[batch.first].tolist() == batch.index.tolist() == batch.pick(batch.node).tolist()
            assert {(int(batch.node[a]), int(batch.node[b])) for a, b in batch.inputs[1].T} <= roads
            assert torch.equal(batch.satellite, where.satellite[batch.node] / 255)
            views = (where.street[batch.node] / 255 == batch.inputs[0][:, None]).flatten(2).all(2)
            assert views.any(1).all()
            seen |= set(views[:, 0].tolist())
            assert torch.equal(batch.position, where.position[batch.index])
        assert sorted(starts) == list(range(14))
    assert seen == {True, False}  # both views are used
    first, last = feed(where, Walks(4), 13)
    assert len(last) == 2 and last.index[1] == first.index[0]


# The loss


def test_the_curriculum_comes_nearer():
    position = city().position
    away = haversine(position, position)
    for i in range(14):
        others = sorted((j for j in range(14) if j != i), key=lambda j: -float(away[i, j]))
        assert [int(geographic_negatives(position, level)[i]) for level in range(15)] == [
            *others,
            others[-1],
            others[-1],
        ]
    same = position[:1].expand(5, 2)
    assert all((geographic_negatives(same, level) != torch.arange(5)).all() for level in range(5))


def test_random_negatives_are_uniform_and_others():
    drawn = torch.stack([random_negatives(torch.zeros(5, 2), 0) for _ in range(2000)])
    counts = torch.stack([(drawn == j).sum(0) for j in range(5)])
    assert not counts.diagonal().any()
    apart = counts[~torch.eye(5, dtype=torch.bool)] / 2000
    assert float((apart - 0.25).abs().max()) < 4.5 * math.sqrt(0.25 * 0.75 / 2000)


@pytest.mark.parametrize("level", [0, 2, 99])
def test_loss_walk_by_walk(level, monkeypatch):
    learner = spagbol(margin=0.3)
    monkeypatch.setattr(learner, "level", lambda: level)
    batch = next(iter(feed(city(), learner.feed, 6, seed=3)))
    s = learner.represent(*batch.inputs).detach().double()
    t = learner.encode(batch.satellite, batch.inputs[1], "satellite").detach().double()
    away = haversine(batch.position, batch.position)
    values, left_out = [], 0
    for i in range(len(s)):
        w = int(batch.walk[i])
        others = sorted((v for v in range(6) if v != w), key=lambda v: -float(away[w, v]))
        other = others[min(level, 4)]
        members = [m for m in range(len(s)) if batch.walk[m] == other]
        n = members[int(batch.step[i]) % len(members)]
        if batch.node[n] == batch.node[i]:
            left_out += 1
            continue
        values.append(max(0.0, float((s[i] - t[i]).norm() - (s[i] - t[n]).norm() + 0.3)))
    paid = [v for v in values if v > 0]
    assert len(learner.triplets(batch)) == len(values) == len(s) - left_out and paid
    assert float(learner.losses(batch)["triplet"].detach()) == pytest.approx(sum(paid) / len(paid), abs=1e-5)


def test_a_negative_is_never_the_anchors_place():
    learner = spagbol(walk=4, negatives=lambda position, level: torch.arange(len(position)))
    batch = next(iter(feed(city(), learner.feed, 6)))
    assert len(learner.triplets(batch)) == 0 and float(learner.losses(batch)["triplet"].detach()) == 0


def test_the_two_views_have_weights_of_their_own():
    learner = spagbol().eval()
    images = torch.rand(4, 3, 8, 8)
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert not torch.allclose(learner.encode(images, none, "street"), learner.encode(images, none, "satellite"))
    own, shared = set(map(id, learner.network.parameters())), set(map(id, learner.graph.parameters()))
    assert not own & set(map(id, learner.satellite.parameters())) and not own & shared


def test_the_curriculum_goes_by_epochs_and_the_rate_falls_on_a_plateau():
    learner = spagbol(every=2, lr=0.01)
    levels, rates = [], []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer, module):
            levels.append(module.level())
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    learner.losses = lambda batch: {"triplet": 1 + 0 * sum(p.sum() for p in learner.parameters())}  # never falls
    fit(learner, feed(city(), learner.feed, 13), epochs=9, callbacks=[Watch()])
    assert levels == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert rates[:6] == [0.01] * 6 and rates[-1] == 0.005


CHECKS = (
    learners.check_losses_are_scalars_or_one_a_sample,
    learners.check_losses_are_pure,
    learners.check_every_parameter_learns,
    learners.check_same_seed_same_weights,
    learners.check_resumes_exactly,
    learners.check_stops_on_nan,
    learners.check_represents,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_learner_contract(check, monkeypatch):
    """The checks of every learner, on walks."""

    monkeypatch.setattr(
        learners, "loader", lambda learner, seed=0, batch_size=8: feed(city(8), learner.feed, batch_size, seed)
    )
    check(Subject(lambda: spagbol(lr=0.01), "learner"))


def test_walks_are_learnt_by_heart():
    learner = spagbol(lr=0.02, every=99)
    batch = next(iter(feed(city(8), learner.feed, 8)))
    before = float(learner.losses(batch)["triplet"].detach())
    fit(learner, [batch] * 40, epochs=2)
    assert float(learner.train().losses(batch)["triplet"].detach()) < before / 2


# Looking for places


def test_embeddings_of_walks_through_a_city():
    learner, where = spagbol(), city()
    walks, place = all_walks(where.roads, 14, torch.arange(14), 4)
    z = learner.embed(where, walks, "street", 1, block=5)
    assert learner.training and z.shape == (len(walks), 8)
    learner.eval()
    for w in (0, len(walks) // 2, len(walks) - 1):
        made = walk_graph(walks[w : w + 1])
        one = learner.encode(where.street[made.node, 1] / 255, made.edge_index, "street")
        torch.testing.assert_close(z[w], one[0], atol=1e-5, rtol=1e-5)
    other = learner.embed(where, walks, "satellite")
    away = place_distances(z, other, place, 14)
    for q, p in ((0, 0), (3, 7), (9, 13)):
        want = min(float((z[q] - other[g]).norm()) for g in range(len(walks)) if place[g] == p)
        assert float(away[q, p]) == pytest.approx(want, abs=1e-5)


def test_bearing_vectors():
    at = torch.tensor([0, 0, 0, 1, 2])
    bearing = torch.tensor([359.0, 22.4, 91.0, 22.6, 337.6])
    want = [[1, 0, 1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0], [0] * 8]
    found = bearing_vectors(at, bearing, 4, 8)
    assert found.int().tolist() == want
    for v, b in itertools.product(range(4), range(8)):
        near = [abs((float(x) - 45 * b + 180) % 360 - 180) <= 22.5 for a, x in zip(at, bearing, strict=True) if a == v]
        assert bool(found[v, b]) == any(near)


@pytest.mark.fact("spagbol", 2)
@pytest.mark.parametrize("bins", [2, 5, 8, 36, 62])
def test_canonical_vectors(bins):
    v = vectors(10, bins)
    v = torch.cat([v, v.roll(1, 1)])
    found = canonical(v)
    for given, got in zip(v.tolist(), found.tolist(), strict=True):
        turned = [given[i:] + given[:i] for i in range(bins)]
        assert got == max(turned, key=lambda x: int("".join(str(int(b)) for b in x), 2))
    for shift in range(bins):
        assert torch.equal(canonical(v.roll(shift, 1)), found)
    rows = v.tolist()
    for i, j in itertools.product(range(20), repeat=2):
        rotation = any(rows[i][r:] + rows[i][:r] == rows[j] for r in range(bins))
        assert rotation == torch.equal(found[i], found[j])


def test_matches_pair_by_pair():
    query, places = vectors(12), vectors(9, seed=1)
    for tolerance, known in itertools.product(range(4), (False, True)):
        found = BearingVectorMatching(places, tolerance).matches(query, known)
        for q, p in itertools.product(range(12), range(9)):
            turns = [0] if known else range(8)
            fewest = min(int((query[q].roll(r) != places[p]).sum()) for r in turns)
            assert bool(found[q, p]) == (fewest <= tolerance)
            assert int(hamming(query, places)[q, p]) == int((query[q] != places[p]).sum())
    assert rotations(query)[3, 2].tolist() == query[3].roll(-2).tolist()


@pytest.mark.fact("spagbol", 3)
@pytest.mark.parametrize("tolerance", [0, 2])
def test_exact_bearings_never_lose_the_true_place(tolerance):
    places, right = vectors(), torch.arange(60)
    distance = torch.rand(60, 60, generator=torch.Generator().manual_seed(2))
    matching = BearingVectorMatching(places, tolerance)
    plain = matching.rank(distance)
    assert torch.equal(plain, distance.argsort(1))
    turned = torch.stack([v.roll(i) for i, v in enumerate(places)])
    for ranked in (matching.rank(distance, turned), matching.rank(distance, places, known_heading=True)):
        assert (ranked == right[:, None]).any(1).all()
        before, after = ((r == right[:, None]).int().argmax(1) for r in (plain, ranked))
        assert (after <= before).all() and (after < before).any()
        for k in (1, 5, 10):
            assert recall_at(ranked, right, k) >= recall_at(plain, right, k)


def test_a_filter_keeps_the_order_and_the_number_of_queries():
    places = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    query = torch.tensor([[0, 0, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
    distance = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.4, 0.1, 0.3, 0.2]])
    matching = BearingVectorMatching(places)
    assert matching.rank(distance, query).tolist() == [[2, 0, -1, -1], [-1] * 4]
    assert matching.rank(distance, query, known_heading=True).tolist() == [[-1] * 4] * 2
    assert recall_at(matching.rank(distance, query), torch.tensor([2, 0]), 1) == 0.5


def test_mistakes_are_named():
    with value_error("two modules"):
        one = Encoder()
        SpaGBOL(one, one)
    with value_error("num_features"):
        SpaGBOL(Encoder(), nn.Identity())
    with value_error("margin must be positive"):
        spagbol(margin=0)
    with value_error("length must be 1 or more"):
        all_walks(graph(), 14, torch.arange(2), 0)
    with value_error("2 walks or more"):
        next(iter(feed(city(), Walks(), 1)))
    with value_error("second walk"):
        geographic_negatives(torch.zeros(1, 2), 0)
    with value_error("bins must be 2 to 62"):
        bearing_vectors(torch.zeros(1, dtype=torch.int64), torch.zeros(1), 1, 63)
    with value_error("tolerance"):
        BearingVectorMatching(vectors(), -1)
    with value_error("equally many"):
        BearingVectorMatching(vectors()).matches(vectors(3, 9))
