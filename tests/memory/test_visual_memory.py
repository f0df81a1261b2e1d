import importlib.util

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.memory import ExactIndex, HNSWIndex, Memory, VisualMemory
from ziggurat.memory.indexes import unit
from ziggurat.memory.visual_memory import VOTES, MemoryPruner
from ziggurat.memory.votes import rank_weights, softmax_weights, winner


def sample(n=60, d=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = rng.normal(size=(n, d)).astype(np.float32)
    x[:, 0] += 3 * (labels == 0)
    x[:, 1] += 3 * (labels == 1)
    return x, labels


def memory(tmp_path, name="m", n=60):
    x, labels = sample(n)
    made = VisualMemory(Memory.open(tmp_path / name, 5))
    made.add(list(range(n)), x, [{"label": f"c{c}", "kind": "even" if c % 2 == 0 else "odd"} for c in labels])
    return made


@pytest.mark.fact("visual_memory", 1)
def test_rank_weights_and_ties_of_plurality():
    np.testing.assert_allclose(rank_weights(np.zeros((1, 4)))[0], [1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert winner(np.array([[0, 1]]), np.ones((1, 2)), 2).tolist() == [0]
    assert winner(np.array([[2, 3, 3, 1, 1]]), np.ones((1, 5)), 4).tolist() == [3]


@pytest.mark.fact("visual_memory", 2)
def test_only_rank_voting_ignores_the_distances():
    rng = np.random.default_rng(0)
    away = np.sort(rng.random((50, 20)), 1)
    labels = rng.integers(0, 4, size=(50, 20))
    bent = away**5 + 2
    assert np.array_equal(winner(labels, rank_weights(away), 4), winner(labels, rank_weights(bent), 4))
    assert not np.array_equal(winner(labels, softmax_weights(away), 4), winner(labels, softmax_weights(bent), 4))


@pytest.mark.fact("visual_memory", 3)
def test_with_one_neighbour_all_votes_agree(tmp_path):
    made, (queries, _) = memory(tmp_path), sample(20, seed=1)
    said = [made.predict(queries, 1, vote).labels for vote in VOTES]
    assert all(labels == said[0] for labels in said)


@pytest.mark.fact("visual_memory", 4)
def test_removing_restores_every_decision_and_order_does_not_matter(tmp_path):
    made, (queries, _) = memory(tmp_path), sample(30, seed=1)
    before = made.predict(queries, 10)
    x, labels = sample(25, seed=2)
    made.add([f"new{i}" for i in range(25)], x, [{"label": f"c{c}"} for c in labels])
    assert made.predict(queries, 10).labels != before.labels or made.predict(queries, 10).hits.ids != before.hits.ids
    assert made.remove([f"new{i}" for i in range(25)]) == 25
    after = made.predict(queries, 10)
    assert after.labels == before.labels and after.hits.ids == before.hits.ids
    assert np.array_equal(after.weights, before.weights)
    x, labels = sample(60)
    other = VisualMemory(Memory.open(tmp_path / "other", 5))
    order = np.random.default_rng(3).permutation(60)
    other.add(order.tolist(), x[order], [{"label": f"c{labels[i]}"} for i in order])
    assert other.predict(queries, 10).labels == before.labels


@pytest.mark.fact("visual_memory", 5)
def test_indexes_agree_and_the_graph_recalls():
    rng = np.random.default_rng(0)
    x = unit(rng.normal(size=(20_000, 16)).astype(np.float32))
    queries = unit(rng.normal(size=(200, 16)).astype(np.float32))
    keys = np.arange(len(x))
    exact = ExactIndex(16)
    exact.add(keys, x)
    want, _ = exact.search(queries, 10)
    assert np.array_equal(want, np.argsort(-(queries @ x.T), 1, kind="stable")[:, :10])
    graph = HNSWIndex(16, expansion_search=200)
    graph.add(keys, x)
    found, _ = graph.search(queries, 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, want, strict=True)]) >= 0.95
    if importlib.util.find_spec("faiss") is None:
        pytest.skip("peer: faiss is absent")
    import faiss

    flat = faiss.IndexFlatIP(16)
    flat.add(x)
    assert np.array_equal(flat.search(queries, 10)[1], want)


def test_lancedb_without_an_index_returns_the_same_ids(tmp_path):
    import lancedb

    rng = np.random.default_rng(1)
    x, queries = (unit(rng.normal(size=(n, 8)).astype(np.float32)) for n in (300, 5))
    exact = ExactIndex(8)
    exact.add(np.arange(300), x)
    want, _ = exact.search(queries, 10)
    table = lancedb.connect(tmp_path).create_table("t", [{"id": i, "vector": v.tolist()} for i, v in enumerate(x)])
    for query, row in zip(queries, want, strict=True):
        assert [r["id"] for r in table.search(query).distance_type("cosine").limit(10).to_list()] == row.tolist()


def test_decisions_by_hand_with_filters_and_levels(tmp_path):
    made = VisualMemory(Memory.open(tmp_path / "m", 2))
    angles = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    vectors = np.array([[np.cos(t), np.sin(t)] for t in angles.values()], np.float32)
    rows = [{"label": name, "group": group} for name, group in zip("xyyx", ("p", "p", "q", "q"), strict=True)]
    made.add(list(angles), vectors, rows)
    query = np.array([[1.0, 0.0]])
    seen = made.predict(query, 3)
    assert seen.hits.ids == [["a", "b", "c"]] and seen.labels == ["y"]  # 1/2 against 1/3 + 1/4
    np.testing.assert_allclose(seen.weights, [[1 / 2, 1 / 3, 1 / 4]])
    assert made.predict(query, 2).labels == ["x"]
    assert made.predict(query, 4, where="group = 'q'").hits.ids == [["c", "d"]]
    np.testing.assert_allclose(made.predict(query, 4, where="group = 'q'").weights, [[1 / 2, 1 / 3]])
    assert made.predict(query, 3, "plurality", label="group").labels == ["p"]


def test_pruning_by_hand(tmp_path):
    made = VisualMemory(Memory.open(tmp_path / "m", 2))
    turn = np.array([0.0, 0.1, 0.25, 0.45, 2.0, 2.1, 2.25, 2.45])
    labels = ["x", "x", "y", "x", "y", "y", "y", "y"]  # the third is wrong
    made.add(list(range(8)), np.stack([np.cos(turn), np.sin(turn)], 1), [{"label": c} for c in labels])
    pruner = MemoryPruner(2).fit(made)
    seen = {0: {1, 2}, 1: {0, 2}, 2: {1, 3}, 3: {2, 1}, 4: {5, 6}, 5: {4, 6}, 6: {5, 7}, 7: {6, 5}}
    for i in range(8):
        asked = [q for q, near in seen.items() if i in near]
        misled = [q for q in asked if labels[q] != labels[i]]
        place = pruner.ids_.index(i)
        assert (pruner.appearances_[place], pruner.misled_[place]) == (len(asked), len(misled))
    assert pruner.reliability_[pruner.ids_.index(2)] == 0
    query = np.array([[np.cos(0.26), np.sin(0.26)]])
    assert made.predict(query, 1).labels == ["y"] and made.predict(query, 2).labels == ["y"]
    assert made.prune("hard", 2) == 2 and len(made) == 8  # and the fourth, whose one asker is the wrong one
    seen = made.predict(query, 2)
    assert seen.labels == ["x"] and seen.weights.tolist() == [[0, 0.5]], "the silenced neighbour takes no rank"
    assert made.predict(query, 1).labels == ["y"], "where all neighbours are silenced, they keep their vote"
    assert made.prune("soft", 2) >= 1 and made.predict(query, 2).labels == ["x"]
    assert made.prune("none") == 0 and made.predict(query, 2).labels == ["y"]


def test_an_encoder_takes_inputs(tmp_path):
    made = VisualMemory(Memory.open(tmp_path / "m", 3), encoder=lambda images: np.asarray(images).mean((2, 3)))
    images = np.random.default_rng(0).random((4, 3, 5, 5))
    made.add(list("abcd"), images, [{"label": i} for i in range(4)])
    assert made.predict(images, 1).labels == [0, 1, 2, 3]


def test_an_example_that_comes_again_has_its_vote(tmp_path):
    made = memory(tmp_path)
    made.reliability[3] = 0.0
    made.memory.remove([3])
    made.add([3], sample()[0][3:4], [{"label": "c0", "kind": "even"}])
    assert made.reliability == {}
    assert made.predict(np.zeros((0, 5), np.float32), 3).labels == []


def test_mistakes_are_named(tmp_path):
    made = memory(tmp_path)
    with value_error("metric 'l2'"):
        VisualMemory(Memory.open(tmp_path / "l2", 5, metric="l2"))
    with value_error("vote must be one of"):
        made.predict(np.ones((1, 5)), vote="loud")
    with value_error("needs its label"):
        made.add(["z"], np.ones((1, 5)), [{"kind": "even"}])
    with value_error("nobody can vote"):
        made.predict(np.ones((1, 5)), where="kind = 'none'")
    with value_error("the example 0 has no 'grup'; it has 'label', 'kind'"):
        made.predict(sample()[0][:1], 3, label="grup")
    with value_error("some examples have no 'grup'"):
        MemoryPruner(3).fit(VisualMemory(made.memory, "grup"))
    with value_error("k of 1 or more"):
        made.predict(np.ones((1, 5)), k=0)
    with value_error("mode must be"):
        made.prune("gently")
    with value_error("k must be 1 or more"):
        MemoryPruner(0)
