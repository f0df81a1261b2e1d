from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse, stats

from tests.typecheck import value_error
from ziggurat.graphs.embeddings._alias import alias_tables, picks
from ziggurat.graphs.embeddings.node2vec import Node2Vec, biased_walks, edge_features, step_probabilities
from ziggurat.graphs.embeddings.skip_gram import train_skip_gram
from ziggurat.testing import ring_graph


def karate():
    """Zachary's club, weighted."""
    return sparse.csr_matrix(nx.to_numpy_array(nx.karate_club_graph()))


def transitions(walks, n):
    """How often each step (t, v) → x was taken: {(t, v): counts (n,)}."""
    found = {}
    for t, v, x in zip(walks[:, :-2].ravel(), walks[:, 1:-1].ravel(), walks[:, 2:].ravel(), strict=True):
        if x >= 0:
            found.setdefault((int(t), int(v)), np.zeros(n))[x] += 1
    return found


def chi_square(counts, probabilities):
    """p value of counts under probabilities."""
    seen = probabilities > 0
    assert not counts[~seen].any()
    return stats.chisquare(counts[seen], probabilities[seen] * counts.sum()).pvalue if seen.sum() > 1 else 1.0


@pytest.mark.fact("node2vec", 1)
def test_without_bias_steps_are_those_of_the_first_order():
    a = karate()
    walks = biased_walks(a, 200, 20)
    p = a.toarray() / np.asarray(a.sum(1))
    values = []
    for v in range(a.shape[0]):
        counts = np.bincount(walks[:, 1:][walks[:, :-1] == v], minlength=a.shape[0])
        values.append(chi_square(counts, p[v]))
    assert min(values) > 1e-3 / len(values)
    for t, v in zip(*(end[:20] for end in a.nonzero()), strict=True):
        near, share = step_probabilities(a, int(t), int(v))
        np.testing.assert_allclose(share, p[v, near])


@pytest.mark.parametrize(("p", "q"), [(0.25, 4.0), (4.0, 0.25), (1.0, 50.0)])
def test_frequencies_equal_the_table(p, q):
    """Rejection gives the second-order probabilities, on a weighted directed graph too."""
    rng = np.random.default_rng(0)
    a = sparse.csr_matrix(np.where(rng.random((9, 9)) < 0.5, rng.random((9, 9)) + 0.1, 0))
    values = []
    for (t, v), counts in transitions(biased_walks(a, 1000, 20, p, q), 9).items():
        expected = a[v].toarray().ravel() * [1 / p if x == t else 1 if a[t, x] else 1 / q for x in range(9)]
        near, share = step_probabilities(a, t, v, p, q)
        np.testing.assert_allclose(share, (expected / expected.sum())[near])
        if counts.sum() > 500:
            values.append(chi_square(counts, expected / expected.sum()))
    assert len(values) > 20 and min(values) > 1e-3 / len(values)


@pytest.mark.fact("node2vec", 2)
@pytest.mark.parametrize(("p", "q"), [(0.5, 2.0), (4.0, 0.25)])
def test_returns_on_stars_trees_and_complete_graphs(p, q):
    graphs = {
        "star": nx.star_graph(5),
        "tree": nx.balanced_tree(2, 3),
        "complete": nx.complete_graph(6),
    }
    for name, graph in graphs.items():
        a = sparse.csr_matrix(nx.to_numpy_array(graph, weight=None))
        for (t, v), counts in transitions(biased_walks(a, 600, 20, p, q), a.shape[0]).items():
            others = a[v].nnz - 1
            expected = (1 / p) / (1 / p + others * (1 if name == "complete" else 1 / q))
            near, share = step_probabilities(a, t, v, p, q)
            assert share[near == t] == pytest.approx(expected), name
            n = counts.sum()
            assert abs(counts[t] / n - expected) < 5 * np.sqrt(expected * (1 - expected) / n) + 1e-9, (name, t, v)


@pytest.mark.fact("node2vec", 3)
def test_a_high_p_never_turns_round_on_a_cycle():
    a = sparse.csr_matrix(nx.to_numpy_array(nx.cycle_graph(11)))
    walks = biased_walks(a, 20, 11, p=1e9)
    assert all(len(set(walk)) == 11 for walk in walks.tolist())


