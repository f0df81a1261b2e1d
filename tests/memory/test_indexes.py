import sys

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.data import progress
from ziggurat.memory import ExactIndex, GraphIndex, HNSWIndex, hnsw_index, load_index
from ziggurat.memory.indexes import distances, nearest, unit
from ziggurat.memory.votes import distance_weights, plurality_weights, rank_weights, softmax_weights, tally, winner


def vectors(n, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_exact_index_against_a_loop(metric):
    x, q = vectors(50), vectors(5, seed=1)
    index = ExactIndex(8, metric)
    index.add(np.arange(50) + 7, x)
    keys, apart = index.search(q, 4)
    for i in range(5):

        def d(v, i=i):
            if metric == "l2":
                return ((q[i] - v) ** 2).sum()
            return 1 - (q[i] @ v / (np.linalg.norm(q[i]) * np.linalg.norm(v)) if metric == "cosine" else q[i] @ v)

        away = [d(v) for v in x]
        order = np.argsort(away)[:4]
        assert keys[i].tolist() == (order + 7).tolist()
        np.testing.assert_allclose(apart[i], np.array(away)[order], atol=1e-4)


def test_the_smallest_of_every_row():
    found, keys = vectors(40, 60).round(1), np.random.default_rng(1).permutation(60)
    got, values = nearest(found, keys, 7)
    order = np.lexsort((np.broadcast_to(keys, found.shape), found), axis=1)[:, :7]
    assert np.array_equal(got, keys[order]) and np.array_equal(values, np.take_along_axis(found, order, 1))
    assert nearest(found, keys, 99)[0].shape == (40, 60) and nearest(found[:, :0], keys[:0], 3)[0].shape == (40, 0)


def test_exact_ties_go_by_key_and_k_is_cut():
    index = ExactIndex(2, "l2")
    index.add(np.array([9, 3, 5]), np.ones((3, 2), np.float32))
    assert index.search(np.zeros((1, 2), np.float32), 2)[0].tolist() == [[3, 5]]
    assert index.search(np.zeros((1, 2), np.float32), 9)[0].shape == (1, 3)
    assert index.search(np.zeros((1, 2), np.float32), 9, allowed=np.array([5, 77]))[0].tolist() == [[5]]
    assert index.search(np.zeros((0, 2), np.float32), 2)[0].shape == (0, 2)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_exact_search_in_blocks_against_whole_matrices(metric):
    x, q = vectors(9000, 4).round(1), vectors(1100, 4, seed=1).round(1)  # rounded: many equal distances
    keys = np.random.default_rng(2).permutation(9000)
    index = ExactIndex(4, metric)
    for part in np.array_split(np.arange(9000), 7):
        index.add(keys[part], x[part])
    gone, allowed = keys[::5], keys[np.arange(9000) % 5 < 3]
    index.remove(gone)
    index.remove(gone[:3])
    alive = np.arange(9000) % 5 > 0
    assert len(index) == 7200 and set(index.keys()) == set(keys[alive])
    v, u = (unit(x), unit(q)) if metric == "cosine" else (x, q)
    for rows, among in ((np.flatnonzero(alive), None), (np.flatnonzero(alive & np.isin(keys, allowed)), allowed)):
        whole = distances(u, v[rows], metric)
        found, apart = index.search(q, 20, among)
        np.testing.assert_allclose(apart, np.sort(whole, axis=1)[:, :20], atol=1e-5)
        place = {key: i for i, key in enumerate(keys[rows])}
        mine = np.array([[place[key] for key in row] for row in found])
        np.testing.assert_allclose(np.take_along_axis(whole, mine, 1), apart, atol=1e-5)
        same = np.diff(apart) == 0
        assert same.any() and (np.diff(found)[same] > 0).all()


@pytest.mark.parametrize("kind", [HNSWIndex, GraphIndex])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_recall_of_graphs_and_counts_under_filters(kind, metric):
    x, q, most = vectors(17_000, 12), vectors(100, 12, seed=1), 17_000
    exact, graph = ExactIndex(12, metric), kind(12, metric)
    for index in (exact, graph):
        for part in np.array_split(np.arange(most), 3):
            index.add(part, x[part])

    def recall(allowed=None, k=10):
        (want, far), (got, near) = exact.search(q, k, allowed), graph.search(q, k, allowed)
        assert got.shape == want.shape and (np.diff(near) >= 0).all()
        same = got == want
        np.testing.assert_allclose(near[same], far[same], atol=1e-5)
        return np.mean([len(set(a) & set(b)) / k for a, b in zip(want, got, strict=True)])

    assert recall() >= 0.95 and np.array_equal(graph.search(q[:1], 10)[0], graph.search(q, 10)[0][:1])
    assert recall(np.flatnonzero(np.arange(most) % 4)) >= 0.95 and recall(np.arange(0, most, 200)) == 1.0
    assert recall(np.arange(4_000, most + 7)) >= 0.95
    gone = np.arange(0, most, 3)
    for index in (exact, graph):
        index.remove(gone)
        index.add(gone[:10], x[gone[:10]])
    assert recall() >= 0.95 and recall(np.arange(500, most)) >= 0.95
    for index in (exact, graph):
        index.remove(np.arange(0, most - 6_000))
    assert len(graph) == 4_000 and recall() >= 0.95 and recall(k=4_000) == 1.0


@pytest.mark.parametrize("kind", [ExactIndex, HNSWIndex, GraphIndex])
def test_index_round_trip_and_damage(kind, tmp_path):
    index = kind(8)
    index.add(np.arange(3000), vectors(3000))
    index.remove(np.arange(5))
    index.save(tmp_path / "i.npz", 5)
    again, version = load_index(tmp_path / "i.npz")
    assert version == 5 and type(again) is kind and len(again) == 2995
    for one in (index, again):
        one.add(np.array([2, 9000]), vectors(2, seed=3))
    assert np.array_equal(again.search(vectors(30, seed=2), 4)[0], index.search(vectors(30, seed=2), 4)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["i.npz"]
    (tmp_path / "i.npz").write_bytes((tmp_path / "i.npz").read_bytes()[:100])
    with value_error("is damaged"):
        load_index(tmp_path / "i.npz")


@pytest.mark.parametrize(
    "index",
    [
        HNSWIndex(8, "l2", connectivity=8, expansion_add=50, expansion_search=777),
        GraphIndex(8, "l2", degree=8, beam=40, alpha=1.1, random_state=3),
        ExactIndex(8, "ip"),
    ],
)
def test_an_index_comes_back_with_its_arguments(index, tmp_path):
    index.add(np.arange(500), vectors(500))
    index.save(tmp_path / "i.npz", 5)
    again, version = load_index(tmp_path / "i.npz")
    assert version == 5 and again.metric == index.metric
    for name in ("connectivity", "expansion_add", "expansion_search", "degree", "beam", "alpha", "random_state"):
        assert getattr(again, name, None) == getattr(index, name, None)
    if isinstance(index, HNSWIndex):
        assert (again._graph.expansion_search, again._graph.expansion_add) == (777, 50)
        assert again._graph.connectivity == 8
    again.add(np.arange(500, 3000), vectors(2500, seed=1))
    assert again.search(vectors(1), 1)[0].tolist() == [[0]] or again.metric == "ip"


def test_a_file_that_does_not_say_its_arguments_is_built_anew(tmp_path):
    index = GraphIndex(8, degree=8)
    index.add(np.arange(500), vectors(500))
    index.save(tmp_path / "i.npz", 5)
    state = dict(np.load(tmp_path / "i.npz"))
    state["about"] = np.array('{"kind": "graph", "metric": "cosine", "version": 5}')
    np.savez(tmp_path / "i.npz", **state)
    again, version = load_index(tmp_path / "i.npz")
    assert version == -1 and len(again) == 0 and type(again) is GraphIndex and again.dimension == 8


def test_building_a_graph_shows_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_hidden", False)
    monkeypatch.setattr(hnsw_index, "BLOCK", 100)
    index = HNSWIndex(4)
    index.add(np.arange(2100), vectors(2100, 4))
    assert "adding to the graph" in capsys.readouterr().err
    index.remove(np.arange(1, 1700))
    assert "adding to the graph" in capsys.readouterr().err
    assert len(index._graph) == len(index) == 401 and index._walk(unit(vectors(1, 4)), 1, None).tolist() == [[0]]


@pytest.mark.parametrize("factor", [1e18, 1e-24, 1e-40])
def test_rows_of_any_length_have_a_direction(factor):
    x = vectors(9, 1280)
    scaled = (x.astype(np.float64) * factor).astype(np.float32)
    index = ExactIndex(1280)
    index.add(np.arange(9), scaled)
    keys, away = index.search(x, 1)
    assert keys[:, 0].tolist() == list(range(9)) and abs(away).max() < 1e-4  # 1e-40 keeps few digits
    assert not unit(np.zeros((2, 3), np.float32)).any() and unit(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_unit_changes_nothing_for_ordinary_rows():
    x = vectors(9000, 40) * np.float32(3)
    assert np.array_equal(unit(x), x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_equal_rows_are_equally_far_wherever_they_stand(metric):
    x = np.concatenate([vectors(5000, 100), np.tile(vectors(1, 100, seed=2) * 2, (700, 1))])[
        np.random.default_rng(0).permutation(5700)
    ]
    index = ExactIndex(100, metric)
    for part in np.array_split(np.arange(5700), 9):
        index.add(part, x[part])
    same = np.flatnonzero((x == vectors(1, 100, seed=2) * 2).all(1))
    for queries in (1, 17, 1000):
        asked = np.concatenate(
            [vectors(1, 100, seed=2) + vectors(1, 100, seed=4) / 10, vectors(queries - 1, 100, seed=3)]
        )
        for allowed in (None, same[::2]):
            keys, away = index.search(asked, 350 if allowed is not None else 700, allowed)
            assert len(set(away[0].tolist())) == 1 and set(keys[0]) <= set(same)
            assert (np.diff(keys[0]) > 0).all()


def test_plans_follow_what_is_selected():
    graph, hnsw = GraphIndex(4), HNSWIndex(4)
    for index in (graph, hnsw):
        index.add(np.arange(30_000), vectors(30_000, 4))
    asked = [(None, 1), (50, 1), (12_000, 1), (12_000, 10), (20_000, 6000)]
    assert [graph.plan(k, s).strategy for s, k in asked] == ["walk", "scan", *["walk inside the filter"] * 2, "scan"]
    assert [hnsw.plan(k, s).strategy for s, k in asked] == ["walk", "scan", "walk, then filter", "scan", "scan"]
    plan = hnsw.plan(1, 2500)
    assert plan.share == 2500 / 30_000 and str(plan).endswith("(2,500 of 30,000 rows are selected)")


def test_mistakes_are_named():
    with value_error("cosine, l2 or ip"):
        ExactIndex(4, "manhattan")
    with value_error("1 or more"):
        ExactIndex(4).search(np.ones((1, 4)), 0)
    with value_error("takes it"):
        GraphIndex(4, "ip")
    with value_error("alpha at least 1"):
        GraphIndex(4, alpha=0.5)
    with value_error("in the index already"):
        index = ExactIndex(4)
        index.add(np.array([1]), np.ones((1, 4)))
        index.add(np.array([2, 1]), np.ones((2, 4)))


def test_votes():
    labels, apart = np.array([[2, 3, 3, 1, 1]]), np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])
    assert winner(labels, plurality_weights(apart), 4).tolist() == [3]
    assert winner(np.array([[0, 1]]), plurality_weights(apart[:, :2]), 2).tolist() == [0]
    np.testing.assert_allclose(rank_weights(apart), [[1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]])
    np.testing.assert_allclose(distance_weights(apart), np.exp(-apart))
    np.testing.assert_allclose(softmax_weights(apart)[0, [0, 4]], [np.exp(0.9 / 0.07), np.exp(0.5 / 0.07)])
    close = np.array([[0.300, 0.302, 0.304, 0.306]])  # nearly equal distances have nearly equal votes
    assert winner(np.array([[0, 1, 1, 1]]), softmax_weights(close), 2).tolist() == [1]
    assert tally(np.array([[1, -1, 1]]), np.array([[1.0, 9.0, 2.0]]), 3).tolist() == [[0, 3, 0]]
    assert winner(labels, rank_weights(apart), 4).tolist() == [3]


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_one_query_alone_finds_what_it_finds_among_many(metric):
    rng = np.random.default_rng(0)
    index = ExactIndex(24, metric)
    index.add(np.arange(70_000), rng.normal(size=(70_000, 24)).astype(np.float32))  # more than one block of few queries
    queries = rng.normal(size=(5, 24)).astype(np.float32)
    keys, away = index.search(queries, 7)
    for i in range(5):
        alone, distance = index.search(queries[i : i + 1], 7)
        assert (alone[0] == keys[i]).all()
        np.testing.assert_allclose(distance[0], away[i], rtol=1e-5, atol=1e-5)
    some = np.arange(0, 70_000, 3)
    assert (index.search(queries[:1], 7, some)[0][0] == index.search(queries, 7, some)[0][0]).all()
