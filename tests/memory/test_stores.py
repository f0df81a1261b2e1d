"""What every store promises, on each kind of store: one suite for both."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.memory.test_indexes import vectors
from tests.typecheck import value_error
from ziggurat.memory import LanceStore, Memory, open_store
from ziggurat.memory.opening import on_server, shown, there_is_store

HOSTILE = [
    "'; DROP TABLE memory; --", '"', "\\", "%s %(x)s %", "{}", "$1", "a\nb\tc", "ß😀\uffff", "", " ", "null", "1", "x" * 9000,
]  # fmt: skip


def known(store):
    """All rows: key, id and metadata."""
    keys = store.keys()
    return store.rows(keys).assign(key=keys)


def test_what_was_given_comes_back(place):
    ids = [1, "1", -(10**30), *HOSTILE[:-2], HOSTILE[-1]]
    metadata = [
        {
            "whole": i,
            "real": float(i),
            "large": 1e23,
            "small": 5e-324,
            "yes": i % 2 == 0,
            "none": None,
            "list": [1e16, "e+"],
        }
        for i in range(len(ids))
    ]
    for row, text in zip(metadata, HOSTILE, strict=False):
        row["text"] = row[text] = text
    x = vectors(len(ids))
    store = open_store(place)
    assert store.dimension is None and store.version == 0 and len(store) == 0 and store.get(["a"]) == [None]
    assert known(store).empty and store.scan().empty and store.remove(["a"]) == 0
    store.add(ids, x, metadata)
    found = open_store(place).get(ids)
    assert [row["id"] for row in found] == ids and [row["metadata"] for row in found] == metadata
    assert np.array_equal(np.stack([row["vector"] for row in found]), x)
    assert [row and row["id"] for row in store.get(["1", "no", 1, "1"])] == ["1", None, 1, "1"]
    assert all(type(row["metadata"][k]) is type(m[k]) for row, m in zip(found, metadata, strict=True) for k in m)
    keys = store.keys()
    assert np.array_equal(store.vectors(keys)[::-1], store.vectors(keys[::-1]))
    assert store.rows(keys[::-1])["id"].to_list() == store.rows(keys)["id"].to_list()[::-1]
    assert sorted(store.select("whole < 5")) == sorted(keys[[i in ids[:5] for i in store.rows(keys)["id"]]])
    scanned = {row["id"]: row for row in store.scan("whole < 5").to_dict("records")}
    assert set(scanned) == set(ids[:5]) and scanned["1"]["real"] == 1.0 and scanned["1"]["none"] is None
    assert scanned[1]["text"] == HOSTILE[0] and set(store.scan("whole > 99").columns) == set(store.scan().columns)


def test_versions_grow_with_changes_and_keys_are_never_used_again(place):
    store, other = open_store(place, 4), open_store(place, 4)
    versions, keys = [store.version], []
    for change in [
        lambda: store.add([1, 2], vectors(2, 4), pd.DataFrame({"a": [1, np.nan]})),
        lambda: other.upsert([2, 3], vectors(2, 4)),
        lambda: store.remove([1, 7]),
        lambda: other.upsert([1], vectors(1, 4)),
    ]:
        change()
        versions.append(other.version)
        assert store.version == other.version
        rows = [known(one).set_index("key").sort_index() for one in (store, other)]
        assert rows[0].equals(rows[1])
        assert store.seen == other.seen == versions[-1]
        keys.append(dict(zip(rows[0]["id"], rows[0].index, strict=True)))
    assert versions == sorted(set(versions))
    assert keys[0][2] != keys[1][2] and keys[0][1] == keys[1][1] != keys[3][1] and set(keys[2]) == {2, 3}
    version = store.version
    assert store.remove(["nobody"]) == store.remove([]) == 0 and store.version == version
    store.add([], np.zeros((0, 4)))
    assert store.version == version and store.get([]) == []
    for read in (store.vectors, store.rows):
        with pytest.raises(LookupError):
            read(np.array([keys[0][1]]))
    store.close()
    assert len(store) == 3


def test_half_characters_are_refused_and_whole_ones_kept(place):
    store = open_store(place, 2)
    for ids, metadata in [(["\ud800"], None), ([1], [{"a": ["x\udc00"]}]), ([1], [{"\ud800a": 1}])]:
        with value_error("half a character"):
            store.add(ids, np.ones((1, 2)), metadata)
    store.add(["\U0001f600", "\\ud800"], np.ones((2, 2)), [{"a": "\U0001f600"}, {"a": "\\udc00"}])
    assert store.scan("a = '\U0001f600'")["id"].tolist() == ["\U0001f600"] and len(store) == 2


@pytest.mark.parametrize("row", [None, "shirt", 3, ["label"], {1: "shirt"}])
def test_metadata_is_a_dictionary_for_every_row(place, row):
    store = open_store(place, 4)
    for change in (store.add, store.upsert):
        with value_error("the metadata of 7 is .*; give a dictionary"):
            change(["a", 7], vectors(2, 4), [{"n": 1}, row])
    assert len(store) == 0 and store.scan().empty
    store.add(["a", 7], vectors(2, 4))
    assert len(store.scan()) == 2


def test_rows_are_looked_at_without_their_vectors(place):
    store = open_store(place, 4)
    assert store.look().empty and store.look(ids=["a"]).empty and store.kinds() == {"id": set()}
    rows = {1: {"n": 1, "none": None}, "1": {"n": 2.5, "text": "x"}, "c": {"n": 3, "yes": True, "list": [1]}}
    store.add(list(rows), vectors(3, 4), list(rows.values()))
    keys = dict(zip(known(store)["id"], known(store)["key"], strict=True))
    for found, ids in [
        (store.look("n > 2"), ["1", "c"]),
        (store.look(ids=["c", "no", 1, 2, "c"]), [1, "c"]),
        (store.look(), list(rows)),
    ]:
        assert {row["id"]: row["metadata"] for row in found.to_dict("records")} == {name: rows[name] for name in ids}
        assert found["key"].tolist() == [keys[name] for name in found["id"]]
    kinds = {"n": {"numbers"}, "none": set(), "text": {"text"}, "yes": {"true or false"}, "list": {"lists"}}
    assert store.kinds() == {**kinds, "id": {"numbers", "text"}}
    store.remove([1, "c"])
    left = {name: of for name, of in store.kinds().items() if of}
    assert left == {"n": {"numbers"}, "text": {"text"}, "id": {"text"}}


def test_whole_numbers_stay_whole_where_some_rows_have_none(place):
    store = open_store(place, 4)
    store.add(["a", "b"], vectors(2, 4), [{"n": 2**53 + 1}, {}])
    for where in (None, "n = 9007199254740993 or n is null"):
        found = dict(zip(*(store.scan(where)[name].tolist() for name in ("id", "n")), strict=True))
        assert found == {"a": 2**53 + 1, "b": None} and type(found["a"]) is int


def test_what_is_read_may_be_changed(place):
    """What a person does with the metadata of a hit changes neither the store nor later searches."""
    memory = Memory.open(place, 4)
    memory.add(["a"], vectors(1, 4), [{"label": "cat", "list": [1]}])
    for _ in range(2):
        hits = memory.search(vectors(1, 4), 1, "label = 'cat'")
        for row in (hits.metadata[0][0], memory.store.rows(memory.store.keys())["metadata"][0]):
            assert row == {"label": "cat", "list": [1]}
            row["label"] = "dog"
            row["list"].append(2)


def test_only_rows_that_are_there_as_they_were_read_are_replaced(place):
    store, other = open_store(place), open_store(place)
    assert store.replace(np.array([5]), [{}]).tolist() == [False] and store.version == 0
    store.add(["a", 2, "c"], vectors(3, 4), [{"n": i} for i in range(3)])
    read = store.look().set_index("id")["key"]
    other.remove([2])
    other.upsert(["c"], -vectors(1, 4), [{"n": 20}])
    before = other.version
    there = store.replace(read[["c", "a", 2]].to_numpy(), [{"n": 102}, {"n": 100, "new": "'"}, {"n": 101}])
    assert there.tolist() == [False, True, False] and other.version == before + 1
    assert [row and row["metadata"] for row in other.get(["a", 2, "c"])] == [{"n": 100, "new": "'"}, None, {"n": 20}]
    assert np.array_equal(other.get(["a"])[0]["vector"], vectors(3, 4)[0])
    assert set(known(store)["key"]) == set(known(other)["key"]) and not set(read) & set(known(store)["key"])
    assert not store.replace(read.to_numpy(), [{}] * 3).any() and store.version == before + 1
    with value_error("the metadata of .* is 3"):
        store.replace(store.look(ids=["a"])["key"].to_numpy(), [3])
    with value_error("one for each"):
        store.replace(read.to_numpy(), [{}])
    memory = Memory.open(place)
    assert memory.search(vectors(1, 4), 1, "n = 100").metadata[0][0] == {"n": 100, "new": "'"}


def test_only_rows_that_are_there_as_they_were_read_are_discarded(place):
    store, other = open_store(place), open_store(place)
    assert store.discard(np.array([5])).tolist() == [False] and store.version == 0
    store.add(["a", 2, "c"], vectors(3, 4))
    read = store.look().set_index("id")["key"]
    other.remove([2])
    other.upsert(["c"], -vectors(1, 4))
    before = other.version
    assert store.discard(read[["c", "a", 2]].to_numpy()).tolist() == [False, True, False]
    assert other.version == before + 1 and known(other)["id"].tolist() == known(store)["id"].tolist() == ["c"]
    assert not store.discard(read.to_numpy()).any() and store.version == before + 1


def test_many_small_writes_are_written_together(tmp_path):
    store, other = LanceStore(tmp_path / "s", 4), LanceStore(tmp_path / "s", 4)
    for i in range(70):
        store.add([i], vectors(1, 4, i), [{"n": i}])
        if i == 60:
            before, keys = other.version, other.keys()
    assert store._table.stats()["fragment_stats"]["num_fragments"] < 10
    assert other.version > before and len(other) == 70 and set(keys) <= set(other.keys())
    store.remove(list(range(0, 70, 2)))
    size = sum(path.stat().st_size for path in (tmp_path / "s").rglob("*"))
    store.compact(timedelta(0))
    assert sum(path.stat().st_size for path in (tmp_path / "s").rglob("*")) < size / 3
    assert sorted(LanceStore(tmp_path / "s").scan("n > 60")["id"]) == [61, 63, 65, 67, 69]
    assert np.array_equal(store.get([61])[0]["vector"], vectors(1, 4, 61)[0])
    LanceStore(tmp_path / "empty").compact()


def fragments(place):
    return LanceStore(place)._table.stats()["fragment_stats"]["num_fragments"]


def test_processes_that_write_once_write_together_too(tmp_path):
    for i in range(80):
        LanceStore(tmp_path / "s", 4).upsert([i], vectors(1, 4, i), [{"n": i}])
    assert fragments(tmp_path / "s") < 30 and len(LanceStore(tmp_path / "s").scan("n >= 0")) == 80
    for i in range(70):
        LanceStore(tmp_path / "s").remove([i])
    assert sorted(LanceStore(tmp_path / "s").scan()["id"]) == list(range(70, 80))
    LanceStore(tmp_path / "s").compact(timedelta(0))
    assert len(list((tmp_path / "s" / "memory.lance" / "_versions").iterdir())) < 5


def test_a_write_counts_where_writing_together_fails(tmp_path, monkeypatch):
    store, tried = LanceStore(tmp_path / "s", 4), []

    def optimize(*args, **options):
        tried.append(options)
        raise OSError("No space left on device")

    monkeypatch.setattr(type(store._table), "optimize", optimize)
    for i in range(70):
        store.add([i], vectors(1, 4, i))
    assert len(store) == 70 and 1 <= len(tried) <= 2
    with pytest.raises(OSError, match="disk is full"):
        store.compact()


def test_who_waits_for_a_turn_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("ziggurat.memory.folder.PATIENCE", 0.1)
    store, other = LanceStore(tmp_path / "s", 4), LanceStore(tmp_path / "s")
    held = threading.Event()

    def hold():
        with store._turn():
            held.set()
            threading.Event().wait(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pytest.warns(UserWarning, match=r"waiting for another .*writing\.lock"):
        other.add(["a"], vectors(1, 4))
    thread.join()
    assert len(store) == 1


def compacted(store):
    """Changes a store, and forgets every version before."""
    store.upsert(["new"], vectors(1, 4, seed=9))
    with pytest.warns(UserWarning, match="cleanup_older_than"):
        store.compact(timedelta(0))


@pytest.mark.parametrize("when", ["before the vectors", "after the look", "never"])
def test_a_version_that_is_forgotten_while_it_is_read(tmp_path, monkeypatch, when):
    store = LanceStore(tmp_path / "s", 4)
    for i in range(3):
        store.add([i], vectors(1, 4, i), [{"n": i}])
    reader = LanceStore(tmp_path / "s")
    if when == "before the vectors":
        keys = reader.keys()
        compacted(store)
        with pytest.raises(LookupError, match="read it again"):
            reader.vectors(keys)
    elif when == "after the look":
        refresh, left = reader.refresh, [1, 1]

        def late():
            refresh()
            if left:
                left.pop()
                compacted(store)

        monkeypatch.setattr(reader, "refresh", late)
    assert set(reader.scan()["id"]) == {0, 1, 2, *(["new"] if when != "never" else [])}
    assert np.array_equal(reader.get([2])[0]["vector"], vectors(1, 4, 2)[0])
    hits = Memory.open(tmp_path / "s").search(vectors(1, 4, 1), 1)
    assert hits.ids == [[1]]


def test_a_file_that_is_lost_is_a_damage_and_not_waited_for(tmp_path):
    LanceStore(tmp_path / "s", 4).add(["a"], vectors(1, 4))
    memory = Memory.open(tmp_path / "s")
    for file in (tmp_path / "s" / "memory.lance" / "data").iterdir():
        file.unlink()
    for read in (memory.store.keys, lambda: memory.search(vectors(1, 4), 1)):
        with value_error("damaged"):
            read()


def test_vectors_are_held_once(tmp_path):
    store, x = LanceStore(tmp_path / "s"), vectors(20_000, 64)
    store.add(range(20_000), x)
    keys = store.keys()
    keys = keys[np.argsort(store.rows(keys)["id"].to_numpy(dtype=np.int64))]
    mixed = np.random.default_rng(0).permutation(20_000)
    tracemalloc.start()
    found = store.vectors(keys[mixed])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * x.nbytes and np.array_equal(found, x[mixed])
    assert np.array_equal(store.vectors(keys[[5, 3, 5]]), x[[5, 3, 5]])


def test_looking_makes_no_folder(tmp_path):
    with value_error("there is no store"):
        Memory.open(tmp_path / "typo" / "s")
    store, other = (LanceStore(tmp_path / "typo" / "s") for _ in range(2))
    store.compact()
    assert store.scan().empty and store.remove(["a"]) == 0 and store.get(["a"]) == [None] and store.version == 0
    with value_error("not finite"):
        store.add(["a"], np.full((1, 4), np.nan))
    assert not (tmp_path / "typo").exists()
    store.add(["a"], vectors(1, 4))
    assert len(other) == 1 and other.get(["a"])[0]["metadata"] == {}
    (tmp_path / "file").write_text("")
    with value_error("cannot be"):
        LanceStore(tmp_path / "file", 4)


def test_many_removals_take_little_memory(tmp_path):
    """The condition that names the rows is held once, not once for every file."""
    code = f"""
