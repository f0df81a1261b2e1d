import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.typecheck import value_error
from ziggurat.memory import ExactIndex, HNSWIndex, LanceStore, Memory, load_index
from ziggurat.memory.indexes import distances, unit
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


def test_memory_search_filters_edits_and_reopens(tmp_path):
    memory = Memory.open(tmp_path, 8)
    x = vectors(6)
    memory.add([1, "1", "b", "c", 5, 6], x, [{"label": w, "year": y} for w, y in zip("aabbcc", range(6), strict=True)])
    hits = memory.search(x[1], k=3)
    assert hits.ids[0][0] == "1" and hits.distances[0, 0] == pytest.approx(0, abs=1e-5)
    assert hits.metadata[0][0] == {"label": "a", "year": 1}
    assert set(memory.search(x, 10, where="label = 'b'").ids[0]) == {"b", "c"}
    assert memory.search(x[0], 10, where="year > 100").ids == [[]]
    memory.upsert([1], x[5:6], [{"label": "z"}])
    assert {memory.search(x[5], 2).ids[0][0], memory.search(x[5], 2).ids[0][1]} == {1, 6}
    assert memory.remove(["b", "nobody"]) == 1 and len(memory) == 5
    assert memory.get([1, "b"])[1] is None and memory.get([1])[0]["metadata"] == {"label": "z"}
    memory.save_index()
    again = Memory.open(tmp_path)
    assert again.search(x[5], 3).ids == memory.search(x[5], 3).ids
    assert "<table>" in hits._repr_html_()


def test_equal_distances_are_ordered_by_id(tmp_path):
    memory = Memory.open(tmp_path, 2)
    memory.add(["b", "a", "c"], np.ones((3, 2)))
    assert memory.search(np.ones(2), 3).ids == [["a", "b", "c"]]


def test_a_second_handle_sees_changes(tmp_path):
    one = Memory.open(tmp_path, 8)
    one.add([1, 2], vectors(2))
    two = Memory.open(tmp_path)
    assert len(two) == 2
    one.remove([1])
    assert two.search(vectors(1), 5).ids == [[2]]
    two.add([3], vectors(1, seed=3))
    assert sorted(one.search(vectors(1), 5).ids[0]) == [2, 3]


def test_mistakes_are_named(tmp_path):
    store = LanceStore(tmp_path / "s", 4)
    store.add(["a"], np.ones((1, 4)))
    cases = [
        (lambda: store.add(["a"], np.ones((1, 4))), "use upsert"),
        (lambda: store.add(["b", "b"], np.ones((2, 4))), "come twice"),
        (lambda: store.add(["b"], np.ones((1, 3))), "3 numbers.*holds 4"),
        (lambda: store.add(["b"], np.full((1, 4), np.nan)), "not finite"),
        (lambda: store.add(["b", "c"], np.ones((1, 4))), "one row for each id"),
        (lambda: store.add([1.5], np.ones((1, 4))), "a text or a whole number"),
        (lambda: store.add(["b"], np.ones((1, 4)), [{"x": object()}]), "metadata may hold"),
        (lambda: LanceStore(tmp_path / "s", 5), "vectors of 4 numbers, not 5"),
        (lambda: Memory.open(tmp_path / "none"), "say the dimension"),
        (lambda: ExactIndex(4, "manhattan"), "cosine, l2 or ip"),
        (lambda: ExactIndex(4).search(np.ones((1, 4)), 0), "1 or more"),
    ]
    for call, says in cases:
        with value_error(says):
            call()
    assert len(store) == 1


def test_a_damaged_store_is_one_sentence(tmp_path):
    store = LanceStore(tmp_path, 4)
    store.add(["a"], np.ones((1, 4)))
    for file in (tmp_path / "memory.lance").rglob("*.manifest"):
        file.write_bytes(file.read_bytes()[:10])
    with value_error("damaged"):
        len(LanceStore(tmp_path))


def test_searching_while_adding(tmp_path):
    memory = Memory.open(tmp_path, 8)
    memory.add(list(range(20)), vectors(20))
    failures = []

    def search():
        try:
            for _ in range(15):
                hits = memory.search(vectors(2, seed=4), 10)
                assert len(hits.ids[0]) == 10 and (np.diff(hits.distances) >= 0).all()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for t in threads:
        t.start()
    for i in range(10):
        memory.add([100 + i], vectors(1, seed=i))
    for t in threads:
        t.join()
    assert not failures and len(memory) == 30


def test_votes():
    labels, apart = np.array([[2, 3, 3, 1, 1]]), np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])
    assert winner(labels, plurality_weights(apart), 4).tolist() == [3]
    assert winner(np.array([[0, 1]]), plurality_weights(apart[:, :2]), 2).tolist() == [0]
    np.testing.assert_allclose(rank_weights(apart), [[1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]])
    np.testing.assert_allclose(distance_weights(apart), np.exp(-apart))
    np.testing.assert_allclose(softmax_weights(apart)[0, 0], np.exp(1 / 0.07))
    assert tally(np.array([[1, -1, 1]]), np.array([[1.0, 9.0, 2.0]]), 3).tolist() == [[0, 3, 0]]
    assert winner(labels, rank_weights(apart), 4).tolist() == [3]


