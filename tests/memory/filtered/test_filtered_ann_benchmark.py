"""The benchmark's tables, against what they are made of."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.memory.filtered.points import K, N, brute, filled, filters, points, queries, selected
from tests.typecheck import value_error
from ziggurat.memory.filtered.filtered_ann_benchmark import FilteredANNBenchmark, ndis_at, pareto, qps_at
from ziggurat.memory.filtered.filters import Equals
from ziggurat.memory.filtered.strategies import PreFilter

NAMES = ("pre", "post", "acorn", "kind", "segments")
BEAMS = (5, 20, 80)


@pytest.fixture(scope="module")
def asked():
    """Vectors and filters that select something."""
    table = points()[2]
    return [(x, one) for x, one in zip(queries(123), filters(), strict=True) if selected(one, table).any()]


@pytest.fixture(scope="module")
def benchmark(asked):
    return FilteredANNBenchmark(*points()[1:], asked)


@pytest.fixture(scope="module")
def table(benchmark):
    return benchmark.run({name: filled(name) for name in NAMES}, K, BEAMS)


def test_cells(benchmark, asked):
    attributes = points()[2]
    share = [selected(one, attributes).mean() for _, one in asked]
    assert np.allclose(benchmark.cells["selectivity"], share)
    assert (np.abs(-np.log2(share) - benchmark.cells["bin"]) <= 0.5 + 1e-9).all()
    assert set(benchmark.cells["filter"]) == {"EM", "R", "EMIS"}


def test_rows(benchmark, table, asked):
    cells = benchmark.cells.groupby(["filter", "bin"]).size()
    rows = table.groupby("method").size()
    assert (rows[["pre", "post", "acorn"]] <= len(cells) * len(BEAMS)).all()
    assert set(table.loc[table["method"] == "kind", "filter"]) == {"EM"}
    assert set(table.loc[table["method"] == "segments", "filter"]) == {"R"}
    exact = table[table["method"] == "pre"].set_index(["filter", "bin"])
    assert (exact["recall"] == 1).all() and (exact["beam"] == BEAMS[0]).all(), "a full recall ends the sweep"
    np.testing.assert_allclose(exact["ndis"], exact["selectivity"] * N)
    assert exact["queries"].to_dict() == cells.to_dict() and (table["qps"] > 0).all()


def test_recall_is_that_of_brute_force(benchmark, table):
    given, index = points(), filled("acorn")
    at = benchmark.cells.query("filter == 'R' and bin == 1").index
    hits = index.search(benchmark.queries[at], K, [benchmark.filters[i] for i in at], beam=BEAMS[0])
    found = [
        np.isin(brute(given, benchmark.queries[i], benchmark.filters[i])[0], ids).mean()
        for i, ids in zip(at, hits.ids, strict=True)
    ]
    row = table.query("method == 'acorn' and filter == 'R' and bin == 1 and beam == @BEAMS[0]")
    np.testing.assert_allclose(row["recall"], np.mean(found))
    np.testing.assert_allclose(row["ndis"], hits.computed.mean())


def test_empty_methods_are_filled_and_enough_ends_a_sweep(benchmark):
    methods = {"acorn": filled("acorn")}
    whole, part = benchmark.run(methods, K, BEAMS), benchmark.run(methods, K, BEAMS, enough=0.5)
    ends = part.groupby(["filter", "bin"]).last()
    assert len(part) < len(whole) and ((ends["recall"] >= 0.5) | (ends["beam"] == BEAMS[-1])).all()
    empty = {"pre": PreFilter()}
    benchmark.run(empty, K)
    assert len(empty["pre"]) == N


def test_fronts_and_best_rates():
    rows = [
        ("a", 1, 0.5, 9.0, 10),
        ("a", 2, 0.9, 5.0, 20),
        ("b", 1, 0.9, 4.0, 15),
        ("b", 2, 1.0, 1.0, 60),
        ("c", 1, 0.8, 5.0, 90),
    ]
    made = pd.DataFrame(rows, columns=["method", "beam", "recall", "qps", "ndis"]).assign(filter="EM", bin=3)
    other = made.assign(bin=4, recall=0.6)
    table = pd.concat([made, other], ignore_index=True)
    front = pareto(table)
    assert front[front["bin"] == 3][["method", "beam"]].to_numpy().tolist() == [["b", 2], ["a", 2], ["a", 1]]
    assert front[front["bin"] == 4][["method", "beam"]].to_numpy().tolist() == [["a", 1]]
    rates, distances = qps_at(table, 0.85), ndis_at(table, 0.85)
    assert rates.loc[("EM", 3)].to_dict() == pytest.approx({"a": 5.0, "b": 4.0, "c": np.nan}, nan_ok=True)
    assert distances.loc[("EM", 3)].to_dict() == pytest.approx({"a": 20, "b": 15, "c": np.nan}, nan_ok=True)
    assert rates.loc[("EM", 4)].isna().all()


def test_no_row_of_a_front_is_beaten(table):
    front = pareto(table)
    for cell, rows in table.groupby(["filter", "bin"]):
        mine = front[(front["filter"] == cell[0]) & (front["bin"] == cell[1])]
        for row in rows.itertuples():
            beaten = ((rows["recall"] >= row.recall) & (rows["qps"] > row.qps)).any()
            assert (row.Index in mine.index) == (not beaten)


def test_mistakes_are_said(benchmark):
    with value_error("a benchmark needs at least one query."):
        FilteredANNBenchmark(*points()[1:], [])
    with value_error(re.escape("the filter Equals(field='kind', value='fox') selects no row; leave its queries out.")):
        FilteredANNBenchmark(*points()[1:], [(queries()[0], Equals("kind", "fox"))])
    index = filled("acorn")
    index.ids = index.ids[:-1]
    with value_error(f"the method 'acorn' holds {N - 1} rows instead of {N}."):
        benchmark.run({"acorn": index})
