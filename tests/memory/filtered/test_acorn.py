"""ACORN's lists and walks against plain ones."""

import re

import numpy as np
import pytest

from tests.memory.filtered.points import K, N, filled, points, queries
from tests.typecheck import value_error
from ziggurat.memory.filtered._kernels import search_graph
from ziggurat.memory.filtered.acorn import Acorn1Index, AcornIndex
from ziggurat.memory.filtered.filters import Equals
from ziggurat.memory.filtered.inner import Flat
from ziggurat.memory.filtered.walks._kernels import compress


@pytest.mark.fact("filtered_ann_benchmark", 5)
@pytest.mark.parametrize("beam", [5, 12, 60])
def test_gamma_one_and_no_filter_is_beam_search(beam):
    index = AcornIndex(degree=12, gamma=1, direct=12)
    index.add(*points())
    index.build()
    index.places, index.upper = index.places[:1], index.upper[:0]  # the lowest layer alone
    hits = index.search(queries(), K, Equals("all", 1), beam)
    lists = np.ascontiguousarray(index.base[:, :12])
    rows, away, computed = search_graph(index.vectors, lists, index.start, queries(), K, beam)
    assert (hits.ids == index.ids[rows]).all() and (hits.computed == computed).all()
    np.testing.assert_allclose(hits.distances, away)


def test_layers():
    index = filled("acorn")
    index.build()
    own = index.base >= 0
    assert (own[:, :-1] >= own[:, 1:]).all(), "padding stands last"
    assert (index.base[own] != np.nonzero(own)[0]).all()
    away = ((index.vectors[index.base] - index.vectors[:, None]) ** 2).sum(-1)
    assert (np.diff(away, axis=1)[own[:, 1:]] >= -1e-4).all(), "the nearest come first"
    counts = [int((np.diff(np.append(index.places[1], len(index.upper))) >= level).sum()) for level in (1, 2)]
    assert abs(counts[0] - N / 8) < 4 * (N / 8) ** 0.5 and counts[1] < counts[0] / 3
    assert index.upper.max() < N and index.bytes > 0


def naive(base, ids, direct, most, room):
    kept, reached = [], set()
    for i, one in enumerate(ids):
        if i >= direct:
            if one in reached:
                continue
            if len(kept) + len(reached) >= most:
                break
            reached |= {other for other in base[one] if other >= 0}
        kept.append(i)
        if len(kept) == room:
            break
    return kept


@pytest.mark.parametrize("direct, most, room", [(4, 30, 12), (1, 10, 20), (8, 1000, 40), (8, 1000, 9)])
def test_compression(direct, most, room):
    rng = np.random.default_rng(0)
    base = rng.integers(-1, 60, size=(60, 6)).astype(np.int32)
    base = -np.sort(-base, axis=1)
    ids, kept, marked = rng.permutation(60)[:40].astype(np.int32), np.empty(room, np.int64), np.zeros(61, np.int64)
    size = compress(base, ids, len(ids), direct, most, marked, kept)
    assert kept[:size].tolist() == naive(base, ids.tolist(), direct, most, room)


def test_expansion_replaces_what_the_filter_takes():
    """Under a filter for one in twenty, the plain lists fall apart; two steps keep them together."""
    index = filled("acorn1")
    truth = filled("pre").search(queries(), K, Equals("kind", "dog"))
    hits = index.search(queries(), K, Equals("kind", "dog"), beam=40)
    assert (hits.ids == truth.ids).mean() > 0.95
    assert hits.computed.max() <= 1 + (points()[2]["kind"] == "dog").sum()


def test_mistakes_are_said():
    with value_error("degree must be 2 or more, gamma 1 or more and direct 1 to degree . gamma, got 8, 1, 9."):
        AcornIndex(8, 1, 9)
    index = Acorn1Index(Flat)
    index.add(*points())
    with value_error(re.escape("make must build a Vamana graph, got a Flat.")):
        index.build()