import resource
import numpy as np
from ziggurat.memory import LanceStore
store = LanceStore({str(tmp_path / "s")!r}, 4)
for i in range(0, 120_000, 3_000):
    store.add(range(i, i + 3_000), np.ones((3_000, 4)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert store.remove(range(0, 120_000, 2)) == 60_000 and len(store) == 60_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 300


def test_mistakes_are_named(place):
    store = open_store(place, 4)
    store.add(["a"], np.ones((1, 4)), [{"n": 1}])
    cases = [
        (lambda: store.add(["c", "a", "b"], np.ones((3, 4))), 'ids "a" are in the store already; use upsert'),
        (lambda: store.add(["b", "b"], np.ones((2, 4))), "come twice"),
        (lambda: store.add(["b"], np.ones((1, 3))), "3 numbers.*holds 4"),
        (lambda: store.upsert(["a"], np.ones((1, 3))), "3 numbers.*holds 4"),
        (lambda: store.add(["b"], np.full((1, 4), np.nan)), "not finite"),
        (lambda: store.add(["b", "c"], np.ones((1, 4))), "one row for each id"),
        (lambda: store.add(["b"], np.ones((1, 4)), [{}, {}]), "1 ids and 2 rows of metadata"),
        (lambda: store.add([1.5], np.ones((1, 4))), "a text or a whole number"),
        (lambda: store.get([None]), "a text or a whole number"),
        (lambda: store.add(["b"], np.ones((1, 4)), [{"x": object()}]), "metadata may hold"),
        (lambda: store.scan("colour = 1"), "fields are: n, id"),
        (lambda: store.scan("n = 'a'"), "holds numbers, and 'a' is text"),
        (lambda: store.scan("n ="), "not understood"),
        (lambda: open_store(place, 5), "vectors of 4 numbers, not 5"),
    ]
    for call, says in cases:
        with value_error(says):
            call()
    assert len(store) == 1 and np.array_equal(store.get(["a"])[0]["vector"], np.ones(4))


def test_a_place_is_looked_at_without_making_anything(new_place):
    place = new_place()
    assert not there_is_store(place)
    open_store(place, 2).add(["a"], np.ones((1, 2)))
    assert there_is_store(place) and shown(place) == open_store(place).name
    assert on_server(place) or not (new_place().exists())


def test_a_damaged_store_is_one_sentence(tmp_path):
    store = LanceStore(tmp_path, 4)
    store.add(["a"], np.ones((1, 4)))
    for file in (tmp_path / "memory.lance").rglob("*.manifest"):
        file.write_bytes(file.read_bytes()[:10])
    with value_error("damaged"):
        len(LanceStore(tmp_path))


def together(*actions):
    """Runs actions at the same moment, each in a thread; their results, or the errors that they raised."""
    barrier, results = threading.Barrier(len(actions)), [None] * len(actions)

    def run(i):
        barrier.wait()
        try:
            results[i] = actions[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_writers_of_the_same_ids_take_turns(place):
    stores = [open_store(place, 4) for _ in range(3)]
    for turn in range(4):
        ids = [f"{turn}-{j}" for j in range(5)]
        results = together(*(
            lambda i=i, store=store, ids=ids: store.add(ids, np.ones((5, 4)), [{"writer": i}] * 5) for i, store in enumerate(stores)
        ))  # fmt: skip
        assert results.count(None) == 1 and sum(isinstance(error, ValueError) for error in results) == 2, results
        writers = {row["metadata"]["writer"] for row in stores[0].get(ids)}
        assert writers == {results.index(None)}
    assert len(stores[0]) == 20


def test_readers_see_whole_changes_only(place):
    stores, reader = [open_store(place, 4) for _ in range(2)], open_store(place, 4)
    stores[0].add(list(range(5)), np.ones((5, 4)), [{"n": -1}] * 5)
    seen = []

    def write(i):
        for n in range(6):
            stores[i].upsert(list(range(5)), np.full((5, 4), 10 * i + n), [{"n": 10 * i + n}] * 5)

    def read():
        while len(seen) < 20:
            rows = reader.scan()
            seen.append((reader.seen, rows["id"].to_list(), set(rows["n"])))

    assert together(lambda: write(0), lambda: write(1), read) == [None] * 3
    assert all(sorted(ids) == list(range(5)) and len(values) == 1 for _, ids, values in seen)
    assert [version for version, _, _ in seen] == sorted(version for version, _, _ in seen)
    assert {n for _, _, (n,) in seen} <= {-1, *range(6), *range(10, 16)}
    assert all(np.array_equal(row["vector"], np.full(4, row["metadata"]["n"])) for row in reader.get(list(range(5))))


WRITERS = """
import os, sys
import numpy as np
from ziggurat.memory.opening import on_server, open_store
if on_server(sys.argv[1]):
    import ziggurat.memory.postgres
for place in sys.stdin:
    child = os.fork()
    if child == 0:
        store, i = open_store(place.strip(), 4), 0
        while True:
            print("begin", i, flush=True)
            store.add([f"{i}-{j}" for j in range(5)], np.full((5, 4), i, np.float32), [{"n": i}] * 5)
            print("done", i, flush=True)
            i += 1
    print("pid", child, flush=True)
    os.waitpid(child, 0)
    print("dead", 0, flush=True)
"""


def kill_trial(writers, place, delay):
    """True when a write was interrupted; asserts that acknowledged rows are there and batches are whole."""
    print(place, file=writers.stdin, flush=True)
    lines, pid = [], None
    while pid is None or ["done", "0"] not in lines:
        lines.append(writers.stdout.readline().split())
        pid = int(lines[-1][1]) if lines[-1][0] == "pid" else pid
    threading.Event().wait(delay)
    os.kill(pid, signal.SIGKILL)
    while lines[-1] != ["dead", "0"]:
        lines.append(writers.stdout.readline().split())
    begun, done = (sum(line[0] == word for line in lines) for word in ("begin", "done"))
    store = open_store(place)
    found = store.scan()["id"].tolist()
    store.close()
    batches = {i: [name for name in found if name.startswith(f"{i}-")] for i in range(begun + 1)}
    assert all(len(batches[i]) == 5 for i in range(done)), "something acknowledged is lost"
    assert all(len(names) in (0, 5) for names in batches.values()), "something is half visible"
    return begun > done


def run_kills(new_place, wanted):
    rng, interrupted, trial = np.random.default_rng(0), 0, 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(new_place())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ZIGGURAT_TYPECHECK": "0"},
    ) as writers:  # fmt: skip
        while interrupted < wanted:
            assert trial < 5 * wanted + 10, "too few writes were interrupted"
            interrupted += kill_trial(writers, new_place(), float(rng.uniform(0, 0.05)))
            trial += 1
        writers.stdin.close()


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(new_place):
    run_kills(new_place, 8)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_three_hundred_kills(new_place):
    run_kills(new_place, 300)


@pytest.fixture
def small_place(place, tmp_path, request):
    """A place on a file system of two megabytes, and a file on it that can be deleted to make room."""
    disk = Path("/tmp" if on_server(place) else tmp_path) / f"small{os.getpid()}"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        disk.rmdir()
        pytest.skip("machine: a small file system cannot be mounted here")
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    if not on_server(place):
        yield disk / "store", ballast
    else:
        import psycopg

        server = request.getfixturevalue("server")
        (disk / "tables").mkdir()
        shutil.chown(disk / "tables", server.user)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}/tables'")
            connection.execute("CREATE SCHEMA small")
            yield f"{place}&options=-csearch_path%3Dsmall,public%20-cdefault_tablespace%3Dsmall", ballast
            connection.execute("DROP SCHEMA small CASCADE")
            connection.execute("DROP TABLESPACE small")
    subprocess.run(["umount", "-l", disk], check=True)
    disk.rmdir()


def test_a_full_disk(small_place):
    place, ballast = small_place
    store, kept = open_store(place, 64), 0
    with pytest.raises(OSError, match=r"disk .*is full"):
        while kept < 100:
            store.add([f"{kept}-{j}" for j in range(100)], vectors(100, 64), [{"n": kept}] * 100)
            kept += 1
    assert 0 < kept < 100
    for handle in (store, open_store(place)):
        assert len(handle) == 100 * kept and sorted(set(handle.scan()["n"])) == list(range(kept))
    ballast.unlink()
    store.add([f"{kept}-{j}" for j in range(100)], vectors(100, 64), [{"n": kept}] * 100)
    assert len(open_store(place)) == 100 * (kept + 1)
    store.close()
