"""A store on PostgreSQL with pgvector: for memories that many machines read and write."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import psycopg
from pgvector.psycopg import register_vector
from psycopg import Connection, errors, sql

from ziggurat.memory.address import STORES, Address
from ziggurat.memory.connecting import connect, knows_vectors, mistake, roll_back
from ziggurat.memory.jsonb import decimals, framed
from ziggurat.memory.sql import to_sql
from ziggurat.memory.stores import (
    Id,
    Rows,
    Store,
    checked,
    encode_id,
    gone,
    new_keys,
    places_of,
    read_so_far,
    replacing,
    spread,
    taken,
)
from ziggurat.memory.where import parse

Result = TypeVar("Result")
TRIES, BLOCK = 8, 20_000  # vectors fetched at a time
READ, WRITE = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED"
KINDS = {"string": "text", "number": "numbers", "boolean": "true or false", "array": "lists", "object": "lists"}


class PostgresStore(Store):
    """A store in a table of a PostgreSQL database, with `LanceStore`'s contract.

    It has two connections, one that reads and one that writes. A call is one transaction, and so is what it reads. Writers of one store
    take turns: each holds the row of the store's version from its first change until it commits, so a version is seen with its changes or
    not at all. A connection that was lost is opened again by the next call. A call that it interrupts is a `ConnectionError`: it was not
    acknowledged, and is stored whole or not at all; `upsert` and `remove` may be repeated.

    jsonb keeps text without the character NUL and numbers that are finite; other metadata and ids are a `ValueError`. `scan` gives rows in
    no order. A server that was told `synchronous_commit=off` may lose in a crash what it acknowledged.

    Arguments:
        url: postgresql://USER@HOST/DATABASE, as libpq takes it, with `?table=NAME` for another table than memory. The password is better
            kept in ~/.pgpass or PGPASSWORD; it is in no message.
        dimension: of the vectors; None takes that of the store, or of the first vectors added.
    """

    def __init__(self, url: str, dimension: int | None = None) -> None:
        self._address = Address.of(url)
        self.name, self.seen = self._address.shown, -1
        self.dimension: int | None = None
        self.lock = threading.RLock()
        self._locks = {READ: self.lock, WRITE: threading.RLock()}
        self._connections: dict[str, Connection] = {}
        self._known, self._known_version, self._order = framed([]), -1, np.zeros(0, np.int64)
        self._kinds: dict[str, set[str]] = {}
        self._kinds_version = -1
        whole = self._run(READ, self._whole)
        wanted = dimension if self.dimension is None else self.dimension
        if not whole and wanted is not None:
            self._run(WRITE, lambda connection: self._make(connection, wanted))
        if dimension is not None and dimension != self.dimension:
            raise ValueError(f"the store {self.name} holds vectors of {self.dimension} numbers, not {dimension}.")

    def close(self) -> None:
        for purpose, lock in self._locks.items():
            with lock:
                if (connection := self._connections.pop(purpose, None)) is not None:
                    connection.close()

    def _connect(self, purpose: str) -> Connection:
        """The connection that reads, or the one that writes."""
        connection = self._connections.get(purpose)
        if connection is None or connection.closed:
            connection, schema = connect(self._address)
            self._table, self._stores = sql.Identifier(schema, self._address.table), sql.Identifier(schema, STORES)
            self._connections[purpose] = connection
        return connection

    def _run(self, begin: str, action: Callable[[Connection], Result]) -> Result:
        """An action in one transaction. It is tried again where nothing of it can have been stored: it only reads, the connection had
        died before it began, or the server chose it as the victim of a conflict."""
        with self._locks[begin]:
            for attempt in range(TRIES):
                begun, dimension = False, self.dimension
                connection = self._connect(begin)
                try:
                    connection.execute(begin)
                    begun = True
                    result = action(connection)
                    connection.execute("COMMIT")
                    return result
                except BaseException as error:
                    self.dimension = dimension
                    lost = connection.closed
                    if not lost:
                        roll_back(connection)
                    if not isinstance(error, psycopg.Error):
                        raise
                    conflict = isinstance(error, errors.SerializationFailure | errors.DeadlockDetected)
                    harmless = conflict or (lost and attempt == 0 and (begin == READ or not begun))
                    if not harmless or attempt == TRIES - 1:
                        raise mistake(self.name, error, lost, begin == WRITE) from None
        raise AssertionError("unreachable")

    def _whole(self, connection: Connection) -> bool:
        """Looks for the store's tables and learns its dimension; whether both are there."""
        names = [name.as_string(connection) for name in (self._table, self._stores)]
        found = connection.execute(
            "SELECT to_regclass(%s::text)::bigint, to_regclass(%s::text)::bigint", names
        ).fetchone()
        assert found is not None
        row = connection.execute(
            "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s AND attname = 'vector' AND NOT attisdropped",
            [found[0]],
        ).fetchone()
        if row is not None:
            if not knows_vectors(connection):
                register_vector(connection)
            self.dimension = int(row[0])
        elif found[0] is not None:
            raise ValueError(f"the table of {self.name} is no store of ziggurat; name another one with ?table=NAME.")
        return None not in found

    def _make(self, connection: Connection, dimension: int) -> None:
        """Makes what is missing of the store's tables; of two that do it at once, one waits for the other."""
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [STORES])
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (key bigint PRIMARY KEY, id jsonb NOT NULL, vector vector({}) NOT NULL, "
                "metadata jsonb NOT NULL, since bigint NOT NULL, EXCLUDE USING hash (id WITH =))"
            ).format(self._table, sql.Literal(dimension))
        )
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, version bigint NOT NULL)").format(
                self._stores
            )
        )
        self._whole(connection)

    def _there(self, connection: Connection) -> bool:
        """Whether anything was ever made here, by this or another process."""
        if self.dimension is None or not knows_vectors(connection):
            self._whole(connection)
        return self.dimension is not None

    def refresh(self) -> None:
        """Sees whether another process has made the store; what is in it is looked up by every call."""
        self._run(READ, self._there)

    def _now(self, connection: Connection) -> int:
        query = sql.SQL("SELECT version FROM {} WHERE name = %s").format(self._stores)
        row = connection.execute(query, [self._address.table]).fetchone() if self._there(connection) else None
        return 0 if row is None else int(row[0])

    def _next(self, connection: Connection) -> int:
        """The version that this transaction makes; other writers wait until it ends."""
        query = sql.SQL(
            "INSERT INTO {0} AS stores VALUES (%s, 1) ON CONFLICT (name) DO UPDATE SET version = stores.version + 1 RETURNING version"
        )
        row = connection.execute(query.format(self._stores), [self._address.table]).fetchone()
        assert row is not None
        return int(row[0])

    def _wait(self, connection: Connection) -> None:
        """Waits for other writers; they wait until this transaction ends."""
        query = sql.SQL("SELECT 1 FROM {} WHERE name = %s FOR UPDATE").format(self._stores)
        connection.execute(query, [self._address.table])

    @property
    def version(self) -> int:
        return self._run(READ, self._now)

    def __len__(self) -> int:
        def count(connection: Connection) -> int:
            return int(self._rows(connection, "SELECT count(*) FROM {}")[0][0]) if self._there(connection) else 0

        return self._run(READ, count)

    def _rows(self, connection: Connection, query: str, *values: Any) -> list[tuple]:
        return connection.execute(sql.SQL(query).format(self._table), values, binary=True).fetchall()  # type: ignore[arg-type]

    def keys(self) -> np.ndarray:
        """The key of every row. Ids and metadata are kept beside them, as text; of these only what is new is fetched in a new version."""

        def read(connection: Connection) -> np.ndarray:
            self.seen = self._now(connection)
            if self.seen != self._known_version:
                self._known = self._changed(connection) if self.seen else framed([])
                self._known_version = self.seen
                self._order = self._known["key"].to_numpy(np.int64).argsort()
            return self._known["key"].to_numpy(np.int64).copy()

        return self._run(READ, read)

    def rows(self, keys: np.ndarray) -> pd.DataFrame:
        with self.lock:
            at = places_of(self._known["key"].to_numpy(np.int64), np.asarray(keys, np.int64), self.name, self._order)
            rows = self._known[["id", "metadata"]].take(at).reset_index(drop=True)
        return rows.assign(metadata=pd.Series([json.loads(text) for text in rows["metadata"]], dtype=object))

    def _changed(self, connection: Connection) -> pd.DataFrame:
        there = np.array([row[0] for row in self._rows(connection, "SELECT key FROM {}")], np.int64)
        mine = self._known[np.isin(self._known["key"].to_numpy(np.int64), there)]
        query = "SELECT key, id, metadata::text FROM {} WHERE since > %s"
        new = framed(self._rows(connection, query, self._known_version))
        if len(mine) + len(new) != len(there):  # the store was made anew in between
            return framed(self._rows(connection, query, -1))
        return pd.concat([mine, new], ignore_index=True) if len(mine) else new

    def _write(self, rows: Rows, replace: bool) -> None:
        metadata = [decimals(text) for text in rows.metadata]

        def write(connection: Connection) -> None:
            if not self._there(connection):
                self._make(connection, rows.vectors.shape[1])
            rows.fit(self.dimension, self.name)
            version = self._next(connection)
            if replace:
                self._delete(connection, rows.ids)
            else:
                query = "SELECT id::text FROM {} WHERE id = ANY(%s::text[]::jsonb[])"
                if found := self._rows(connection, query, rows.ids):
                    raise taken(sorted(row[0] for row in found))
            statement = sql.SQL("COPY {} (key, id, vector, metadata, since) FROM STDIN (FORMAT BINARY)")
            with connection.cursor().copy(statement.format(self._table)) as copy:
                copy.set_types(["int8", "jsonb", "vector", "jsonb", "int8"])
                for key, name, vector, about in zip(rows.keys, rows.ids, rows.vectors, metadata, strict=True):
                    copy.write_row((key, name, vector, about, version))

        self._run(WRITE, write)

    def _delete(self, connection: Connection, ids: list[str]) -> int:
        statement = sql.SQL("DELETE FROM {} WHERE id = ANY(%s::text[]::jsonb[])")
        return connection.execute(statement.format(self._table), [ids]).rowcount

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if len(ids):
            self._write(checked(ids, vectors, metadata), replace=False)

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if len(ids):
            self._write(checked(ids, vectors, metadata), replace=True)

    def replace(self, keys: Sequence[int] | np.ndarray, metadata: Any) -> np.ndarray:
        def update(connection: Connection) -> list[tuple]:
            if not self._there(connection):
                return []
            self._wait(connection)
            if not self._rows(connection, "SELECT 1 FROM {} WHERE key = ANY(%s::bigint[]) LIMIT 1", were):
                return []
            query = (
                "UPDATE {} AS stored SET key = told.key, metadata = told.metadata::jsonb, since = %s "
                "FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS told(was, key, metadata) "
                "WHERE stored.key = told.was RETURNING told.was"
            )
            return self._rows(connection, query, self._next(connection), were, new_keys(len(were)), texts)

        wanted, told = replacing(keys, metadata)
        were, texts = wanted.tolist(), [decimals(text) for text in told]
        return np.isin(wanted, [row[0] for row in self._run(WRITE, update)])

    def remove(self, ids: Sequence[Id]) -> int:
        def delete(connection: Connection) -> int:
            if not texts or not self._there(connection):
                return 0
            self._wait(connection)
            count = self._delete(connection, texts)
            if count:
                self._next(connection)
            return count

        texts = [encode_id(value) for value in ids]
        return self._run(WRITE, delete)

    def discard(self, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        def delete(connection: Connection) -> list[tuple]:
            if not len(wanted) or not self._there(connection):
                return []
            self._wait(connection)
            gone = self._rows(connection, "DELETE FROM {} WHERE key = ANY(%s::bigint[]) RETURNING key", wanted.tolist())
            if gone:
                self._next(connection)
            return gone

        wanted = np.asarray(keys, np.int64)
        return np.isin(wanted, [row[0] for row in self._run(WRITE, delete)])

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        def read(connection: Connection) -> list[tuple]:
            query = "SELECT id, vector, metadata FROM {} WHERE id = ANY(%s::text[]::jsonb[])"
            return self._rows(connection, query, texts) if self._there(connection) else []

        texts = [encode_id(value) for value in ids]
        found = {encode_id(row[0]): row for row in self._run(READ, read)}
        rows = [found.get(text) for text in texts]
        return [
            None if row is None else {"id": row[0], "vector": row[1].to_numpy(), "metadata": row[2]} for row in rows
        ]

    def vectors(self, keys: np.ndarray) -> np.ndarray:
        def read(connection: Connection) -> np.ndarray:
            if not len(keys) or not self._there(connection):
                return np.zeros((0, self.dimension or 0), np.float32)
            out = np.empty((len(keys), self.dimension or 0), np.float32)
            with read_so_far(len(keys)) as advance:
                for start in range(0, len(keys), BLOCK):
                    block = [int(key) for key in keys[start : start + BLOCK]]
                    there = dict(self._rows(connection, "SELECT key, vector FROM {} WHERE key = ANY(%s)", block))
                    if len(there) < len(set(block)):
                        raise gone(self.name)
                    out[start : start + BLOCK] = [there[key].to_numpy() for key in block]
                    advance(len(block))
            return out

        return self._run(READ, read)

    def _learn(self, connection: Connection) -> None:
        """Sees the version, and which fields it has."""
        self.seen = self._now(connection)
        if self.seen != self._kinds_version:
            self._kinds = self._fields(connection) if self.seen else {"id": set()}
            self._kinds_version = self.seen

    def kinds(self) -> dict[str, set[str]]:
        self._run(READ, self._learn)
        return {name: set(kinds) for name, kinds in self._kinds.items()}

    def _selected(self, columns: str, where: str | None, ids: Sequence[Id] | None = None) -> list[tuple]:
        """Columns of the rows that a filter selects and that have one of these ids."""

        def read(connection: Connection) -> list[tuple]:
            self._learn(connection)
            condition, values = (sql.SQL("TRUE"), []) if wanted is None else to_sql(wanted, self._kinds)
            if texts is not None:
                condition = sql.SQL("({}) AND id = ANY(%s::text[]::jsonb[])").format(condition)
                values = [*values, texts]
            query = sql.SQL("SELECT " + columns + " FROM {} WHERE {}").format(self._table, condition)  # type: ignore[arg-type]
            return connection.execute(query, values, binary=True).fetchall() if self.seen else []

        wanted = None if where is None else parse(where)
        texts = None if ids is None else [encode_id(value) for value in ids]
        return self._run(READ, read)

    def select(self, where: str) -> np.ndarray:
        return np.array([row[0] for row in self._selected("key", where)], np.int64)

    def look(self, where: str | None = None, ids: Sequence[Id] | None = None) -> pd.DataFrame:
        return framed(self._selected("key, id, metadata", where, ids))

    def scan(self, where: str | None = None) -> pd.DataFrame:
        frame = self.look(where)
        names = [name for name in self._kinds if name not in ("key", "id")]
        fields = spread(frame["metadata"]).reindex(columns=names).astype(object)
        return pd.concat([frame[["key", "id"]], fields.where(fields.notna(), None)], axis=1)

    def _fields(self, connection: Connection) -> dict[str, set[str]]:
        """Fields that the rows have, and of which kinds their values are."""
        query = "SELECT DISTINCT name, jsonb_typeof(value) FROM {}, jsonb_each(metadata) AS fields(name, value) ORDER BY name"
        kinds: dict[str, set[str]] = {}
        for name, kind in self._rows(connection, query):
            found = kinds.setdefault(name, set())
            if kind != "null":
                found.add(KINDS[kind])
        kinds["id"] = {KINDS[row[0]] for row in self._rows(connection, "SELECT DISTINCT jsonb_typeof(id) FROM {}")}
        return kinds