@pytest.mark.fact("node2vec", 4)
def test_edge_features_are_symmetric():
    vectors, pairs = np.random.default_rng(0).normal(size=(6, 3)), np.array([[0, 1, 2], [5, 4, 2]])
    for operator in ("average", "hadamard", "l1", "l2"):
        np.testing.assert_array_equal(
            edge_features(vectors, pairs, operator), edge_features(vectors, pairs[::-1].copy(), operator)
        )
    np.testing.assert_allclose(edge_features(vectors, pairs)[0], vectors[0] * vectors[5])
    np.testing.assert_allclose(edge_features(vectors, pairs, "average")[1], (vectors[1] + vectors[4]) / 2)
    model = Node2Vec(4, 2, 5).fit(ring_graph())
    np.testing.assert_array_equal(model.edge_features(pairs, "l2"), edge_features(model.embedding_, pairs, "l2"))


def test_steps_that_are_hardly_ever_accepted_are_drawn_exactly():
    """On a path's end the only step is back, and with p = q = 1e12 no proposal passes."""
    path = sparse.csr_matrix(nx.to_numpy_array(nx.path_graph(3)))
    walks = biased_walks(path, 3000, 4, 1e12, 1e12)
    assert (walks >= 0).all()
    after = walks[(walks[:, 0] == 0), 2]  # 0 → 1 → 0 or 2, equally likely
    assert np.mean(after == 2) == pytest.approx(0.5, abs=0.05)


def test_dead_ends_random_state_and_directed_weights():
    a = sparse.csr_matrix(np.array([[0, 3.0, 1], [0, 0, 1], [0, 0, 0]]))
    walks = biased_walks(a, 4000, 4)
    assert walks.shape == (12000, 4) and (walks[walks[:, 0] == 2, 1:] == -1).all()
    assert np.mean(walks[walks[:, 0] == 0, 1] == 1) == pytest.approx(0.75, abs=0.03)
    graph = ring_graph(20)
    first, same, other = (Node2Vec(6, 3, 10, 0.5, 2.0, random_state=s).fit(graph).embedding_ for s in (0, 0, 1))
    assert first.shape == (20, 6) and first.dtype == np.float32
    assert np.array_equal(first, same) and not np.allclose(first, other)
    assert np.isfinite(Node2Vec(4, 2, 5).fit(sparse.csr_matrix((3, 3))).embedding_).all()
    graph.edge_weight = torch.rand(graph.num_edges)
    assert np.isfinite(Node2Vec(4, 2, 5).fit(graph).embedding_).all()


def test_alias_tables_hold_the_distribution_exactly():
    rng = np.random.default_rng(0)
    weights, indptr = rng.random(30) ** 4 + 1e-6, np.array([0, 1, 1, 9, 30])
    accept, alias = alias_tables(indptr, weights)
    for a, b in pairwise(indptr):
        mass = accept[a:b].copy()
        np.add.at(mass, alias[a:b], 1 - accept[a:b])
        if b > a:
            np.testing.assert_allclose(mass / (b - a), weights[a:b] / weights[a:b].sum(), atol=1e-12)
    counts = np.bincount(picks(accept[9:], alias[9:], 100_000, np.uint64(5)), minlength=21)
    assert chi_square(counts, weights[9:] / weights[9:].sum()) > 1e-3


def test_outward_walks_go_farther():
    a = sparse.csr_matrix(nx.to_numpy_array(nx.grid_2d_graph(20, 20)))
    reach = [
        np.mean([len(set(walk)) for walk in biased_walks(a, 2, 40, p, q).tolist()]) for p, q in ((4, 0.25), (0.25, 4))
    ]
    assert reach[0] > 2 * reach[1]


def test_mistakes_are_named():
    graph = ring_graph()
    for p, q in ((0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (1.0, float("inf"))):
        with value_error("positive and finite"):
            biased_walks(graph, p=p, q=q)
    with value_error("length 2 or more"):
        biased_walks(graph, length=1)
    with value_error("operator must be"):
        edge_features(np.ones((2, 2)), np.zeros((2, 1), int), "sum")
    with value_error("call fit"):
        Node2Vec().edge_features(np.zeros((2, 1), int))
    with value_error("dimensions, window and epochs"):
        Node2Vec(dimensions=0).fit(graph)
    with value_error("lr must be positive"):
        Node2Vec(lr=0.0).fit(graph)
    with value_error("walks must hold nodes"):
        train_skip_gram(np.array([[0, 7]]), 3)
