import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.memory.test_indexes import vectors
from tests.typecheck import value_error
from ziggurat.memory import LanceStore, Memory, open_store
from ziggurat.memory.indexes import distances, unit


def test_search_filters_edits_and_reopening(place):
    memory = Memory.open(place, 8)
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
    if isinstance(memory.store, LanceStore):
        memory.save_index()
    else:
        with value_error("lives in memory only"):
            memory.save_index()
    again = Memory.open(place)
    assert again.search(x[5], 3).ids == memory.search(x[5], 3).ids
    assert "<table>" in hits._repr_html_()
    with value_error("exact, hnsw or graph"):
        Memory.open(place, index="fast")


def test_equal_distances_are_ordered_by_id(place):
    memory = Memory.open(place, 2)
    memory.add(["b", "a", "c"], np.ones((3, 2)))
    assert memory.search(np.ones(2), 3).ids == [["a", "b", "c"]]


def test_ties_at_the_cut_go_by_id_whatever_the_keys_are(new_place):
    ids, rng = [10, 2, "b", "a", "10", 33, 4, 100, 1, "c", -5, 0], np.random.default_rng(0)
    x = np.concatenate([np.tile(vectors(1, 100), (len(ids), 1)), vectors(40, 100, seed=1) - 9])
    for _ in range(3):
        memory, order = Memory.open(new_place(), 100), rng.permutation(len(x))
        memory.add([[*ids, *range(200, 240)][i] for i in order], x[order], [{"n": int(i)} for i in order])
        for queries in (x[:1], np.concatenate([x[:3], vectors(4, 100, seed=2)])):  # one pass, and a product of matrices
            for hits in memory.search(queries, 3).ids, memory.search(queries, 3, "n < 200").ids:
                assert hits[0] == [-5, 0, 1]
        assert memory.search(x[:5], 3, "n < 4").ids[4] == [2, 10, "a"]
        assert memory.search(x[:5], 12).ids[4] == [-5, 0, 1, 2, 4, 10, 33, 100, "10", "a", "b", "c"]


@pytest.mark.parametrize("kind", ["exact", "hnsw", "graph", "windows"])
def test_ties_at_the_cut_of_a_walk_are_settled_by_a_scan(kind, tmp_path, monkeypatch):
    for module in ("hnsw_index", "graph_index", "memory"):
        monkeypatch.setattr(f"ziggurat.memory.{module}.FEW", 50)
    x, ids = np.repeat(vectors(120, 6), 15, axis=0), np.random.default_rng(0).permutation(1800)
    memory = Memory.open(tmp_path, 6, "graph" if kind == "windows" else kind)
    memory.add(ids.tolist(), x, [{"year": int(i) * 7 % 1801} for i in ids])
    where = None
    if kind == "windows":
        memory.prepare("year")
        where = "year >= 100"
    hits = memory.search(x[::15], 4, where)
    assert hits.plan.strategy == {"exact": "scan", "windows": "windows"}.get(kind, "walk")
    for found, same in zip(hits.ids, ids.reshape(120, 15), strict=True):
        assert found == sorted(same[same * 7 % 1801 >= (100 if where else 0)])[:4]


def test_mistakes_in_k_are_named(tmp_path):
    memory = Memory.open(tmp_path, 2)
    for k in (0, -1):
        with value_error(f"k must be 1 or more, got {k}"):
            memory.search(np.ones(2), k)


