import math

import mpmath
import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

from tests.typecheck import value_error
from ziggurat.graphs.embeddings.hyperbolic.combinatorial import (
    CombinatorialEmbedding,
    arcosh_above,
    directions,
    edge_length,
    mobius_add,
)
from ziggurat.graphs.embeddings.hyperbolic.distances import ball_distances, hop_distances
from ziggurat.graphs.embeddings.hyperbolic.hmds import HMDS
from ziggurat.graphs.embeddings.hyperbolic.measures import distortion, map_score
from ziggurat.graphs.embeddings.hyperbolic.poincare import PoincareEmbedding, distance_loss
from ziggurat.testing import ring_graph


def matrix(graph):
    return sparse.csr_matrix(nx.to_scipy_sparse_array(graph, dtype=float))


def every_distance(model, n):
    return np.stack([model.distances(node) for node in range(n)])


TREES = {
    "star": nx.star_graph(9),
    "path": nx.path_graph(12),
    "binary": nx.balanced_tree(2, 4),
    "ternary": nx.balanced_tree(3, 3),
}


@pytest.mark.fact("hyperbolic_tradeoffs", 1)
def test_hmds_gives_back_hyperbolic_points():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    radius = 3 * rng.random((50, 1))
    x = np.tanh(radius / 2) * x / np.linalg.norm(x, axis=1, keepdims=True)
    wanted = ball_distances(x, x)
    for scale in (1.0, 0.7):
        model = HMDS(3, scale).fit(wanted / scale)
        assert np.abs(every_distance(model, 50) - wanted / scale).max() < 1e-6
        assert (np.linalg.norm(model.embedding_, axis=1) < 1).all()
    assert np.abs(every_distance(HMDS(5).fit(wanted), 50) - wanted).max() < 1e-6, "dimensions to spare"


@pytest.mark.fact("hyperbolic_tradeoffs", 2)
@pytest.mark.parametrize(("tau", "dim", "bits"), [(1.0, 2, 53), (6.0, 2, None), (2.5, 3, None), (9.0, 5, 400)])
def test_tree_edges_are_tau_long(tau, dim, bits):
    model = CombinatorialEmbedding(tau, dim, bits).fit(matrix(nx.balanced_tree(2, 5)))
    for node, parent in enumerate(model.parent_):
        if parent >= 0:
            assert abs(model.distances(node)[parent] - 1) * tau < 1e-6


@pytest.mark.fact("hyperbolic_tradeoffs", 3)
@pytest.mark.parametrize("name", list(TREES))
@pytest.mark.parametrize("epsilon", [0.5, 0.1])
def test_the_formula_bounds_the_distortion(name, epsilon):
    tree = matrix(TREES[name])
    model = CombinatorialEmbedding(epsilon=epsilon).fit(tree)
    assert model.tau_ == edge_length(max(d for _, d in TREES[name].degree), epsilon)
    found, wanted = every_distance(model, tree.shape[0]), hop_distances(tree)
    assert distortion(found, wanted).worst <= 1 + epsilon
    assert (found <= wanted + 1e-9).all(), "no path is longer than its edges"
    assert map_score(tree, found) == 1


@pytest.mark.fact("hyperbolic_tradeoffs", 4)
def test_float64_ends_at_37():
    last = np.nextafter(1.0, 0.0)
    with mpmath.workprec(200):
        exact = mpmath.log((1 + mpmath.mpf(float(last))) / (1 - mpmath.mpf(float(last))))
        assert exact == mpmath.log(mpmath.mpf(2) ** 54 - 1) and float(exact) == pytest.approx(37.43, abs=0.005)
    path = matrix(nx.path_graph(9))
    for tau, finite in ((37.4 / 8, True), (44 / 8, False)):
        model = CombinatorialEmbedding(tau, bits=53, root=0).fit(path)
        assert np.isfinite(model.distances(0)[:7]).all() and np.isfinite(model.distances(0)[8]) == finite
        assert np.isfinite(CombinatorialEmbedding(tau, root=0).fit(path).distances(0)).all()


@pytest.mark.fact("hyperbolic_tradeoffs", 5)
def test_map_is_one_where_neighbours_are_nearest():
    graph = ring_graph(12)
    edges = np.zeros((12, 12), bool)
    edges[tuple(graph.edge_index.numpy())] = True
    rng = np.random.default_rng(0)
    away = np.where(edges, 1 + rng.random((12, 12)), 2.5 + rng.random((12, 12)))
    assert map_score(graph, away) == 1
    mixed = 1 + rng.random((12, 12))
    score = map_score(graph, mixed)
    assert score < 1 and map_score(graph, 3.7 * mixed) == score
    naive = []
    for a in range(12):
        near = [
            sum(edges[a, c] and mixed[a, c] <= mixed[a, b] for c in range(12) if c != a)
            / sum(mixed[a, c] <= mixed[a, b] for c in range(12) if c != a)
            for b in np.flatnonzero(edges[a])
        ]
        naive.append(np.mean(near))
    assert score == pytest.approx(np.mean(naive))
    lost = away.copy()
    lost[edges] = np.nan
    assert map_score(graph, lost) < 0.5, "what is not finite comes last"


