import networkx as nx
import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.greedy_traps import greedy_traps
from ziggurat.data.seeds import generator
from ziggurat.graphs.combinatorial.comparator import MISComparator, Mixing
from ziggurat.graphs.combinatorial.dense import (
    DenseGraphs,
    degrees_among,
    dense_graphs,
    greedy_completion,
    is_independent,
    largest_independent_set,
)
from ziggurat.graphs.combinatorial.mis_dp import DPIndependentSet, labelled_pairs, self_train_mis
from ziggurat.graphs.combinatorial.rollouts import best_of, by_score, rollout
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph


def random_graphs(count=12, nodes=14, seed=0):
    return dense_graphs([nx.gnp_random_graph(nodes - i % 3, 0.3, seed=seed + i) for i in range(count)])


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def small_atlas():
    """All graphs of up to 7 vertices, and the independent ones of their 128 subsets."""
    graphs = dense_graphs([g for g in nx.graph_atlas_g() if len(g)])
    subsets = (torch.arange(128)[:, None] >> torch.arange(7) & 1).float()
    inside = torch.einsum("si,bij,sj->bs", subsets, graphs.adjacency, subsets)
    return graphs, subsets, inside == 0


@pytest.mark.fact("mis_dp", 1)
@pytest.mark.parametrize("kind", ["first", "second", "random", "network"])
def test_the_set_is_independent_whatever_the_comparator_says(kind):
    graphs, coins = random_graphs(), draws(1)
    prefer = {
        "first": lambda a, b: torch.zeros(len(a.present), dtype=torch.bool),
        "second": lambda a, b: torch.ones(len(a.present), dtype=torch.bool),
        "random": lambda a, b: torch.rand(len(a.present), generator=coins) < 0.5,
        "network": by_score(MISComparator(8)),
    }[kind]
    found = rollout(graphs, prefer, draws())
    assert bool(is_independent(graphs.adjacency, found).all()) and bool((found <= graphs.present).all())
    assert bool((found.sum(1) > 0).all())


@pytest.mark.fact("mis_dp", 2)
@pytest.mark.parametrize("ties", [False, True])
def test_with_an_oracle_every_order_of_vertices_ends_in_the_optimum(ties):
    graphs, subsets, independent = small_atlas()
    by_matrix = {m.numpy().tobytes(): own for m, own in zip(graphs.adjacency, independent, strict=True)}

    def optimum(some):
        own = torch.stack([by_matrix[m.numpy().tobytes()] for m in some.adjacency])
        fits = (subsets[None] <= some.present[:, None].float()).all(2)
        return (subsets.sum(1) * (own & fits)).amax(1)

    best = optimum(graphs)
    for seed in range(3):
        found = rollout(graphs, lambda a, b: optimum(b) >= optimum(a) if ties else optimum(b) > optimum(a), draws(seed))
        assert torch.equal(found.sum(1).float(), best) and bool(is_independent(graphs.adjacency, found).all())


@pytest.mark.fact("mis_dp", 3)
def test_parameters_of_the_comparator():
    with torch.device("meta"):
        network = MISComparator(32, 3)
    assert sum(p.numel() for p in network.parameters()) == 33_985
    held = 3 * 96 * 32  # the first layer's matrices, which meet zeros
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 33_985 - held
    assert count_parameters(network) in (33_985, 33_985 - held)


@pytest.mark.fact("mis_dp", 4)
def test_exchanged_graphs_exchange_their_probabilities():
    network, graphs = MISComparator(8).eval(), random_graphs()
    one, two = DenseGraphs(graphs[0][:6], graphs[1][:6]), DenseGraphs(graphs[0][6:], graphs[1][6:])
    there, back = network.compare(one, two).softmax(1), network.compare(two, one).softmax(1)
    torch.testing.assert_close(there, back.flip(1))


@pytest.mark.fact("mis_dp", 4)
def test_names_of_vertices_and_padding_do_not_count():
    network = MISComparator(8).double().eval()
    graphs = DenseGraphs(random_graphs().adjacency.double(), random_graphs().present)
    order = torch.randperm(14, generator=draws())
    renamed = DenseGraphs(graphs.adjacency[:, order][:, :, order], graphs.present[:, order])
    torch.testing.assert_close(network.score(graphs), network.score(renamed))
    wide = DenseGraphs(
        torch.nn.functional.pad(graphs[0], (0, 3, 0, 3), value=1.0), torch.nn.functional.pad(graphs[1], (0, 3))
    )
    torch.testing.assert_close(network.score(graphs), network.score(wide))


