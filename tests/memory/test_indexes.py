import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.memory import ExactIndex, HNSWIndex, load_index
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


def test_exact_ties_go_by_key_and_k_is_cut():
    index = ExactIndex(2, "l2")
    index.add(np.array([9, 3, 5]), np.ones((3, 2), np.float32))
    assert index.search(np.zeros((1, 2), np.float32), 2)[0].tolist() == [[3, 5]]
    assert index.search(np.zeros((1, 2), np.float32), 9)[0].shape == (1, 3)
    assert index.search(np.zeros((1, 2), np.float32), 9, allowed=np.array([5, 77]))[0].tolist() == [[5]]
    assert index.search(np.zeros((0, 2), np.float32), 2)[0].shape == (0, 2)


def test_hnsw_recall_and_exact_counts_under_filters():
    x, q = vectors(20_000, 16), vectors(100, 16, seed=1)
    exact, graph = ExactIndex(16), HNSWIndex(16)
    for index in (exact, graph):
        index.add(np.arange(20_000), x)

    def recall(allowed=None):
        want, got = exact.search(q, 10, allowed)[0], graph.search(q, 10, allowed)[0]
        assert got.shape == want.shape
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(want, got, strict=True)])

    assert recall() >= 0.95
    assert recall(np.arange(0, 20_000, 3)) >= 0.95 and recall(np.arange(0, 20_000, 200)) == 1.0
    gone = np.arange(0, 20_000, 2)
    exact.remove(gone)
    graph.remove(gone)
    assert recall() >= 0.95 and (graph.search(q, 10)[0] % 2 == 1).all()


@pytest.mark.parametrize("kind", [ExactIndex, HNSWIndex])
def test_index_round_trip_and_damage(kind, tmp_path):
    index = kind(8)
    index.add(np.arange(30), vectors(30))
    index.save(tmp_path / "i.npz", 5)
    again, version = load_index(tmp_path / "i.npz")
    assert version == 5 and type(again) is kind
    assert np.array_equal(again.search(vectors(3, seed=2), 4)[0], index.search(vectors(3, seed=2), 4)[0])
    (tmp_path / "i.npz").write_bytes((tmp_path / "i.npz").read_bytes()[:100])
    with value_error("is damaged"):
        load_index(tmp_path / "i.npz")


def test_mistakes_are_named():
    with value_error("cosine, l2 or ip"):
        ExactIndex(4, "manhattan")
    with value_error("1 or more"):
        ExactIndex(4).search(np.ones((1, 4)), 0)


def test_votes():
    labels, apart = np.array([[2, 3, 3, 1, 1]]), np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])
    assert winner(labels, plurality_weights(apart), 4).tolist() == [3]
    assert winner(np.array([[0, 1]]), plurality_weights(apart[:, :2]), 2).tolist() == [0]
    np.testing.assert_allclose(rank_weights(apart), [[1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]])
    np.testing.assert_allclose(distance_weights(apart), np.exp(-apart))
    np.testing.assert_allclose(softmax_weights(apart)[0, 0], np.exp(1 / 0.07))
    assert tally(np.array([[1, -1, 1]]), np.array([[1.0, 9.0, 2.0]]), 3).tolist() == [[0, 3, 0]]
    assert winner(labels, rank_weights(apart), 4).tolist() == [3]
