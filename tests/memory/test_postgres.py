"""The store on a server: connections that are lost, servers that crash, partitions, replicas."""

import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest

from tests.memory.cable import Cable
from tests.memory.server import Server, connected, short_folder
from tests.memory.test_indexes import vectors
from tests.memory.test_stores import known, together
from tests.typecheck import value_error
from ziggurat.memory import Memory, open_store, parse

pytest.importorskip("psycopg", reason="package: psycopg is not installed")


def until(connection, query):
    """Waits, ten seconds at most, until a query gives a row."""
    for _ in range(1000):
        if row := connection.execute(query).fetchone():
            return row
        threading.Event().wait(0.01)
    raise AssertionError(query)


def name_of(url):
    return url.rpartition("=")[2]


@contextmanager
def held_at(connection, table, when):
    """Writers of the table wait when they come to the id "stop", or when they commit, until the block ends."""
    trigger = {
        "the row": f"CREATE TRIGGER hold BEFORE INSERT ON {table}",
        "the commit": f"CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED",
    }[when]
    connection.execute(
        "CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.id = '\"stop\"' THEN PERFORM pg_advisory_xact_lock(7); END IF; RETURN NEW; END $$"
    )
    connection.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION hold()")
    connection.execute("SELECT pg_advisory_lock(7)")
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(7)")
        connection.execute(f"DROP TRIGGER hold ON {table}")


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"


@pytest.mark.parametrize("when", ["the row", "the commit"])
@pytest.mark.parametrize("change", ["add", "upsert"])
def test_a_connection_that_is_terminated_in_the_middle(server, url, when, change):
    store, other = open_store(url, 4), open_store(url, 4)
    store.add(["a"], vectors(1, 4), [{"n": 0}])
    version, failures = other.version, []

    def write():
        with pytest.raises(ConnectionError, match="not acknowledged") as caught:
            getattr(store, change)(["b", "stop", "c"], vectors(3, 4), [{"n": 1}] * 3)
        failures.append(caught.value)

    with connected(server) as connection, held_at(connection, name_of(url), when):
        writer = threading.Thread(target=write)
        writer.start()
        (pid,) = until(connection, WAITING)
        assert other.version == version and len(other) == 1 and other.get(["b"]) == [None]
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        writer.join()
    assert len(failures) == 1 and other.version == version and other.scan()["id"].to_list() == ["a"]
    assert len(store) == 1, "the next call opens another connection"
    store.add(["b", "stop", "c"], vectors(3, 4))
    assert len(other) == 4 and other.version == version + 1


def test_a_change_and_its_version_are_seen_together(server, url):
    store, other = open_store(url, 4), open_store(url, 4)
    store.add(["a", "b"], vectors(2, 4))
    before, rows = other.version, known(other)
    with connected(server) as connection:
        with held_at(connection, name_of(url), "the commit"):
            writer = threading.Thread(target=lambda: store.upsert(["b", "stop"], vectors(2, 4, seed=1)))
            writer.start()
            until(connection, WAITING)
            assert other.version == before and known(other).equals(rows)
        writer.join()
    assert other.version == before + 1 and sorted(known(other)["id"]) == ["a", "b", "stop"]


def test_a_connection_that_died_while_idle_is_opened_again(server, url):
    store = open_store(url, 4)
    calls = [
        lambda: store.add(["a"], vectors(1, 4)), lambda: store.version, lambda: store.upsert(["b"], vectors(1, 4)),
        lambda: store.get(["a"]), lambda: store.remove(["a"]), lambda: store.scan("id = 'b'"), lambda: store.keys(),
    ]  # fmt: skip
    with connected(server) as connection:
        for call in calls:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ziggurat'"
            )
            until(
                connection,
                "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'ziggurat')",
            )
            call()
    assert known(store)["id"].to_list() == ["b"]


