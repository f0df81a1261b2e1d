import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.test_indexes import vectors
from tests.typecheck import value_error
from ziggurat.memory import Memory
from ziggurat.memory.filtered._kernels import scan_windows
from ziggurat.memory.filtered.inner import Flat
from ziggurat.memory.filtered.window_search import WindowSearchTree
from ziggurat.memory.indexes import ExactIndex
from ziggurat.memory.where import mask, parse
from ziggurat.memory.windows import Windows, interval

MANY = 24_000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), st.one_of(st.integers(-4, 4), st.floats(-4, 4))),
        min_size=1,
        max_size=3,
    )
)
def test_an_interval_selects_what_the_filter_selects(parts):
    values = [-4, -3.5, -1, 0, 0.1, 2, 2.0000000000000004, 3, 4]
    text = " and ".join(f"year {sign} {value!r}" for sign, value in parts)
    low, high = interval(parse(text), "year")
    assert mask(text, pd.DataFrame({"year": values})).tolist() == [low <= value <= high for value in values]


@pytest.mark.parametrize(
    "text",
    [
        "year != 3", "year = 3 or year = 4", "not year < 3", "year > 3 and label = 'a'", "label = 'a'", "year in (1, 2)",
        "year is null", "year = true", "year > 9007199254740993",
    ],
)  # fmt: skip
def test_other_filters_are_no_interval(text):
    assert interval(parse(text), "year") is None
    assert interval(parse("year > 3 and year <= 1e999"), "year") == (math.nextafter(3, 4), math.inf)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A memory of many rows; a third has no year."""
    rows = [{"year": i % 8000, "label": "ab"[i % 2]} if i % 3 else {"label": "c"} for i in range(MANY)]
    memory = Memory.open(tmp_path_factory.mktemp("memory"), 8, "graph")
    memory.add(list(range(MANY)), vectors(MANY), rows)
    return memory


def recall(memory, where, k=10):
    """Of a search against a scan of what its filter selects; and how it went about it."""
    q = vectors(60, seed=1)
    hits, allowed = memory.search(q, k, where), memory.store.select(where)
    keys, away = memory.index.scan(q, k, allowed)
    want = [memory.store.rows(row)["id"].tolist() for row in keys]
    assert [len(row) for row in hits.ids] == [min(k, len(allowed))] * len(q)
    same = np.array(hits.ids, dtype=object) == np.array(want, dtype=object)
    np.testing.assert_allclose(hits.distances[same], away[same], atol=1e-5)
    assert set(memory.store.rows(allowed)["id"]) >= {i for row in hits.ids for i in row}
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(want, hits.ids, strict=True)]), hits.plan.strategy


def test_the_planner_takes_what_suits(filled):
    wide, narrow = "year >= 100 and year < 6100", "year >= 7990"
    found, how = recall(filled, wide)
    assert found >= 0.95 and how == "walk inside the filter"
    filled.prepare("year")
    found, how = recall(filled, wide)
    assert found >= 0.95 and how == "windows" and "range of year" in filled.search(vectors(1), 3, wide).plan.why
    assert recall(filled, narrow) == (1.0, "scan")
    assert recall(filled, "year >= 100 and label != 'c'")[1] == "walk inside the filter"
    assert filled.search(vectors(1), 3).plan.strategy == "walk"
    assert filled.search(vectors(1), 3, "label = 'nobody'").ids == [[]]


def test_prepared_ranges_follow_changes(filled):
    filled.prepare("year")
    where, q = "year >= 100 and year < 6100", vectors(60, seed=1)
    gone = sorted({i for row in filled.search(q, 1, where).ids for i in row})[:40]
    filled.remove(gone)
    filled.upsert(["new", 1], np.stack([q[0], q[1]]), [{"year": 150}, {"year": 2999}])
    found, how = recall(filled, where)
    assert found >= 0.95 and how == "windows"
    hits = filled.search(q[:2], 5, where)
    assert hits.ids[0][0] == "new" and not set(gone) & {i for row in hits.ids for i in row}
    filled.remove([i for i in range(100, 400) if i % 3])
    assert recall(filled, where)[1] == "walk inside the filter"
    filled.prepare("year")
    assert recall(filled, where)[1] == "windows"


def test_a_range_away_from_the_query_is_walked(monkeypatch):
    """Where the field follows the vectors, the way to the range does not lead through all that lies before it."""
    x, keys, computed, search = vectors(MANY, 16), np.arange(MANY), [], WindowSearchTree.search
    x[:, 0] *= 4
    windows, index = Windows("size", keys, x, x[:, 0].astype(float)), ExactIndex(16, "l2")
    index.add(keys, x)
    low, high = np.quantile(x[:, 0], [0.3, 0.9])
    selected = np.flatnonzero((x[:, 0] >= low) & (x[:, 0] <= high))
    queries = x[x[:, 0] < np.quantile(x[:, 0], 0.1)][:60]

    def seen(*given, **options):
        hits = search(*given, **options)
        computed.append(hits.computed.mean())
        return hits

    monkeypatch.setattr(WindowSearchTree, "search", seen)
    found, _ = windows.search(index, queries, 10, (float(low), float(high)), selected)
    want, _ = index.scan(queries, 10, selected)
    assert sum(computed) < len(selected) / 2
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(want.tolist(), found.tolist(), strict=True)]) >= 0.95


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_of_equal_distances_the_first_rows_are_taken(k):
    x = np.random.default_rng(0).integers(0, 2, size=(60, 3)).astype(np.float32)
    x[-1] = 0
    queries = np.concatenate([np.zeros((1, 3), np.float32), x[:4]])
    away = ((x[None] - queries[:, None]) ** 2).sum(2)
    want = np.argsort(away, axis=1, kind="stable")[:, :k]
    found = scan_windows(x, queries, np.zeros(5, np.int64), np.full(5, 60), k)
    for rows, apart in (found, Flat(x).search(queries, k)[:2]):
        assert rows.tolist() == want.tolist() and np.array_equal(apart, np.take_along_axis(away, want, 1))


def test_fields_without_ranges_are_refused(tmp_path):
    memory = Memory.open(tmp_path, 2)
    memory.add([1, 2], np.eye(2), [{"n": 1, "text": "a", "big": 2**60, "inf": float("inf")}, {"n": "b", "none": None}])
    for field, says in [("n", "does not hold numbers"), ("text", "does not hold numbers"), ("none", "does not hold"),
                        ("big", "not told apart"), ("inf", "not finite"), ("other", "no field 'other'")]:  # fmt: skip
        with value_error(says):
            memory.prepare(field)
    with value_error("not ip"):
        Memory.open(tmp_path, metric="ip").prepare("n")