@pytest.mark.fact("mis_dp", 5)
def test_a_set_need_not_be_maximal_and_completion_adds():
    path = dense_graphs(nx.path_graph(3))  # a, b, c
    plan = iter([(0, False), (1, False)])  # drop a, then drop b

    def prefer(first, second):
        v, take = next(plan)
        assert not first.present[0, v]
        return torch.tensor([take])

    seeds = (s for s in range(200) if _first_draws(path, s) == [0, 1])
    found = rollout(path, prefer, draws(next(seeds)))
    assert found.tolist() == [[False, False, True]]
    assert greedy_completion(path, found).tolist() == [[True, False, True]]


def _first_draws(graphs, seed):
    """Which vertices a rollout that always drops takes."""
    met = []
    rollout(graphs, lambda a, b: torch.zeros(len(a.present), dtype=torch.bool), draws(seed), met)
    gone, before = [], graphs.present[0]
    for step in met:
        gone.append(int((before & ~step.without[0]).nonzero()))
        before = step.without[0]
    return gone


@pytest.mark.fact("mis_dp", 5)
def test_completion_never_hurts():
    graphs = random_graphs(30)
    found = rollout(graphs, by_score(MISComparator(8)), draws())
    full = greedy_completion(graphs, found)
    assert bool((full >= found).all()) and bool(is_independent(graphs.adjacency, full).all())
    blocked = (graphs.adjacency @ full.float()[..., None])[..., 0] > 0
    assert bool((blocked | full | ~graphs.present).all())


def test_a_layer_against_a_loop():
    layer, x = Mixing(2).double(), torch.randn(1, 4, 6, dtype=torch.float64)
    linked = dense_graphs(nx.path_graph(3)).adjacency.double()[0]
    linked = torch.nn.functional.pad(linked, (0, 1, 0, 1))
    present = torch.tensor([[True, True, True, False]])
    rows = []
    for i in range(3):
        near = sum(layer.near(x[0, j]) for j in range(3) if j == i or linked[i, j])
        far = sum(layer.far(x[0, j]) for j in range(3) if j == i or not linked[i, j])
        rows.append(layer.norm(torch.nn.functional.gelu(torch.cat([layer.itself(x[0, i]), near, far]))))
    torch.testing.assert_close(layer(x, linked[None], present)[0, :3], torch.stack(rows))


def test_greedy_against_a_loop():
    graphs = random_graphs()
    ours = greedy_completion(graphs)
    for k in range(len(ours)):
        linked, free, chosen = graphs.adjacency[k], set(graphs.present[k].nonzero().flatten().tolist()), set()
        while free:
            v = min(free, key=lambda i: (sum(int(linked[i, j]) for j in free), i))
            chosen.add(v)
            free -= {v} | {j for j in free if linked[v, j]}
        assert set(ours[k].nonzero().flatten().tolist()) == chosen


def test_exact_sizes_against_all_subsets():
    graphs, subsets, independent = small_atlas()
    best = (subsets.sum(1) * independent).amax(1)
    for k in range(0, len(best), 60):
        n = int(graphs.present[k].sum())
        outside = 7 - n  # absent vertices are free in the subsets
        assert largest_independent_set(graphs.adjacency[k, :n, :n]) == int(best[k]) - outside


@pytest.mark.parametrize("m", [4, 6])
def test_greedy_falls_into_its_trap(m):
    graphs = dense_graphs([greedy_traps(m, gadgets=1), greedy_traps(m, gadgets=3, links=0, seed=1)])
    assert greedy_completion(graphs).sum(1).tolist() == [2, 6]
    best = [largest_independent_set(a[p][:, p]) for a, p in zip(*graphs, strict=True)]
    assert best == [m, 3 * m]


def test_pairs_are_labelled_by_the_sets_that_were_found():
    graphs = random_graphs()
    pairs = labelled_pairs(graphs, by_score(MISComparator(8)), 2, 5, 9, False, draws())
    assert set(map(tuple, pairs.label.tolist())) <= {(1, 0), (0, 1), (0.5, 0.5)}
    assert 12 * 4 < len(pairs.root) <= 12 * 9 and len(pairs.root.unique()) == 12
    assert bool((pairs.first <= graphs.present[pairs.root]).all())

    def oracle(a, b):  # taking is right where the vertex has one neighbour at most
        sizes = [torch.tensor([largest_independent_set(m[p][:, p]) for m, p in zip(*g, strict=True)]) for g in (a, b)]
        return sizes[1] >= sizes[0]

    few = DenseGraphs(graphs[0][:2], graphs[1][:2])
    pairs = labelled_pairs(few, oracle, 1, 3, 4, True, draws())
    for root, one, two, label in zip(*pairs, strict=True):
        sizes = [largest_independent_set(few.adjacency[root][p][:, p]) for p in (one, two)]
        assert label.tolist() == [(1 + np.sign(sizes[0] - sizes[1])) / 2, (1 + np.sign(sizes[1] - sizes[0])) / 2]


