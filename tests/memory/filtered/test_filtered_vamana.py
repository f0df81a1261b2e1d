"""Filtered-DiskANN's pruning, and its starts."""

import numpy as np
import pytest

from tests.memory.filtered.points import K, filled, points, queries, selected
from tests.typecheck import value_error
from ziggurat.memory.filtered._kernels import prune, search_graph
from ziggurat.memory.filtered.filtered_vamana import FilteredVamana
from ziggurat.memory.filtered.filters import Contains, Equals
from ziggurat.memory.filtered.walks._kernels import covered, prune_labelled


def csr(sets):
    sizes = np.cumsum([0, *(len(one) for one in sets)])
    return np.array([label for one in sets for label in sorted(one)], np.int64), sizes


def test_coverage_is_that_of_sets():
    rng = np.random.default_rng(0)
    sets = [set(rng.choice(9, rng.integers(1, 6), replace=False).tolist()) for _ in range(40)]
    labels, first = csr(sets)
    for a, b, w in rng.integers(40, size=(500, 3)):
        assert covered(labels, first, a, b, w) == (sets[a] & sets[b] <= sets[w])


@pytest.mark.parametrize("alpha", [1.0, 1.3])
def test_pruning(alpha):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 3)).astype(np.float32)
    ids, node = np.arange(1, 60, dtype=np.int32), 0
    away = ((vectors[ids] - vectors[node]) ** 2).sum(1).astype(np.float32)
    sets = [{int(i)} if i < 2 else {0, 1} if i % 3 else {0} for i in range(60)]
    sets[0] = {0, 1}
    labels, first = csr(sets)
    one, two = np.empty(20, np.int32), np.empty(20, np.int32)
    size = prune_labelled(vectors, labels, first, node, ids, away, len(ids), 20, alpha, one)
    kept: list[int] = []
    for i in away.argsort():
        c = ids[i]
        drops = [
            w for w in kept
            if sets[node] & sets[c] <= sets[w] and alpha**2 * ((vectors[w] - vectors[c]) ** 2).sum() <= away[i]
        ]  # fmt: skip
        if not drops:
            kept.append(int(c))
    assert one[:size].tolist() == kept[:20]
    alike, begin = csr([{0}] * 60)
    size = prune_labelled(vectors, alike, begin, node, ids, away, len(ids), 20, alpha, one)
    assert size == prune(vectors, node, ids, away, len(ids), 20, alpha, two) and (one[:size] == two[:size]).all()


@pytest.mark.parametrize("name", ["kind", "tags"])
def test_graph(name):
    index = filled(name)
    index.build()
    table, own = points()[2], index.neighbours >= 0
    assert (own[:, :-1] >= own[:, 1:]).all() and (index.neighbours[own] != np.nonzero(own)[0]).all()
    for value, start in index.starts.items():
        where = (Equals if name == "kind" else Contains)(name, value)
        assert selected(where, table)[start]
    if name == "kind":  # points of one label each: no edge leads from one label to another
        kinds = table["kind"].to_numpy()
        assert all((kinds[index.neighbours[i][own[i]]] == kinds[i]).all() for i in range(len(kinds)))
    values = list(index.starts.values())
    assert len(set(values)) > 0.9 * len(values), "starts are shared out"


def test_the_label_of_all_is_a_plain_graph():
    index = filled("tags")
    hits = index.search(queries(), K, Contains("tags", 0), beam=20)
    rows, _, computed = search_graph(index.vectors, index.neighbours, index.starts[0], queries(), K, 20)
    assert (hits.ids == index.ids[rows]).all() and (hits.computed == computed).all()


def test_mistakes_are_said():
    with value_error(
        "degree must be 2 or more, beam and tries 1 or more and alpha at least 1, got 1, 100, 50 and 1.2."
    ):
        FilteredVamana("kind", degree=1)
