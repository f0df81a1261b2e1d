import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.memory import ExactIndex, GraphIndex, HNSWIndex, load_index
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
