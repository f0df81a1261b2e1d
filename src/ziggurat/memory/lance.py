"""A store in a folder, on LanceDB."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from ziggurat.memory.arrow import decoded, frame, rows_as_stored, with_vectors
from ziggurat.memory.fields import Fields
from ziggurat.memory.folder import LOCK, held, mistake
from ziggurat.memory.stores import (
    Id,
    Rows,
    Store,
    checked,
    encode_id,
    gone,
    new_keys,
    places,
    places_of,
    read_so_far,
    replacing,
    spread,
    taken,
)
from ziggurat.memory.where import mask, parse

Result = TypeVar("Result")
TABLE, TRIES, WRITES = "memory", 8, 64
MANY = 10_000  # rows that a condition names; every file holds it
EVERYTHING = (1 << 31) - 1  # a query without a limit returns ten rows


class LanceStore(Store):
    """A store in a folder, on LanceDB.

    Keys, ids and metadata of all rows are kept in memory as they are stored, and are decoded where they are asked for.

    Arguments:
        path: the folder; made by the first write when it is not there.
        dimension: of the vectors; None takes that of the store, or of the first vectors added.
    """

    def __init__(self, path: str | Path, dimension: int | None = None) -> None:
        self.path, self.name, self.lock = Path(path), str(path), threading.RLock()
        self._table: Any = None
        self.dimension: int | None = None
        self._open()
        if self._table is None and dimension is not None:
            self._create(dimension)
        if dimension not in (None, self.dimension):
            raise ValueError(f"the store {path} holds vectors of {self.dimension} numbers, not {dimension}.")
        self._rows = rows_as_stored([], [], [])
        self._order = np.zeros(0, np.int64)
        self._fields: Fields | None = None
        self.seen = -1
        self._writers = FileLock(self.path / LOCK)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Writers take turns, in all processes: of two that insert the same new id at once, LanceDB lets both succeed."""
        with (
            held(self._writers),
            self.lock,
        ):  # in this order: who waits for other processes holds up no reader of this one
            if self.version % WRITES == 0:
                self._tidy()
            yield

    def _tidy(self) -> None:
        """Compacts where that can be done now; the write that asked for it counts, or fails, by itself."""
        with suppress(OSError, ValueError):
            self.compact()

    def compact(self, older: timedelta = timedelta(hours=1)) -> None:
        """Writes small files together, drops removed rows from the disk, and forgets versions that are older.

        Who still reads a version that is forgotten gets a `LookupError` and reads the newest one. Every 64 versions this is done by the
        next write, of whichever process: each adds a file, and many files are slow.
        """
        self.refresh()
        if self._table is None:
            return
        with held(self._writers), self.lock:
            self.refresh()
            table = self._table
            self._retry(lambda: table.optimize(cleanup_older_than=older))

    def _connect(self) -> Any:
        import lancedb

        return lancedb.connect(str(self.path))

    def _open(self) -> None:
        """Opens the table once it is there; to look makes no folder."""
        if self._table is None and (self.path / f"{TABLE}.lance").is_dir():
            try:
                self._table = self._connect().open_table(TABLE)
            except Exception as error:
                raise mistake(self.path, error) from None
            self.dimension = self._table.schema.field("vector").type.list_size

    def _create(self, dimension: int) -> None:
        schema = pa.schema(
            [
                ("key", pa.int64()),
                ("id", pa.string()),
                ("vector", pa.list_(pa.float32(), dimension)),
                ("metadata", pa.string()),
            ]
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._table = self._connect().create_table(TABLE, schema=schema, exist_ok=True)
        except Exception as error:
            raise mistake(self.path, error) from None
        self.dimension = self._table.schema.field("vector").type.list_size

    def _retry(self, action: Callable[[], Result]) -> Result:
        """Tries again, after a random pause, when another writer came first."""
        for attempt in range(TRIES):
            try:
                return action()
            except Exception as error:
                conflict = "conflict" in str(error).lower()
                if not conflict or attempt == TRIES - 1:
                    raise mistake(self.path, error) from None
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)
                self._table.checkout_latest()
        raise AssertionError("unreachable")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A version that another process forgot while it was read is a `LookupError`: there is a newer one."""
        try:
            yield
        except Exception as error:
            read = int(self._table.version)
            if "not found" in str(error).lower() and self.version != read:
                raise gone(self.name) from None
            raise mistake(self.path, error) from None

    def _again(self, read: Callable[[], Result]) -> Result:
        """Reads, and reads a newer version where that one was forgotten meanwhile."""
        for _ in range(TRIES - 1):
            with suppress(LookupError):
                return read()
        return read()

    def refresh(self) -> None:
        with self.lock:
            self._open()
            if self._table is not None:
                self._table.checkout_latest()

    @property
    def version(self) -> int:
        with self.lock:
            self.refresh()
            return 0 if self._table is None else int(self._table.version)

    def __len__(self) -> int:
        with self.lock:
            self.refresh()
            return 0 if self._table is None else self._table.count_rows()

    def _catch_up(self) -> np.ndarray:
        """Brings what is kept of the rows to the latest version; returns their keys."""
        return self._again(self._follow)

    def _follow(self) -> np.ndarray:
        """The same, by what came and what went."""
        version = self.version
        mine = self._rows["key"].to_numpy()
        if self.seen == version:
            return mine
        there = np.zeros(0, np.int64) if self._table is None else self._read(["key"])["key"].to_numpy()
        stay, old = places(there, mine) >= 0, places(mine, there, self._order) >= 0
        new = self._read(["key", "id", "metadata"], there[~old]) if not old.all() else self._rows.slice(0, 0)
        if not stay.all():
            self._rows = self._rows.filter(stay)
            if self._fields is not None:
                self._fields.keep(stay)
        self._append(new, version)
        return self._rows["key"].to_numpy()

    def _append(self, new: pa.Table, version: int) -> None:
        """Keeps new rows beside the others, as of a version."""
        if self._fields is not None:
            self._fields.extend(decoded(new["id"]), decoded(new["metadata"]))
        self._rows = pa.concat_tables([self._rows, new.select(["key", "id", "metadata"])]).combine_chunks()
        self._order, self.seen = self._rows["key"].to_numpy().argsort(), version

    def _read(self, columns: list[str], keys: np.ndarray | None = None) -> pa.Table:
        """Columns of every row, or of some in their order."""
        with self._reading():
            arrow = self._query(columns, keys).to_arrow()
        return arrow if keys is None else arrow.take(places_of(arrow["key"].to_numpy(), keys, self.name))

    def _query(self, columns: list[str], keys: np.ndarray | None) -> Any:
        """Asks for columns of every row, or at least of some."""
        assert self._table is not None
        query = self._table.search().select(columns).limit(EVERYTHING)
        if keys is not None and len(keys) <= max(1000, min(MANY, len(self._rows) // 20)):  # else all of them is quicker
            return query.where(f"key IN ({', '.join(str(int(k)) for k in keys)})")
        return query

    def _places(self, ids: Sequence[Id]) -> np.ndarray:
        """Where ids are among the rows kept, −1 for none."""
        wanted = pa.array([encode_id(value) for value in ids], pa.string())
        return pc.index_in(wanted, value_set=self._rows["id"]).fill_null(-1).to_numpy(zero_copy_only=False)

    def keys(self) -> np.ndarray:
        with self.lock:
            return self._catch_up().copy()

    def rows(self, keys: np.ndarray) -> pd.DataFrame:
        with self.lock:
            at = places_of(self._rows["key"].to_numpy(), np.asarray(keys, np.int64), self.name, self._order)
            return frame(self._rows.take(at))

    def _known(self) -> Fields:
        """The fields of the rows of the latest version."""
        self._catch_up()
        if self._fields is None:
            self._fields = Fields(decoded(self._rows["id"]), decoded(self._rows["metadata"]))
        return self._fields

    def kinds(self) -> dict[str, set[str]]:
        with self.lock:
            fields = self._known()
            return {name: fields.kinds(name) for name in fields.names()}

    def select(self, where: str) -> np.ndarray:
        wanted = parse(where)
        with self.lock:
            fields = self._known()
            return self._rows["key"].to_numpy()[mask(wanted, fields)]

    def look(self, where: str | None = None, ids: Sequence[Id] | None = None) -> pd.DataFrame:
        with self.lock:
            keys = self._catch_up() if where is None else self.select(where)
            if ids is not None:
                at = self._places(ids)
                named = self._rows["key"].to_numpy()[np.unique(at[at >= 0])]
                keys = named if where is None else np.intersect1d(named, keys)
            rows = self.rows(keys)
        rows.insert(0, "key", keys)
        return rows

    def scan(self, where: str | None = None) -> pd.DataFrame:
        with self.lock:
            rows = self.look(where)
            names = None if where is None else [name for name in self._known().names() if name != "id"]
        fields = spread(rows["metadata"])
        if names is not None:
            fields = fields.reindex(columns=names).astype(object)
            fields = fields.where(fields.notna(), None)
        return pd.concat([rows[["key", "id"]], fields.drop(columns=["key", "id"], errors="ignore")], axis=1)

    def _as_stored(self, rows: Rows) -> pa.Table:
        self.refresh()
        if self._table is None:
            self._create(rows.vectors.shape[1])
        rows.fit(self.dimension, self.name)
        return with_vectors(rows_as_stored(rows.keys, rows.ids, rows.metadata), rows.vectors)

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if not len(ids):
            return
        given = checked(ids, vectors, metadata)
        with self._turn():
            rows = self._as_stored(given)
            self._catch_up()
            if there := sorted(encode_id(ids[i]) for i in (self._places(ids) >= 0).nonzero()[0].tolist()):
                raise taken(there)
            assert self._table is not None
            table, before = self._table, self.seen
            self._retry(lambda: table.merge_insert("id").when_not_matched_insert_all().execute(rows))
            if int(table.version) == before + 1:  # nobody else wrote: what was added need not be read back
                self._append(rows, before + 1)

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if not len(ids):
            return
        given = checked(ids, vectors, metadata)
        with self._turn():
            rows = self._as_stored(given)
            assert self._table is not None
            table = self._table
            self._retry(
                lambda: table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
            )

    def replace(self, keys: Sequence[int] | np.ndarray, metadata: Any) -> np.ndarray:
        keys, texts = replacing(keys, metadata)
        if not len(keys) or self.version == 0:
            return np.zeros(len(keys), dtype=bool)
        with self._turn():
            self._catch_up()
            at = places(self._rows["key"].to_numpy(), keys, self._order)
            there = at >= 0
            if there.any():
                ids = self._rows["id"].take(at[there]).to_pylist()
                told = [text for text, ok in zip(texts, there.tolist(), strict=True) if ok]
                rows = with_vectors(rows_as_stored(new_keys(len(ids)), ids, told), self.vectors(keys[there]))
                table = self._table
                self._retry(lambda: table.merge_insert("id").when_matched_update_all().execute(rows))
            return there

    def remove(self, ids: Sequence[Id]) -> int:
        if not len(ids) or self.version == 0:
            return 0
        with self._turn():
            keys, at = self._catch_up(), self._places(ids)
            gone = np.unique(keys[at[at >= 0]])
            self._delete(gone)
            return len(gone)

    def discard(self, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        keys = np.asarray(keys, np.int64)
        if not len(keys) or self.version == 0:
            return np.zeros(len(keys), dtype=bool)
        with self._turn():
            there = places(self._catch_up(), keys, self._order) >= 0
            self._delete(np.unique(keys[there]))
            return there

    def _delete(self, keys: np.ndarray) -> None:
        """Removes rows that are there."""
        if len(keys) > MANY:
            self._tidy()
        table = self._table
        if len(keys) and table is not None:
            self._retry(lambda: table.delete(f"key IN ({', '.join(map(str, keys.tolist()))})"))

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        with self.lock:
            return self._again(lambda: self._get(ids))

    def _get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        keys, places = self._catch_up(), self._places(ids)
        there = places >= 0
        rows, vectors = self.rows(keys[places[there]]), self.vectors(keys[places[there]])
        rank = np.cumsum(there) - 1
        return [
            {"id": rows["id"][r], "vector": vectors[r], "metadata": rows["metadata"][r]} if ok else None
            for ok, r in zip(there.tolist(), rank.tolist(), strict=True)
        ]

    def vectors(self, keys: np.ndarray) -> np.ndarray:
        if self._table is None or not len(keys):
            return np.zeros((0, self.dimension or 0), np.float32)
        keys = np.asarray(keys, np.int64)
        order = keys.argsort()
        if (np.diff(keys[order]) == 0).any():
            once, again = np.unique(keys, return_inverse=True)
            return self.vectors(once)[again]
        out, missing = np.empty((len(keys), self.dimension or 0), np.float32), len(keys)
        with self.lock, self._reading(), read_so_far(len(keys)) as advance:
            for batch in self._query(["key", "vector"], keys).to_batches():  # a batch at a time: there may be gigabytes
                at = places(keys, batch["key"].to_numpy(), order)
                rows = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(at), -1)
                out[at[at >= 0]] = rows[at >= 0]
                found = int((at >= 0).sum())
                missing -= found
                advance(found)
        if missing:
            raise gone(self.name)
        return out