def test_a_cable_that_is_cut_at_any_byte(server, url):
    folder = short_folder()
    cable = Cable(server.folder, folder)
    far, near = open_store(url.replace(str(server.folder), str(folder)), 4), open_store(url, 4)
    try:
        far.remove(["nobody"])  # opens the connection that writes
        before = cable.sent
        far.upsert(["00-0", "00-1", "00-2"], vectors(3, 4))
        length, acknowledged, stored = cable.sent - before, set(), set()
        cuts = [*range(1, length, max(length // 15, 1)), length - 1, length, length + 1]
        for i, cut in enumerate(cuts, start=1):
            far.remove(["nobody"])  # opens it again
            cable.cut_after(cut)
            with suppress(ConnectionError):
                far.upsert([f"{i:02}-{j}" for j in range(3)], vectors(3, 4))
                acknowledged.add(i)
            cable.limit = None
            assert len(far) == len(near)
            found = [row is not None for row in near.get([f"{i:02}-{j}" for j in range(3)])]
            assert all(found) or not any(found), "something is half visible"
            assert all(found) or i not in acknowledged, "something acknowledged is lost"
            stored |= {i} if all(found) else set()
        assert acknowledged < stored, "a commit whose answer was lost is among them"
        assert len(stored) < len(cuts), "and a change that never came to its commit"
    finally:
        far.close()
        cable.close()
        shutil.rmtree(folder)


def test_a_server_that_crashes_keeps_what_it_acknowledged(server, url):
    store, kept, ended = open_store(url, 4), [], []

    def write():
        with pytest.raises(ConnectionError) as caught:
            for i in range(100_000):
                store.add([f"{i}-{j}" for j in range(5)], vectors(5, 4), [{"n": i}] * 5)
                kept.append(i)
        ended.append(caught.value)

    writer = threading.Thread(target=write)
    writer.start()
    while len(kept) < 20:
        threading.Event().wait(0.01)
    server.stop(signal.SIGQUIT)
    writer.join()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        len(store)
    server.start()
    batches = store.scan()["n"].value_counts()
    assert len(ended) == 1 and set(kept) <= set(batches.index) <= {*kept, len(kept)} and (batches == 5).all()
    store.add(["after"], vectors(1, 4))
    assert store.get(["after"])[0] is not None


@pytest.mark.slow
def test_a_server_whose_whole_disk_is_full():
    """Its log is full too: it stops, and comes up again with all that it acknowledged when there is room."""
    folder = short_folder()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=56m", "tmpfs", folder], capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("machine: a small file system cannot be mounted here")
    server = Server(folder)
    try:
        store, kept = open_store(server.start(max_wal_size="4MB").url(), 256), 0
        with pytest.raises(OSError, match=r"is full|not acknowledged|cannot be reached"):
            while kept < 1000:
                store.upsert([f"{kept}-{j}" for j in range(100)], vectors(100, 256), [{"n": kept}] * 100)
                kept += 1
        assert 0 < kept < 1000
        subprocess.run(["mount", "-o", "remount,size=156m", folder], check=True)
        if server.process.poll() is not None:
            server.start()
        server.wait()
        batches = store.scan()["n"].value_counts()
        assert set(range(kept)) <= set(batches.index) <= set(range(kept + 1)) and (batches == 100).all()
        store.upsert(["after"], vectors(1, 256))
        store.close()
    finally:
        server.stop()
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def test_makers_of_one_store_wait_for_each_other(url):
    stores = together(*[lambda: open_store(url, 4)] * 4)
    assert [store.dimension for store in stores] == [4] * 4
    one, two = (open_store(url.replace("=t", "=late")) for _ in range(2))
    made = together(lambda: one.add(["a"], vectors(1, 3)), lambda: two.add(["b"], vectors(1, 5)))
    assert sum(result is None for result in made) == 1 and "numbers, the store" in str(next(filter(None, made)))


def test_what_is_known_follows_changes_and_a_store_that_was_made_anew(server, url):
    store, other = open_store(url, 4), open_store(url, 4)
    store.add(list(range(6)), vectors(6, 4), [{"n": i} for i in range(6)])
    assert len(known(store)) == 6
    other.upsert([0, 9], vectors(2, 4), [{"n": 50}, {}])
    other.remove([3, 4])
    fresh = known(open_store(url)).set_index("key").sort_index()
    assert known(store).set_index("key").sort_index().equals(fresh) and len(fresh) == 5
    with connected(server) as connection:
        connection.execute(f"DROP TABLE {name_of(url)}")
        with value_error("cannot be read or written"):
            len(store)
        again = open_store(url, 4)
        for i in range(5):
            again.add([f"new{i}"], vectors(1, 4))
    assert sorted(known(store)["id"]) == [f"new{i}" for i in range(5)] and len(store) == 5


def test_what_postgresql_cannot_keep_is_refused_whole(url):
    store = open_store(url, 4)
    for ids, metadata in [
        (["a", "b"], [{}, {"s": "\0"}]),
        (["a", "b"], [{}, {"n": float("nan")}]),
        (["a", "b"], [{}, {"n": float("inf")}]),
        (["a", "\0"], None),
    ]:
        with value_error("PostgreSQL cannot keep"):
            store.upsert(ids, vectors(2, 4), metadata)
    assert len(store) == 0 and store.version == 0
    with value_error("16000"):
        open_store(url.replace("=t", "=wide"), 20_000)


def test_a_table_that_is_partitioned_by_label(server, url):
    from psycopg import sql

    from ziggurat.memory.sql import to_sql

    table = name_of(url)
    with connected(server) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            f"CREATE TABLE {table} (key bigint NOT NULL, id jsonb NOT NULL, vector vector(4) NOT NULL, metadata jsonb NOT NULL, "
            "since bigint NOT NULL) PARTITION BY LIST ((metadata ->> 'label'))"
        )
        connection.execute(f"CREATE TABLE {table}_a PARTITION OF {table} FOR VALUES IN ('a')")
        connection.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
        connection.execute(f"CREATE INDEX ON {table} USING hash (id)")
        connection.execute(f"CREATE INDEX ON {table} (key)")
        memory = Memory.open(url)
        memory.add(list(range(6)), vectors(6, 4), [{"label": label} for label in "aabbca"])
        assert connection.execute(f"SELECT count(*) FROM {table}_a").fetchone() == (3,)
        for text in ["label = 'a'", "label in ('a', 'a') and label != 'c'"]:
            condition, values = to_sql(parse(text), {"label": {"text"}})
            plan = connection.execute(sql.SQL(f"EXPLAIN SELECT key FROM {table} WHERE ") + condition, values).fetchall()
            assert f"{table}_a" in str(plan) and f"{table}_rest" not in str(plan)
    with value_error("already"):
        memory.add([1], vectors(1, 4), [{"label": "b"}])
    memory.upsert([0], vectors(1, 4), [{"label": "c"}])
    assert sorted(memory.search(vectors(1, 4), 9, "label = 'a'").ids[0]) == [1, 5] and len(memory) == 6


def test_the_index_of_pgvector_searches_the_same_table(server, url):
    memory = Memory.open(url, 8)
    memory.add(list(range(300)), vectors(300), [{"n": i} for i in range(300)])
    query = vectors(1, seed=1)
    with connected(server) as connection:
        connection.execute(f"CREATE INDEX ON {name_of(url)} USING hnsw (vector vector_cosine_ops)")
        connection.execute("SET enable_seqscan = off")
        select = f"SELECT id FROM {name_of(url)} ORDER BY vector <=> %s::vector LIMIT 5"
        plan = connection.execute(f"EXPLAIN {select}", [str(query[0].tolist())]).fetchall()
        assert f"{name_of(url)}_vector_idx" in str(plan)
        found = [row[0] for row in connection.execute(select, [str(query[0].tolist())])]
    assert len(set(found) & set(memory.search(query, 5).ids[0])) >= 4
    memory.upsert([found[0]], -query)
    assert memory.search(-query, 1).ids == [[found[0]]]


@pytest.mark.slow
def test_a_replica_is_read_and_takes_over():
    folders = [short_folder(), short_folder()]
    primary = Server(folders[0]).start()
    replica = None
    try:
        store = open_store(primary.url(), 4)
        store.add(list(range(50)), vectors(50, 4), [{"n": i} for i in range(50)])
        replica = Server(folders[1], copy_of=primary).start()
        memory = Memory.open(replica.url())
        assert memory.search(vectors(1, 4), 3).ids == Memory.open(primary.url()).search(vectors(1, 4), 3).ids
        store.upsert([7], vectors(1, 4), [{"n": 700}])
        with connected(replica) as connection:
            until(connection, f"SELECT 1 FROM ziggurat_stores WHERE version = {store.version}")
        assert memory.get([7])[0]["metadata"] == {"n": 700} and memory.store.scan("n > 60")["id"].tolist() == [7]
        with value_error("replica that cannot be written to"):
            memory.add(["a"], vectors(1, 4))
        both = f"postgresql://postgres@/postgres?host={folders[0]},{folders[1]}&target_session_attrs=read-write"
        either = open_store(both)
        either.add(["before"], vectors(1, 4))
        with connected(replica) as connection:
            until(connection, f"SELECT 1 FROM ziggurat_stores WHERE version = {either.version}")
        primary.stop(signal.SIGQUIT)
        replica.call("pg_ctl", "promote", "-D", replica.data)
        either.add(["after"], vectors(1, 4))
        assert [row is not None for row in memory.get(["before", "after", 49])] == [True] * 3
    finally:
        for server in filter(None, (replica, primary)):
            server.stop()
        for folder in folders:
            shutil.rmtree(folder)
