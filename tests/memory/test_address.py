"""The URL of a server store: tables of any name, secrets that no message holds, the commands that take it."""

import sys
from contextlib import suppress
from urllib.parse import quote

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.memory.server import PASSWORD, connected
from tests.memory.test_indexes import vectors
from tests.typecheck import value_error
from ziggurat.memory import open_store
from ziggurat.memory.opening import shown

pytest.importorskip("psycopg", reason="package: psycopg is not installed")
pytest.importorskip("pgvector", reason="package: pgvector is not installed")


def test_tables_of_any_name_and_of_others(server):
    for name, quoted in [
        ('a"b', "a%22b"),
        ("a; drop table x", "a;%20drop%20table%20x"),
        ("ß{}", "ß{}"),
        ("B", "B"),
    ]:
        store = open_store(f"{server.url()}&table={quoted}", 4)
        store.add(["a"], vectors(1, 4), [{"n": 1}])
        assert len(store.scan("n = 1")) == 1 and store.remove(["a"]) == 1
        with connected(server) as connection:
            assert connection.execute("SELECT 1 FROM pg_class WHERE relname = %s", [name]).fetchone()
    with connected(server) as connection:
        connection.execute("CREATE TABLE others (a int)")
    with value_error("no store of ziggurat"):
        open_store(f"{server.url()}&table=others", 4)
    for table in ["", "x" * 64, "ziggurat_stores", "a%00b", "a%25b"]:
        with value_error("1 to 63 bytes"):
            open_store(f"{server.url()}&table={table}")


LEAKS = [
    "postgresql://me:hunter2@/postgres?host=/nowhere",
    "postgresql://me:hunter2@localhost:1/db",
    "postgresql://me:hunter2%zz@localhost/db",
    "postgresql://me:hun@ter2@localhost:1/db",
    "postgresql://me:hun/ter2@localhost:1/db",
    "postgresql://me:hun?ter2@localhost:1/db",
    "postgresql://me:1/ter2@localhost/db",
    "postgresql://me:1?host=ter2@localhost/db",
    "postgresql://me:hun#ter2@localhost:ter2/db",
    "postgresql://me@localhost:1/db?password=hunter2&sslpassword=hunter2",
    "postgresql://me@localhost:1/db?pass%77ord=hunter2",
    "postgresql://me:hunter2@localhost:1/db?colour=hunter2",
    "postgresql://me:hunter2\0@localhost:1/db",
    "postgresql://me:hunter2\udcff@localhost:1/db",
]


@pytest.mark.parametrize("url", LEAKS)
def test_no_message_holds_the_password(url):
    with pytest.raises((ValueError, ConnectionError)) as caught:
        open_store(url)
    assert "ter2" not in str(caught.value) and len(str(caught.value)) > 30
    with suppress(ValueError):
        assert "ter2" not in shown(url)


def test_a_password_opens_and_is_not_shown(server):
    with connected(server) as connection:
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD %s" % f"'{PASSWORD}'")  # noqa: UP031
        connection.execute("CREATE SCHEMA guarded AUTHORIZATION guarded")
    place = f"postgresql://guarded:{quote(PASSWORD, safe='')}@/postgres?host={server.folder}&options=-csearch_path%3Dguarded,public"
    store = open_store(place, 4)
    store.add(["a"], vectors(1, 4))
    assert "s3cret" not in store.name and store.name.startswith("postgresql://guarded@/postgres?host=")
    with pytest.raises(ConnectionError, match="password authentication failed") as caught:
        open_store(place.replace("s3cret", "s3crets"))
    assert "s3cret" not in str(caught.value)
    with value_error("permission denied"):
        open_store(place.replace("guarded,public", "public"), 4)


def rings(path):
    """A graph of twelve nodes in a ring."""
    ring = np.stack([np.arange(12), (np.arange(12) + 1) % 12])
    np.savez(path, edge_index=np.concatenate([ring, ring[::-1]], 1), y=np.arange(12) % 2)
    return path


def test_embed_and_search_by_command(url, tmp_path, monkeypatch):
    from ziggurat.cli.main import app

    def call(*words):
        return CliRunner().invoke(app, list(map(str, words)))

    secret = url.replace("postgres@", "postgres:hunter2@")
    missing = call("search", secret, "rings/1")
    assert "there is no store at postgresql://postgres@/" in str(missing.exception) and "hunter2" not in str(
        missing.exception
    )
    graph = rings(tmp_path / "rings.npz")
    made = call("embed", graph, "--method", "node2vec:dimensions=4", "--store", secret)
    assert made.exit_code == 0 and "12 nodes" in made.output and "hunter2" not in made.output
    assert str(url) in made.output, "the command that is suggested works"
    found = call("search", url, "rings/3", "-k", "2", "--where", "label = '1'", "--json")
    assert found.exit_code == 0 and '"rings/3"' in found.output
    assert "neither an id" in str(call("search", url, "rings/99").exception)
    away = call("embed", tmp_path / "no.npz", "--method", "node2vec", "--store", "postgresql://me@localhost:1/db")
    assert isinstance(away.exception, ConnectionError), "found out before the data are looked at"
    monkeypatch.setitem(sys.modules, "ziggurat.memory.postgres", None)
    assert "ziggurat[server]" in str(call("search", url, "rings/3").exception)
