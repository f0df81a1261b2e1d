from itertools import product

import numpy as np
import pytest
from scipy import sparse, stats

from tests.typecheck import value_error
from ziggurat.graphs.embeddings._alias import alias_tables, picks
from ziggurat.graphs.embeddings._edge_sampling import edge_update
from ziggurat.graphs.embeddings.line import LINE, train_proximity, with_two_hops
from ziggurat.testing import ring_graph


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weighted(n=5, seed=0, density=0.8):
    """An undirected graph whose weights spread over decades."""
    rng = np.random.default_rng(seed)
    a = np.triu(np.exp(2 * rng.normal(size=(n, n))) * (rng.random((n, n)) < density), 1)
    return a + a.T


@pytest.mark.fact("line", 1)
def test_edges_are_drawn_by_weight():
    weights = np.random.default_rng(0).pareto(1.1, 40) + 0.1
    accept, alias = alias_tables(np.array([0, 40]), weights)
    counts = np.bincount(picks(accept, alias, 1_000_000, np.uint64(1)), minlength=40)
    assert stats.chisquare(counts, weights / weights.sum() * counts.sum()).pvalue > 1e-3
    assert len(accept) == len(alias) == 40, "one place an edge: a draw reads one place"


@pytest.mark.fact("line", 2)
@pytest.mark.parametrize("order", ["first", "second"])
def test_the_expected_update_is_the_full_gradient(order):
    a, k, rate = weighted(), 2, 1e-6
    rng = np.random.default_rng(1)
    u = rng.normal(size=(5, 3))
    c = u if order == "first" else rng.normal(size=(5, 3))
    noise = a.sum(1) ** 0.75 / (a.sum(1) ** 0.75).sum()
    moved_u, moved_c = np.zeros_like(u), np.zeros_like(u)
    for i, j in zip(*a.nonzero(), strict=True):
        for drawn in product(range(5), repeat=k):
            new_u = u.copy()
            new_c = new_u if order == "first" else c.copy()
            edge_update(i, np.array([j, *drawn]), new_u, new_c, rate)
            share = a[i, j] / a.sum() * np.prod(noise[list(drawn)])
            moved_u, moved_c = moved_u + share * (new_u - u) / rate, moved_c + share * (new_c - c) / rate
    full_u, full_c = np.zeros_like(u), np.zeros_like(u)
    for i, j in product(
        range(5), repeat=2
    ):  # d/du, d/dc of Σ_ij [w_ij log σ(c_j · u_i) + d_i K P(j) log σ(−c_j · u_i)]
        s = sigmoid(u[i] @ c[j])
        factor = a[i, j] * (1 - s) - k * a[i].sum() * noise[j] * s
        full_u[i] += factor * c[j]
        full_c[j] += factor * u[i]
    if order == "first":
        full_u = full_c = full_u + full_c
    np.testing.assert_allclose(a.sum() * moved_u, full_u, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(a.sum() * moved_c, full_c, rtol=1e-3, atol=1e-3)


@pytest.mark.fact("line", 3)
def test_the_unconstrained_optimum_of_the_second_order():
    rng = np.random.default_rng(0)
    a = np.triu(rng.random((6, 6)) + 0.3, 1)
    a = a + a.T
    model = LINE(8, "second", samples=3_000_000, negative=2, lr=0.1).fit(sparse.csr_matrix(a))
    d = a.sum(1)
    expected = np.log(np.where(a > 0, a, 1) * (d**0.75).sum() / (2 * d[:, None] * d[None] ** 0.75))
    found = model.embedding_ @ model.context_.T
    off = ~np.eye(6, dtype=bool)
    assert np.abs(found - expected)[off].max() < 0.1
    assert np.corrcoef(found[off], expected[off])[0, 1] > 0.98


@pytest.mark.fact("line", 4)
def test_equal_neighbours_give_equal_vectors_in_the_second_order_only():
    """Nodes 0 and 1 have the same neighbours and no edge: the second order's condition for them is the same one."""
    a = np.zeros((6, 6))
    a[0, 2:] = a[1, 2:] = [3, 1, 2, 0.5]
    a = a + a.T
    second = LINE(8, "second", samples=2_000_000, negative=2, lr=0.1).fit(sparse.csr_matrix(a))
    scores = second.embedding_ @ second.context_.T
    np.testing.assert_allclose(scores[0], scores[1], atol=0.2)
    noise = a.sum(1) ** 0.75 / (a.sum(1) ** 0.75).sum()
    rng = np.random.default_rng(1)
    c, u = rng.normal(size=(6, 3)), rng.normal(size=3)

    def gradient(i):
        return sum(
            (a[i, j] * (1 - sigmoid(u @ c[j])) - 2 * a[i].sum() * noise[j] * sigmoid(u @ c[j])) * c[j] for j in range(6)
        )

    np.testing.assert_allclose(gradient(0), gradient(1))
    assert a[0, 1] == 0 == a[1, 0], "and the first order sums over edges: no term joins them"


@pytest.mark.fact("line", 5)
def test_both_halves_have_length_one():
    graph = ring_graph(20)
    x = LINE(6).fit(graph).embedding_
    assert x.shape == (20, 12) and x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x[:, :6], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(x[:, 6:], axis=1), 1, rtol=1e-5)
    first, second = (LINE(6, order).fit(graph).embedding_ for order in ("first", "second"))
    np.testing.assert_allclose(x[:, :6], first / np.linalg.norm(first, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(x[:, 6:], second / np.linalg.norm(second, axis=1, keepdims=True), rtol=1e-5)


def test_linked_nodes_are_near_in_the_first_order():
    a = sparse.csr_matrix(np.kron(np.eye(3), np.ones((6, 6)) - np.eye(6)))
    x = LINE(8, "first", samples=100_000, lr=0.05).fit(a).embedding_
    linked, other = a.toarray() > 0, np.kron(np.eye(3), np.ones((6, 6))) == 0
    assert (x @ x.T)[linked].mean() > (x @ x.T)[other].mean() + 0.5


def test_two_hops_are_added_largest_first():
    a = np.zeros((5, 5))
    a[0, 1], a[1, 2], a[1, 3], a[3, 4] = 1, 4, 2, 1
    a = a + a.T
    found = with_two_hops(sparse.csr_matrix(a), 2).toarray()
    assert found[0, 2] == pytest.approx(1 * 4 / 7) and found[0, 3] == 0
    np.testing.assert_allclose(found, found.T)
    assert (found[a > 0] == a[a > 0]).all() and not found.diagonal().any()
    assert with_two_hops(sparse.csr_matrix(a), 0).nnz == 8
    directed = np.triu(a)
    assert with_two_hops(sparse.csr_matrix(directed), 2).toarray()[2:].sum() == directed[2:].sum()
    assert LINE(4, min_degree=3).fit(sparse.csr_matrix(a)).embedding_.shape == (5, 8)


def test_weights_as_steps_are_gradient_descent_on_a_weighted_graph():
    a = sparse.csr_matrix(weighted(8))
    plain = train_proximity(a, "second", 4, 1000, draw_by=np.ones(a.nnz), scale=np.zeros(a.nnz))
    assert not plain.contexts.any(), "a step of zero moves nothing"
    free, bounded = (
        train_proximity(a, "second", 4, 20_000, draw_by=np.ones(a.nnz), scale=100 * a.data, most=most)
        for most in (np.inf, 0.5)
    )
    assert np.isfinite(bounded.vectors).all() and not np.allclose(free.vectors, bounded.vectors)


def test_graphs_without_edges_random_state_and_directed_graphs():
    assert np.isfinite(LINE(4).fit(sparse.csr_matrix((3, 3))).embedding_).all()
    graph = ring_graph(20)
    first, same, other = (LINE(6, random_state=s).fit(graph).embedding_ for s in (0, 0, 1))
    assert np.array_equal(first, same) and not np.allclose(first, other)
    directed = sparse.csr_matrix(np.triu(weighted(8)))
    assert np.isfinite(LINE(4, "second").fit(directed).embedding_).all()
    for order in ("first", "both"):
        with value_error("first order is for undirected graphs"):
            LINE(4, order).fit(directed)


def test_mistakes_are_named():
    graph = ring_graph()
    with value_error("order must be"):
        LINE(order="third").fit(graph)
    with value_error("dimensions must be 1"):
        LINE(0).fit(graph)
    with value_error("samples and negative 0 or more"):
        LINE(4, negative=-1).fit(graph)
    with value_error("lr must be positive"):
        LINE(lr=0.0).fit(graph)
    with value_error("min_degree must be 0"):
        LINE(min_degree=-1).fit(graph)