def test_more_rollouts_find_more():
    graphs, prefer = random_graphs(20), by_score(MISComparator(8))
    one, many = (best_of(graphs, prefer, r, draws()).sum(1) for r in (1, 8))
    assert bool((many >= one).all()) and int(many.sum()) > int(one.sum())


def test_it_learns_that_stars_are_better_without_their_centre():
    """A random v of a star is mostly a leaf: taking it is right, and dropping it is wrong."""
    graphs = dense_graphs([nx.star_graph(n) for n in range(4, 10)])
    torch.manual_seed(0)
    network = self_train_mis(MISComparator(8), graphs, 4, 6, 3, 4, 12, updates=60, lr=1e-2, seed=0)
    found = torch.stack([rollout(graphs, by_score(network), draws(s)).sum(1) for s in range(5)]).float().mean(0)
    assert float((found / torch.arange(4, 10)).mean()) > 0.9


def test_the_best_round_on_the_training_graphs_is_kept(monkeypatch):
    graphs, sizes = random_graphs(4), []

    def watched(some, prefer, generator, met=None):
        found = rollout(some, prefer, generator, met)
        if met is None and len(some.present) == 4:
            sizes.append(int(found.sum()))
        return found

    monkeypatch.setattr("ziggurat.graphs.combinatorial.mis_dp.rollout", watched)
    network = self_train_mis(MISComparator(8), graphs, 4, 2, 1, 2, 3, updates=3, lr=0.1, rolling=1, seed=3)
    assert len(sizes) == 4
    again = rollout(graphs, by_score(network), generator(3, "look"))
    assert int(again.sum()) == max(sizes)


def test_estimator_gives_masks_and_covers():
    graph = ring_graph()
    model = DPIndependentSet(width=8, rounds=1, roots=1, rollouts=1, steps=2, pairs=2, updates=2).fit(
        [graph, nx.path_graph(5)]
    )
    mask, cover = model.predict(graph), model.vertex_cover(graph)
    assert mask.dtype == bool and mask.shape == (12,) and np.array_equal(cover, ~mask)
    source, target = graph.edge_index.numpy()
    assert (cover[source] | cover[target]).all()
    both = model.set_params(best_of=3, complete=True).predict([graph, nx.path_graph(5)])
    assert [len(one) for one in both] == [12, 5] and both[1].sum() >= 2


def test_degrees_count_present_neighbours_alone():
    path = dense_graphs(nx.path_graph(3))
    assert degrees_among(path.adjacency, torch.tensor([[True, True, False]])).tolist() == [[1.0, 1.0, 0.0]]


def test_mistakes_are_named():
    with value_error("no graphs"):
        dense_graphs([])
    with value_error("no graph has an edge"):
        self_train_mis(MISComparator(4), dense_graphs(nx.empty_graph(3)))
    with value_error("1 or more, got 0 and None"):
        self_train_mis(MISComparator(4), random_graphs(2), rounds=0)
    with value_error("width and depth"):
        MISComparator(0)
    with value_error("call fit"):
        DPIndependentSet().predict(ring_graph())
    with value_error("a trap needs"):
        greedy_traps(1)
    model = DPIndependentSet(width=4, rounds=1, rollouts=1, updates=1).fit(ring_graph())
    with value_error("best_of must be"):
        model.set_params(best_of=0).predict(ring_graph())


def test_mis_dp_claim_at_a_tiny_size(monkeypatch, tmp_path):
    from ziggurat.claims.graph_networks import mis_dp as claim
    from ziggurat.claims.run import Run

    for name, value in (
        ("TRAIN", 4),
        ("TEST", 3),
        ("NODES", 12),
        ("ROUNDS", 2),
        ("ROOTS", 3),
        ("UPDATES", 2),
        ("STEPS", 2),
    ):
        monkeypatch.setattr(claim, name, value)
    monkeypatch.setenv("ZIGGURAT_RUNS", str(tmp_path))
    finding = claim.measure(Run("mis_dp", seeds=(100,), quiet=True))
    assert len(finding.clauses) == 6 and all(0 < v[0] <= 1 for v in finding.measurements.values())