def test_distortion_by_hand():
    wanted = np.array([[0.0, 1, 2, np.inf]])
    average, worst = distortion(np.array([[0.0, 1.5, 2, 7]]), wanted)
    assert average == pytest.approx(0.25) and worst == pytest.approx(1.5)
    assert distortion(np.array([[0.0, np.nan, 2, 7]]), wanted).average == np.inf


def test_mobius_addition_is_the_disk_s_translation():
    x, z = complex(0.3, -0.5), complex(-0.6, 0.2)
    want = (z + x) / (1 + x.conjugate() * z)
    got = mobius_add([mpmath.mpf(x.real), mpmath.mpf(x.imag)], [mpmath.mpf(z.real), mpmath.mpf(z.imag)])
    assert complex(*map(float, got)) == pytest.approx(want)
    with mpmath.workprec(900):
        for value in (1e-9, 0.5, 30.0, 200.0, 600.0):
            assert arcosh_above(mpmath.cosh(mpmath.mpf(value)) - 1) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(("dim", "count", "least"), [(2, 7, 51.0), (3, 4, 105.0), (3, 12, 55.0), (4, 8, 80.0)])
def test_directions_are_far_apart(dim, count, least):
    """The optima are 51.4, 109.5, 63.4 and 90 degrees."""
    x = directions(count, dim)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1)
    cosine = x @ x.T - 2 * np.eye(count)
    assert math.degrees(math.acos(cosine.max())) > least


def test_graphs_that_are_no_trees():
    edges = torch.tensor([[0, 0, 1, 3, 5], [1, 1, 0, 4, 5]])
    from torch_geometric.data import Data

    graph = Data(edge_index=edges, num_nodes=6)
    for model in (CombinatorialEmbedding(2.0), HMDS(2, 0.5), PoincareEmbedding(2, 3)):
        model.fit(graph)
        assert np.isfinite(model.embedding_).all() and np.isfinite(every_distance(model, 6)).all()
    ring = CombinatorialEmbedding().fit(ring_graph())
    assert (ring.parent_ < 0).sum() == 1 and np.isfinite(ring.embedding_).all()
    alone = sparse.csr_matrix((1, 1))
    for model in (CombinatorialEmbedding(), HMDS(), PoincareEmbedding()):
        assert (np.abs(model.fit(alone).embedding_) < 1).all()


def test_descent_finds_distances_also_with_missing_ones():
    tree = matrix(nx.balanced_tree(2, 3))
    whole = hop_distances(tree)
    wanted = whole.copy()
    wanted[7, 8] = wanted[8, 7] = wanted[3, 14] = wanted[14, 3] = np.nan
    model = PoincareEmbedding(3, 150, lr=0.3, batch_size=60).fit(wanted)
    found = every_distance(model, 15)
    assert distortion(found, np.nan_to_num(wanted)).average < 0.1 and map_score(tree, found) > 0.9
    assert (np.linalg.norm(model.embedding_, axis=1) < 1).all()


def test_loss_of_a_pair():
    x, y = torch.zeros(1, 2).double(), torch.tensor([[math.tanh(1.0), 0.0]], dtype=torch.float64)
    for wanted, scale in ((2.0, 1.0), (1.0, 2.0), (1.0, 1.0)):
        loss = distance_loss(x, y, torch.tensor([wanted]).double(), torch.tensor(math.log(scale), dtype=torch.float64))
        assert float(loss) == pytest.approx(abs((2 / (scale * wanted)) ** 2 - 1))


def test_mistakes_are_named():
    graph, distances = ring_graph(), np.ones((3, 3)) - np.eye(3)
    with value_error("dim and bits must be 2"):
        CombinatorialEmbedding(dim=1).fit(graph)
    with value_error("tau must be positive"):
        CombinatorialEmbedding(-1.0).fit(graph)
    with value_error("epsilon must be positive"):
        CombinatorialEmbedding(epsilon=0.0).fit(graph)
    with value_error("root must be a node"):
        CombinatorialEmbedding(root=12).fit(graph)
    with value_error("call fit"):
        CombinatorialEmbedding().distances(0)
    with value_error("beyond 300 cosh"):
        HMDS(scale=400.0).fit(distances)
    with value_error("must be symmetric"):
        HMDS().fit(np.triu(distances))
    with value_error("square matrix"):
        HMDS().fit(np.ones((2, 3)))
    with value_error("is missing"):
        HMDS().fit(np.where(distances > 0, np.nan, 0))
    with value_error("scale positive"):
        HMDS(scale=0.0).fit(distances)
    with value_error("call fit"):
        HMDS().distances(0)
    with value_error("lr positive"):
        PoincareEmbedding(lr=0.0).fit(distances)
    with value_error("call fit"):
        PoincareEmbedding().distances(0)
    with value_error("not negative"):
        PoincareEmbedding().fit(-distances)
    with value_error("a row a source"):
        map_score(graph, distances)
    with value_error("one shape"):
        distortion(distances, distances[:2])
    with value_error("no source has a neighbour"):
        map_score(sparse.csr_matrix((2, 2)), np.ones((2, 2)))
