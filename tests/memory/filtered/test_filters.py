"""What all methods under filters have in common, against brute force."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.memory.filtered.points import METHODS, D, K, N, brute, filled, filters, points, queries, selected
from tests.typecheck import value_error
from ziggurat.memory.filtered.filters import Attributes, Between, Contains, Equals
from ziggurat.memory.filtered.inner import Flat, Vamana
from ziggurat.memory.filtered.strategies import PostFilter, PreFilter
from ziggurat.metrics.neighbours import neighbour_recall


@pytest.fixture(scope="module")
def indexes():
    return {name: filled(name) for name in METHODS}


def asked(index):
    """The filters that a method can, with a query each."""
    can = [one for one in filters() if index.answers(one)]
    return queries(len(can)), can


@pytest.mark.parametrize("where", filters()[::7], ids=repr)
def test_masks(where):
    table = points()[2]
    assert (Attributes(table).mask(where) == selected(where, table)).all()


def test_missing_values_are_never_selected():
    table = pd.DataFrame({"kind": ["a", None, "b"], "size": [1.0, np.nan, 3.0], "tags": [{1}, set(), {1, 2}]})
    attributes = Attributes(table)
    assert attributes.mask(Equals("kind", "a")).tolist() == [True, False, False]
    assert attributes.mask(Between("size", -np.inf, np.inf)).tolist() == [True, False, True]
    assert attributes.mask(Contains("tags", 1)).tolist() == [True, False, True]
    assert attributes.mask("kind = 'b' or size < 2").tolist() == [True, False, True]


@pytest.mark.fact("filtered_ann_benchmark", 1)
@pytest.mark.parametrize("name", ["pre", "flat"])
def test_the_truth_is_that_of_brute_force(name):
    index = PreFilter() if name == "pre" else PostFilter(Flat)
    given = points()
    given[1][1::2] = given[1][::2]  # every vector twice: ties, which must not go by id
    index.add(*given)
    x, can = asked(index)
    hits = index.search(x, K, can)
    for i, where in enumerate(can):
        ids, away = brute(given, x[i], where)
        np.testing.assert_allclose(hits.distances[i], away, rtol=1e-4, atol=1e-5)
        row = dict(zip(given[0].tolist(), range(N), strict=True))
        own = [((given[1][row[one]] - x[i]) ** 2).sum() for one in hits.ids[i].tolist() if one >= 0]
        np.testing.assert_allclose(own, away[: len(own)], rtol=1e-4)
        assert (hits.ids[i] >= 0).sum() == (ids >= 0).sum()
    if name == "pre":
        assert hits.computed.tolist() == [selected(where, given[2]).sum() for where in can]


@pytest.mark.fact("filtered_ann_benchmark", 2)
@pytest.mark.parametrize("name", ["pre", "post", "acorn1", "windows"])
def test_a_filter_that_selects_everything_changes_nothing(indexes, name):
    index, everything = indexes[name], Between("size", -np.inf, np.inf)
    hits = index.search(queries(), K, everything, beam=12)
    if name == "pre":
        plain = Flat(index.vectors).search(queries(), K)
    elif name == "windows":
        points_ = index.tree.points
        plain = Vamana(points_.vectors, 12, 40).search(queries(), K, 12)
        plain = plain._replace(rows=points_.ids[plain.rows])
    else:
        plain = Vamana(index.vectors, 12, 40).search(queries(), K, 12)
    assert (hits.ids == index.ids[plain.rows]).all() and (hits.computed == plain.computed).all()


@pytest.mark.fact("filtered_ann_benchmark", 2)
@pytest.mark.parametrize("name", ["acorn", "tags", "segments"])
def test_filters_that_select_everything_are_one(indexes, name):
    index = indexes[name]
    forms = [Between("size", -np.inf, np.inf), Between("size", 0.0, 199.0)]
    forms += [Equals("all", 1), Contains("tags", 0), "all = 1", "size >= 0"]
    hits = [index.search(queries(), K, one, beam=12) for one in forms if index.answers(one)]
    flat = Flat(index.vectors).search(queries(), K)
    for one in hits:
        assert (one.ids == hits[0].ids).all() and (one.computed == hits[0].computed).all()
        assert neighbour_recall(one.distances, flat.distances) > 0.8


@pytest.mark.fact("filtered_ann_benchmark", 3)
@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_after_the_filter_a_share_of_the_nearest_is_left(share):
    rng = np.random.default_rng(4)
    n, k, many = 4000, 10, 100
    vectors, kept = rng.normal(size=(n, 3)).astype(np.float32), rng.random(n) < share
    index = PostFilter(Flat)
    index.add(np.arange(n), vectors, pd.DataFrame({"kept": kept.astype(int)}))
    x = rng.normal(size=(200, 3)).astype(np.float32)
    near = Flat(vectors).search(x, many).rows
    assert abs(kept[near].mean() - share) < 4 * (share * (1 - share) / near.size) ** 0.5 + 0.01
    once = index.search(x, k, Equals("kept", 1), beam=round(1.8 * k / share)).computed / n
    searches = index.search(x, k, Equals("kept", 1), beam=k).computed / n
    assert once.mean() < 1.1
    assert abs(searches.mean() - (1 + np.log2(1 / share))) < 1


@pytest.mark.fact("filtered_ann_benchmark", 4)
@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_found_that_the_filter_does_not_select(indexes, name):
    index, given = indexes[name], points()
    x, can = asked(index)
    assert len(can) >= 40
    row = dict(zip(given[0].tolist(), range(N), strict=True))
    few = 0
    for k in (1, K, 60):
        hits = index.search(x, k, can, beam=20)
        assert hits.ids.shape == hits.distances.shape == (len(can), k)
        for ids, away, query, where in zip(hits.ids, hits.distances, x, can, strict=True):
            inside = selected(where, given[2])
            there = ids[ids >= 0]
            assert all(inside[row[one]] for one in there.tolist()) and len(set(there.tolist())) == len(there)
            assert (np.isinf(away) == (ids < 0)).all() and (np.diff(away[ids >= 0]) >= 0).all()
            assert len(there) == min(k, inside.sum())
            if inside.sum() <= k:
                few += 1
                np.testing.assert_allclose(away, brute(given, query, where, k)[1], rtol=1e-4)
    assert few > 3


@pytest.mark.fact("filtered_ann_benchmark", 4)
@pytest.mark.parametrize("name", METHODS)
def test_a_filter_that_selects_a_distant_cluster_is_answered_in_full(name):
    """No walk from the middle of the data comes upon a selected row."""
    ids, vectors, table = points()
    far = np.arange(N) < 40
    vectors[far] += 100
    table.loc[far, ["kind", "size"]] = "fox", 1000.0
    table["tags"] = [frozenset((99,)) if apart else tags for apart, tags in zip(far, table["tags"], strict=True)]
    index = METHODS[name]()
    index.add(ids, vectors, table)
    for where in (Equals("kind", "fox"), Contains("tags", 99), Between("size", 1000.0, 1000.0)):
        if index.answers(where):
            hits = index.search(queries(5), K, where, beam=10)
            assert np.isin(hits.ids, ids[far]).all() and (hits.computed >= K).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_wider_beam_finds_nearly_all(indexes, name):
    index = indexes[name]
    x, can = asked(index)
    truth = indexes["pre"].search(x, K, can)
    narrow, wide = (index.search(x, K, can, beam) for beam in (5, 80))
    low, high = (neighbour_recall(hits.distances, truth.distances) for hits in (narrow, wide))
    assert low <= high + 1e-9 and high > 0.92
    if name not in ("post", "windows"):  # these double a narrow beam until enough is left
        assert narrow.computed.sum() <= wide.computed.sum()


def test_answers_do_not_depend_on_batches(indexes, monkeypatch):
    for index in indexes.values():
        x, can = asked(index)
        whole = index.search(x, K, can, 20)
        monkeypatch.setattr("ziggurat.memory.filtered.filters.BLOCK", 3 * N)
        parts = index.search(x, K, can, 20)
        monkeypatch.undo()
        assert (whole.ids == parts.ids).all() and (whole.computed == parts.computed).all()


@pytest.mark.parametrize("name", METHODS)
def test_rows_added_later_are_found(name):
    ids, vectors, table = points()
    index, whole = METHODS[name](), filled(name)
    index.add(ids[:400], vectors[:400], table[:400])
    index.build()
    assert len(index) == 400 and (index.bytes > 0 or name == "pre")
    index.add(ids[400:], vectors[400:], table[400:])
    x, can = asked(index)
    assert (index.search(x, K, can).ids == whole.search(x, K, can).ids).all()


def test_mistakes_are_said(indexes):
    pre, everything = indexes["pre"], Equals("all", 1)
    with value_error(re.escape("there is no attribute 'sise'; the attributes are: kind, size, tags, all.")):
        pre.search(queries(), K, Between("sise", 0, 1))
    with value_error(re.escape("the attribute 'kind' is no number; a range needs an ordered attribute.")):
        pre.search(queries(), K, Between("kind", 0, 1))
    with value_error(re.escape("SegmentGraph cannot search under Equals(field='all', value=1).")):
        indexes["segments"].search(queries(), K, everything)
    with value_error(re.escape("where must be one filter, or one for each of 40 queries, got 3.")):
        pre.search(queries(), K, [everything] * 3)
    with value_error(re.escape("k and beam must be 1 or more, got 0 and 64.")):
        pre.search(queries(), 0, everything)
    with value_error(re.escape("vectors must have the shape (n, 8), got (40, 7).")):
        pre.search(queries()[:, :7], K, everything)
    with value_error(re.escape("the index is empty; add vectors first.")):
        PreFilter().search(queries(), K, everything)
    ids, vectors, table = points()
    with value_error(re.escape("an id occurs twice; every vector needs its own.")):
        pre.add(ids[:1], vectors[:1], table[:1])
    with value_error(re.escape(f"ids, vectors and attributes must be equally many, got 2, {N}, {N}.")):
        PreFilter().add(ids[:2], vectors, table)
    with value_error(re.escape("the attributes must be kind, size, tags, all, as before.")):
        pre.add(np.array([10**6]), np.zeros((1, D), np.float32), table[["kind"]][:1])