class Machine(RuleBasedStateMachine):
    """A memory against a dict and exact search."""

    kind = "exact"

    @initialize()
    def start(self):
        self.folder = tempfile.TemporaryDirectory()
        self.memory = Memory.open(self.folder.name, 3, index=self.kind)
        self.truth: dict = {}

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def rows(self, ids, seed):
        return vectors(len(ids), 3, seed), [{"group": int(i) % 3} for i in range(len(ids))]

    @rule(ids=st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True), seed=st.integers(0, 99))
    def upsert(self, ids, seed):
        x, metadata = self.rows(ids, seed)
        self.memory.upsert(ids, x, metadata)
        self.truth.update({i: (v, m) for i, v, m in zip(ids, x, metadata, strict=True)})

    @rule(ids=st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True), seed=st.integers(0, 99))
    def add(self, ids, seed):
        x, metadata = self.rows(ids, seed)
        if set(ids) & set(self.truth):
            with value_error("use upsert"):
                self.memory.add(ids, x, metadata)
        else:
            self.memory.add(ids, x, metadata)
            self.truth.update({i: (v, m) for i, v, m in zip(ids, x, metadata, strict=True)})

    @rule(ids=st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True))
    def remove(self, ids):
        assert self.memory.remove(ids) == len(set(ids) & set(self.truth))
        for i in ids:
            self.truth.pop(i, None)

    @rule()
    def reopen(self):
        self.memory.save_index()
        self.memory = Memory.open(self.folder.name, index=self.kind)

    @rule(k=st.integers(1, 6), group=st.none() | st.integers(0, 3), seed=st.integers(0, 9))
    @precondition(lambda self: self.truth)
    def search(self, k, group, seed):
        q = vectors(1, 3, 1000 + seed)
        hits = self.memory.search(q, k, None if group is None else f"group = {group}")
        alive = {i: v for i, (v, m) in self.truth.items() if group is None or m["group"] == group}
        assert len(hits.ids[0]) == min(k, len(alive))
        assert set(hits.ids[0]) <= set(alive) and (np.diff(hits.distances[0]) >= 0).all()
        if alive:
            away = dict(zip(alive, distances(unit(q), unit(np.stack(list(alive.values()))), "cosine")[0], strict=True))
            want = sorted(away.values())[:k]
            np.testing.assert_allclose(hits.distances[0], want, atol=1e-5)

    @invariant()
    def counts(self):
        if hasattr(self, "truth"):
            assert len(self.memory) == len(self.truth)


class GraphMachine(Machine):
    kind = "hnsw"


TestExactMachine = Machine.TestCase
TestGraphMachine = GraphMachine.TestCase
TestExactMachine.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestGraphMachine.settings = TestExactMachine.settings


WRITER = """
import sys, numpy as np
from ziggurat.memory.stores import LanceStore
store = LanceStore(sys.argv[1], 4)
i = 0
while True:
    ids = [f"{i}-{j}" for j in range(5)]
    print("begin", i, flush=True)
    store.add(ids, np.full((5, 4), i, np.float32), [{"n": i}] * 5)
    print("done", i, flush=True)
    i += 1
"""


def kill_trial(folder, delay):
    """True when a write was interrupted; asserts that acknowledged rows are there and batches are whole."""
    environment = {**os.environ, "ZIGGURAT_TYPECHECK": "0"}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert writer.stdout is not None
    lines = []
    for line in writer.stdout:
        lines.append(line)
        if line.startswith("done"):
            break
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.read().splitlines(keepends=True)
    writer.wait()
    begun = sum(line.startswith("begin") and line.endswith("\n") for line in lines)
    done = sum(line.startswith("done") and line.endswith("\n") for line in lines)
    found = LanceStore(folder).scan()["id"].tolist()
    batches = {i: [name for name in found if name.startswith(f"{i}-")] for i in range(begun + 1)}
    assert all(len(batches[i]) == 5 for i in range(done)), "something acknowledged is lost"
    assert all(len(names) in (0, 5) for names in batches.values()), "something is half visible"
    return begun > done


def run_kills(tmp_path, wanted):
    rng, interrupted, trial = np.random.default_rng(0), 0, 0
    while interrupted < wanted:
        assert trial < 5 * wanted + 10, "too few writes were interrupted"
        interrupted += kill_trial(Path(tmp_path) / str(trial), float(rng.uniform(0, 0.05)))
        trial += 1


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path):
    run_kills(tmp_path, 20)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_three_hundred_kills(tmp_path):
    run_kills(tmp_path, 300)