@pytest.mark.parametrize(
    ("kind", "what"), [("graph", "ziggurat.memory.graph_index.insert_nodes"), ("hnsw", "usearch.index.Index.add")]
)
@pytest.mark.parametrize("removing", [False, True])
def test_an_interrupted_build_is_begun_again(kind, what, removing, tmp_path, monkeypatch):
    x, memory = vectors(1500), Memory.open(tmp_path, 8, kind)
    memory.add(list(range(1500)), x)
    if removing:
        memory.search(x[:1])
        memory.remove(list(range(1400)))

    def interrupted(*given, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(what, interrupted)
        with pytest.raises(KeyboardInterrupt):
            memory.search(x[:1])
    memory.save_index()
    again = Memory.open(tmp_path, index=kind)
    near = again.index._walk(unit(x[1400:]), 1, None)[:, 0]
    found = again.store.keys(), again.index._keys[near]
    assert again.store.rows(found[1])["id"].tolist() == list(range(1400, 1500)) and set(found[1]) <= set(found[0])


def test_a_second_handle_sees_changes(place):
    with value_error("say the dimension"):
        Memory.open(place)
    one = Memory.open(place, 8)
    one.add([1, 2], vectors(2))
    two = Memory.open(place)
    assert len(two) == 2
    one.remove([1])
    assert two.search(vectors(1), 5).ids == [[2]]
    two.add([3], vectors(1, seed=3))
    assert sorted(one.search(vectors(1), 5).ids[0]) == [2, 3]


def test_searching_while_adding(place):
    memory = Memory.open(place, 8)
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


@contextmanager
def a_change_that_waits(memory, change):
    """While another process writes, and does not come to its end."""
    if isinstance(memory.store, LanceStore):
        other = LanceStore(memory.store.path)._turn()
    else:
        other = held_row(memory.store)
    with ThreadPoolExecutor(1) as threads:
        with other:
            waiting = threads.submit(change)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            yield waiting
        waiting.result(20)


@contextmanager
def held_row(store):
    """Holds the row that writers of the store wait for."""
    import psycopg

    with psycopg.connect(**store._address.info) as connection:
        connection.execute("SELECT 1 FROM ziggurat_stores WHERE name = %s FOR UPDATE", [store._address.table])
        yield


@pytest.mark.parametrize("change", ["add", "upsert", "remove", "replace", "discard"])
def test_searches_go_on_while_a_change_waits_for_another_process(place, change):
    memory = Memory.open(place, 8)
    memory.add([1, 2, 3], vectors(3), [{"n": 1}] * 3)
    keys = memory.store.look(ids=[1])["key"].to_numpy()
    acts = {
        "add": lambda: memory.add([4], vectors(1)),
        "upsert": lambda: memory.upsert([1], -vectors(1)),
        "remove": lambda: memory.remove([1]),
        "replace": lambda: memory.store.replace(keys, [{"n": 2}]),
        "discard": lambda: memory.store.discard(keys),
    }
    before = memory.store.version
    with a_change_that_waits(memory, acts[change]):
        assert len(memory.search(vectors(2), 3, "n = 1").ids[0]) == 3
        assert len(memory) == 3 and memory.get([1])[0]["metadata"] == {"n": 1} and memory.store.version == before
    left = {"add": 3, "upsert": 2, "remove": 2, "replace": 2, "discard": 2}
    assert memory.store.version == before + 1 and len(memory.search(vectors(1), 9, "n = 1").ids[0]) == left[change]


def test_another_process_changes_the_store_in_the_middle_of_a_search(place):
    memory, other = Memory.open(place, 8), open_store(place, 8)
    memory.add(list(range(9)), vectors(9), [{"n": i} for i in range(9)])
    read, select = memory.store.vectors, memory.store.select

    def changed_before_reading(keys):
        memory.store.vectors = read
        other.remove([0, 1])
        return read(keys)

    def changed_before_the_filter(where):
        memory.store.select = select
        other.upsert([2, 3], vectors(2, seed=3), [{"n": 2}, {"n": 100}])
        return select(where)

    memory.store.vectors, memory.store.select = changed_before_reading, changed_before_the_filter
    assert sorted(memory.search(vectors(1), 9, "n < 100").ids[0]) == [2, 4, 5, 6, 7, 8]
    assert sorted(memory.search(vectors(1), 9).ids[0]) == [2, 3, 4, 5, 6, 7, 8]


class Machine(RuleBasedStateMachine):
    """A memory against a dict and exact search."""

    def __init__(self, place, kind):
        super().__init__()
        self.place, self.kind = place, kind
        self.memory = Memory.open(place, 3, index=kind)
        self.truth: dict = {}

    def teardown(self):
        self.memory.store.close()

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
        if isinstance(self.memory.store, LanceStore):
            self.memory.save_index()
        self.memory.store.close()
        self.memory = Memory.open(self.place, index=self.kind)

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
        assert len(self.memory) == len(self.truth)


@pytest.mark.parametrize("kind", ["exact", "hnsw", "graph"])
def test_any_calls_against_a_dict(new_place, kind):
    few = settings(max_examples=8, stateful_step_count=12, deadline=None)
    run_state_machine_as_test(lambda: Machine(new_place(), kind), settings=few)
