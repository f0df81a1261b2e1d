"""Window search against brute force."""

import math
import re

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.memory.filtered.inner import Flat, Vamana
from ziggurat.memory.filtered.window_search import SuperPostfilterIndex, WindowSearchTree
from ziggurat.metrics.neighbours import neighbour_recall

N, D, K = 700, 6, 5
METHODS = ("prefilter", "postfilter", "tree", "optimized", "three_split", "combined")


@pytest.fixture(scope="module")
def points():
    """Ids, vectors and labels, many of them equal."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, D)).astype(np.float32)
    return rng.permutation(10 * N)[:N].astype(np.int64), vectors, rng.integers(60, size=N).astype(np.float64)


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).normal(size=(40, D)).astype(np.float32)


def windows():
    """Of all lengths; some hold nothing, one is a single label."""
    rng = np.random.default_rng(2)
    low, high = np.sort(rng.uniform(-3, 63, size=(2, 40)), axis=0)
    low[:3], high[:3] = (7.0, 20.2, 100.0), (7.0, 20.3, 200.0)
    low[3], high[3] = -np.inf, np.inf
    return low, high


def brute(points, queries, low, high, k=K):
    ids, vectors, labels = points
    found, away = np.full((len(queries), k), -1), np.full((len(queries), k), np.inf, np.float32)
    for i, query in enumerate(queries):
        inside = np.flatnonzero((labels >= low[i]) & (labels <= high[i]))
        distance = ((vectors[inside].astype(np.float64) - query) ** 2).sum(1)
        order = distance.argsort()[:k]
        found[i, : len(order)], away[i, : len(order)] = ids[inside[order]], distance[order]
    return found, away


def search(index, method, *given, **options):
    return index.search(*given, **options) if method == "super" else index.search(*given, method=method, **options)


def made(method, points, make=Flat, cutoff=40, **options):
    return (SuperPostfilterIndex if method == "super" else WindowSearchTree)(*points, make, cutoff=cutoff, **options)


@pytest.mark.fact("window_search", 1)
@pytest.mark.parametrize("method", [*METHODS, "super"])
@pytest.mark.parametrize("beta", [2, 3])
def test_exact_members_give_the_exact_answer(points, queries, method, beta):
    options = {} if method == "super" else {"beta": beta}
    low, high = windows()
    hits = search(made(method, points, **options), method, queries, K, low, high, beam=7)
    ids, away = brute(points, queries, low, high)
    np.testing.assert_allclose(hits.distances, away, rtol=1e-4, atol=1e-5)
    assert (hits.ids == ids).all()


@pytest.mark.fact("window_search", 2)
@pytest.mark.parametrize("n, beta, cutoff", [(700, 2, 40), (700, 3, 40), (64, 2, 64), (65, 2, 64), (333, 4, 10)])
def test_what_is_indexed(n, beta, cutoff):
    rng = np.random.default_rng(0)
    points = (np.arange(n), rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=n))
    tree = WindowSearchTree(*points, Flat, beta=beta, cutoff=cutoff)
    assert tree.indexed == n * (1 + max(0, math.ceil(math.log(n / cutoff, beta) - 1e-9)))
    assert all(run.last - run.first <= cutoff for run in tree.rows[-1])
    for parents, children in zip(tree.rows[:-1], tree.rows[1:], strict=True):
        assert {run.first for run in parents} <= {run.first for run in children}
    overlapping = SuperPostfilterIndex(*points, Flat, cutoff=cutoff)
    for row in overlapping.rows:
        assert sum(run.last - run.first for run in row) < 2 * n
        assert row[0].first == 0 and row[-1].last == n


@pytest.mark.fact("window_search", 3)
def test_every_window_lies_in_a_run_of_four_times_its_length(points):
    index = made("super", points)
    rng, smallest = np.random.default_rng(3), min(run.last - run.first for row in index.rows for run in row)
    for first, before in np.sort(rng.integers(N, size=(2000, 2)), axis=1):
        last = before + 1
        holding = [r.last - r.first for row in index.rows for r in row if r.first <= first and r.last >= last]
        assert min(holding) <= max(4 * (last - first) + 4, smallest)


@pytest.mark.fact("window_search", 4)
@pytest.mark.parametrize("beta", [2, 3, 5])
def test_the_tree_visits_few_runs_of_every_row(points, queries, beta, monkeypatch):
    tree, visits = made("tree", points, beta=beta, cutoff=20), []
    whole = tree._inside
    monkeypatch.setattr(tree, "_inside", lambda q, run, query, *rest: (visits.append(run), whole(q, run, query, *rest)))
    rng = np.random.default_rng(4)
    for low, high in np.sort(rng.uniform(0, 60, size=(60, 2)), axis=1):
        visits.clear()
        tree.search(queries[:1], K, low, high, "tree")
        length = [run.last - run.first for run in visits]
        for row in tree.rows:
            sizes = {run.last - run.first for run in row}
            assert sum(one in sizes for one in length) <= 2 * (beta - 1)


@pytest.mark.fact("window_search", 5)
def test_a_window_over_everything(points, queries):
    def make(vectors):
        return Vamana(vectors, 8, 30)

    tree, overlapping = made("tree", points, make, N), made("super", points, make, N)
    everything = (-np.inf, np.inf)
    one = tree.search(queries, K, *everything, "postfilter", beam=12)
    for other in (
        tree.search(queries, K, *everything, "optimized", beam=12),
        overlapping.search(queries, K, *everything, beam=12),
    ):
        assert (one.ids == other.ids).all() and (one.computed == other.computed).all()
    few = tree.search(queries, 200, 7.0, 7.0, "postfilter", beam=12)
    assert ((few.ids >= 0).sum(1) == (points[2] == 7.0).sum()).all()


@pytest.mark.fact("window_search", 6)
def test_defaults():
    from inspect import signature

    def defaults(made):
        return {name: one.default for name, one in signature(made).parameters.items()}

    assert (defaults(Vamana)["degree"], defaults(Vamana)["beam"], defaults(Vamana)["alpha"]) == (64, 500, 1.0)
    tree, overlapping = defaults(WindowSearchTree), defaults(SuperPostfilterIndex)
    assert (tree["cutoff"], tree["beta"], tree["ratio"]) == (1000, 2, 0.05)
    assert (overlapping["cutoff"], overlapping["split"], overlapping["shift"]) == (1000, 2.0, 0.5)


@pytest.mark.parametrize("method", [*METHODS, "super"])
def test_graphs_inside_find_nearly_all(points, queries, method):
    low, high = windows()
    index = made(method, points, lambda vectors: Vamana(vectors, 12, 40), cutoff=80)
    truth = brute(points, queries, low, high)[1]
    narrow, wide = (search(index, method, queries, K, low, high, beam=beam).distances for beam in (5, 60))
    assert neighbour_recall(wide, truth) > 0.98
    assert neighbour_recall(narrow, truth) <= neighbour_recall(wide, truth)


def test_a_wider_last_search_finds_more_and_costs_more(points, queries):
    index = made("optimized", points, lambda vectors: Vamana(vectors, 6, 12), cutoff=300)
    low, high = np.full(40, 10.0), np.full(40, 45.0)
    truth = brute(points, queries, low, high)[1]
    once, more = (index.search(queries, K, low, high, "optimized", 5, multiply) for multiply in (1, 8))
    assert neighbour_recall(more.distances, truth) > neighbour_recall(once.distances, truth)
    assert (more.computed > once.computed).all()


def test_scanning_computes_the_distances_of_the_window_alone(points, queries):
    low, high = windows()
    hits = made("prefilter", points).search(queries, K, low, high, "prefilter")
    inside = [((points[2] >= a) & (points[2] <= b)).sum() for a, b in zip(low, high, strict=True)]
    assert hits.computed.tolist() == inside


def test_answers_do_not_depend_on_how_much_fits_into_memory(points, queries, monkeypatch):
    low, high = windows()
    index = made("postfilter", points, lambda vectors: Vamana(vectors, 8, 30))
    whole = index.search(queries, K, low, high, "postfilter", 5)
    monkeypatch.setattr("ziggurat.memory.filtered.window_search.BLOCK", 300)
    parts = index.search(queries, K, low, high, "postfilter", 5)
    assert (whole.ids == parts.ids).all() and (whole.computed == parts.computed).all()


def test_mistakes_are_said(points, queries):
    ids, vectors, labels = points
    tree = made("tree", points)
    with value_error(re.escape("every window needs low <= high; they may be infinite, but not NaN.")):
        tree.search(queries, K, 3.0, 2.0)
    with value_error(re.escape("every window needs low <= high; they may be infinite, but not NaN.")):
        tree.search(queries, K, np.nan, 2.0)
    with value_error(re.escape("vectors must have the shape (n, 6), got (40, 5).")):
        tree.search(queries[:, :5], K, 0.0, 2.0)
    with value_error(re.escape("k, beam and final_multiply must be 1 or more, got 0, 40 and 1.")):
        tree.search(queries, 0, 0.0, 2.0)
    with value_error(re.escape("labels must be finite numbers.")):
        made("tree", (ids, vectors, np.where(labels > 50, np.nan, labels)))
    with value_error(re.escape("an id occurs twice; every vector needs its own.")):
        made("tree", (np.zeros(N, np.int64), vectors, labels))
    with value_error(re.escape("ids, vectors and labels must be equally many and at least one, got 700, 700, 3.")):
        made("tree", (ids, vectors, labels[:3]))
    with value_error(re.escape("beta must be 2 or more, cutoff 1 or more and ratio in [0, 1], got 1, 40, 0.05.")):
        made("tree", points, beta=1)
    with value_error(re.escape("cutoff must be 1 or more, split above 1 and shift in (0, 1], got 40, 1.0, 0.5.")):
        made("super", points, split=1.0)
