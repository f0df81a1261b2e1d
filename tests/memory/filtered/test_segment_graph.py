"""The segment graph: which edges exist in which window."""

import numpy as np
import pytest

from tests.memory.filtered.points import K, N, brute, points, queries
from tests.typecheck import value_error
from ziggurat.memory.filtered.filters import Between
from ziggurat.memory.filtered.segment_graph import SegmentGraph
from ziggurat.memory.filtered.segments._kernels import within

LEAPS = (0.0, 0.5, 1.0)


def made(rows=N, leap=0.5, degree=6):
    ids, vectors, table = points()
    order = table["size"].argsort(kind="stable").to_numpy()[:rows]
    index = SegmentGraph("size", degree=degree, beam=25, leap=leap)
    index.add(ids[order], vectors[order], table.iloc[order])
    index.build()
    return index


def edges(index, node, first, last):
    found = np.empty(2 * N, np.int32)
    size = within(node, first, last, index.begin, index.earlier, index.later, index.ends, index.dropped, found)
    return sorted(found[:size].tolist())


@pytest.mark.parametrize("leap", LEAPS)
def test_a_prefix_is_the_graph_that_it_alone_had_made(leap):
    whole = made(leap=leap)
    assert len(whole.dropped) > 0 or leap == 1
    for rows in (1, 2, 50, 333):
        part = made(rows, leap)
        for node in range(rows):
            assert edges(whole, node, 0, rows) == edges(part, node, 0, rows)


@pytest.mark.parametrize("leap", LEAPS)
def test_edges_stay_in_their_window(leap):
    index, rng = made(leap=leap), np.random.default_rng(0)
    assert (index.earlier[:, 1] <= index.earlier[:, 2]).all() and (index.earlier[:, 2] <= index.earlier[:, 0]).all()
    for first, last in np.sort(rng.integers(N + 1, size=(60, 2)), axis=1):
        for node in range(first, last, 17):
            near = edges(index, node, first, last)
            assert len(set(near)) == len(near) and node not in near
            assert all(first <= other < last for other in near)
            assert sum(other < node for other in near) <= 6 and sum(other > node for other in near) <= 12


def test_an_earlier_leap_serves_short_windows_better():
    share = {}
    for leap in LEAPS:
        index = made(leap=leap)
        share[leap] = np.mean([len(edges(index, node, node - 20, node + 1)) for node in range(100, N)])
    assert share[0.0] >= share[0.5] >= share[1.0] and share[0.5] > share[1.0]


@pytest.mark.parametrize("leap", LEAPS)
def test_windows_of_every_length(leap):
    index = made(leap=leap, degree=12)
    ids, vectors, table = points()
    rng, found, there = np.random.default_rng(3), 0, 0
    for query, (low, high) in zip(queries(), np.sort(rng.integers(200, size=(40, 2)), axis=1).astype(float)):
        where = Between("size", low, high)
        hits = index.search(query[None], K, where, beam=40)
        truth = brute((ids, vectors, table), query, where)[0]
        found += np.isin(truth[truth >= 0], hits.ids).sum()
        there += (truth >= 0).sum()
    assert found > 0.95 * there


def test_mistakes_are_said():
    with value_error(
        r"degree must be 2 or more, beam 1 or more, alpha at least 1 and leap in \[0, 1\], got 8, 9, 1.0 and 2."
    ):
        SegmentGraph("size", 8, 9, 1.0, 2)
    ids, vectors, table = points()
    index = SegmentGraph("size")
    index.add(ids, vectors, table.assign(size=np.where(table["size"] > 190, np.nan, table["size"])))
    with value_error("the attribute 'size' has missing values; a segment graph needs a number of each row."):
        index.build()
