"""A store in a folder, on LanceDB."""

from __future__ import annotations

import errno
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from ziggurat.memory.fields import Fields
from ziggurat.memory.stores import (
    Id,
    Store,
    checked,
    encode_id,
    gone,
    places,
    places_of,
    spread,
    taken,
)
from ziggurat.memory.where import mask, parse

Result = TypeVar("Result")
TABLE, TRIES, WRITES = "memory", 8, 64
MANY = 10_000  # removed rows; every file holds the condition that names them
EVERYTHING = (1 << 31) - 1  # a query without a limit returns ten rows


class LanceStore(Store):
    """A store in a folder, on LanceDB.

    Keys, ids and metadata of all rows are kept in memory as they are stored, and are decoded where they are asked for.

    Arguments:
        path: the folder; made when it is not there.
        dimension: of the vectors; None takes that of the store, or of the first vectors added.
    """

    def __init__(self, path: str | Path, dimension: int | None = None) -> None:
        import lancedb

        self.path, self.name = Path(path), str(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._db = lancedb.connect(str(self.path))
            there = (self.path / f"{TABLE}.lance").is_dir()
            self._table = self._db.open_table(TABLE) if there else None
        except Exception as error:
            raise self._mistake(error) from None
        self.dimension: int | None = None
        if self._table is not None:
            self.dimension = self._table.schema.field("vector").type.list_size
            if dimension is not None and dimension != self.dimension:
                raise ValueError(f"the store {path} holds vectors of {self.dimension} numbers, not {dimension}.")
        elif dimension is not None:
            self._create(dimension)
        self._rows = _rows_as_stored([], [], [])
        self._order = np.zeros(0, np.int64)
        self._fields: Fields | None = None
        self._writes = 0
        self.seen = -1
        self._lock = FileLock(self.path / "writing.lock")

    def _mistake(self, error: Exception) -> Exception:
        """One sentence instead of the database's own errors."""
        text = " ".join(str(error).split())[:200]
        if "No space left" in text or getattr(error, "errno", None) == errno.ENOSPC:
            return OSError(
                errno.ENOSPC, f"the disk is full while writing {self.path}; free some space, nothing was half-written"
            )
        if "Read-only" in text or "Permission denied" in text:
            return ValueError(f"the store {self.path} cannot be written to ({text}); check who owns the folder.")
        return ValueError(f"the store {self.path} cannot be read or written ({text}); it may be damaged.")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Writers take turns, in all processes: of two that insert the same new id at once, LanceDB lets both succeed."""
        try:
            self._lock.acquire(poll_interval=0.01)
        except (OSError, NotImplementedError) as error:
            raise self._mistake(error) from None
        try:
            if self._writes >= WRITES:
                self.compact()
            self._writes += 1
            yield
        finally:
            self._lock.release()

    def compact(self, older: timedelta = timedelta(hours=1)) -> None:
        """Writes small files together, drops removed rows from the disk, and forgets versions that are older; others may read meanwhile.

        Every 64 writes of a handle do this by themselves: each adds a file, and many files are slow.
        """
        with self._lock:
            self.refresh()
            if self._table is not None:
                table = self._table
                self._retry(lambda: table.optimize(cleanup_older_than=older))
            self._writes = 0

    def _create(self, dimension: int) -> None:
        schema = pa.schema(
            [
                ("key", pa.int64()),
                ("id", pa.string()),
                ("vector", pa.list_(pa.float32(), dimension)),
                ("metadata", pa.string()),
            ]
        )
        self._table = self._db.create_table(TABLE, schema=schema, exist_ok=True)
        self.dimension = dimension

    def _retry(self, action: Callable[[], Result]) -> Result:
        """Tries again, after a random pause, when another writer came first."""
        for attempt in range(TRIES):
            try:
                return action()
            except Exception as error:
                conflict = "conflict" in str(error).lower()
                if not conflict or attempt == TRIES - 1:
                    raise self._mistake(error) from None
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)
                self._table.checkout_latest()  # type: ignore[union-attr]
        raise AssertionError("unreachable")

    def refresh(self) -> None:
        if self._table is None and (self.path / f"{TABLE}.lance").is_dir():
            self._table = self._db.open_table(TABLE)
            self.dimension = self._table.schema.field("vector").type.list_size
        if self._table is not None:
            self._table.checkout_latest()

    @property
    def version(self) -> int:
        self.refresh()
        return 0 if self._table is None else int(self._table.version)

    def __len__(self) -> int:
        self.refresh()
        return 0 if self._table is None else self._table.count_rows()

    def _catch_up(self) -> np.ndarray:
        """Brings what is kept of the rows to the latest version, by what came and what went; returns their keys."""
        version = self.version
        mine = self._rows["key"].to_numpy()
        if self.seen == version:
            return mine
        there = np.zeros(0, np.int64) if self._table is None else self._read(["key"])["key"].to_numpy()
        stay, old = places(there, mine) >= 0, places(mine, there, self._order) >= 0
        new = self._read(["key", "id", "metadata"], there[~old]) if not old.all() else self._rows.slice(0, 0)
        if self._fields is not None:
            self._fields.keep(stay)
            self._fields.extend(_decoded(new["id"]), _decoded(new["metadata"]))
        kept = self._rows if stay.all() else self._rows.filter(stay)
        self._rows = pa.concat_tables([kept, new.select(["key", "id", "metadata"])]).combine_chunks()
        self._order, self.seen = self._rows["key"].to_numpy().argsort(), version
        return self._rows["key"].to_numpy()

    def _read(self, columns: list[str], keys: np.ndarray | None = None) -> pa.Table:
        """Columns of every row, or of some in their order."""
        arrow = self._query(columns, keys).to_arrow()
        return arrow if keys is None else arrow.take(places_of(arrow["key"].to_numpy(), keys, self.name))

    def _query(self, columns: list[str], keys: np.ndarray | None) -> Any:
        """Asks for columns of every row, or at least of some."""
        assert self._table is not None
        query = self._table.search().select(columns).limit(EVERYTHING)
        if keys is not None and len(keys) <= 1000:
            return query.where(f"key IN ({', '.join(str(int(k)) for k in keys)})")
        return query

    def _places(self, ids: Sequence[Id]) -> np.ndarray:
        """Where ids are among the rows kept, −1 for none."""
        wanted = pa.array([encode_id(value) for value in ids], pa.string())
        return pc.index_in(wanted, value_set=self._rows["id"]).fill_null(-1).to_numpy(zero_copy_only=False)

    def keys(self) -> np.ndarray:
        return self._catch_up().copy()

    def rows(self, keys: np.ndarray) -> pd.DataFrame:
        at = places_of(self._rows["key"].to_numpy(), np.asarray(keys, np.int64), self.name, self._order)
        return _frame(self._rows.take(at))

    def select(self, where: str) -> np.ndarray:
        wanted, keys = parse(where), self._catch_up()
        if self._fields is None:
            self._fields = Fields(_decoded(self._rows["id"]), _decoded(self._rows["metadata"]))
        return keys[mask(wanted, self._fields)]

    def scan(self, where: str | None = None) -> pd.DataFrame:
        keys = self.keys() if where is None else self.select(where)
        frame = self.rows(keys)
        fields = spread(frame["metadata"])
        if where is not None:
            assert self._fields is not None
            fields = fields.reindex(columns=[name for name in self._fields.names() if name != "id"]).astype(object)
            fields = fields.where(fields.notna(), None)
        return pd.concat(
            [pd.DataFrame({"key": keys}), frame["id"], fields.drop(columns=["key", "id"], errors="ignore")], axis=1
        )

    def _as_stored(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any) -> pa.Table:
        rows = checked(ids, vectors, metadata)
        self.refresh()
        if self._table is None:
            self._create(rows.vectors.shape[1])
        rows.fit(self.dimension, self.name)
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.ravel()), self.dimension)
        return _rows_as_stored(rows.keys, rows.ids, rows.metadata).add_column(2, "vector", values)

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if not len(ids):
            return
        with self._turn():
            rows = self._as_stored(ids, vectors, metadata)
            self._catch_up()
            if there := sorted(encode_id(ids[i]) for i in (self._places(ids) >= 0).nonzero()[0].tolist()):
                raise taken(there)
            assert self._table is not None
            table = self._table
            self._retry(lambda: table.merge_insert("id").when_not_matched_insert_all().execute(rows))

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if not len(ids):
            return
        with self._turn():
            rows = self._as_stored(ids, vectors, metadata)
            assert self._table is not None
            table = self._table
            self._retry(
                lambda: table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
            )

    def remove(self, ids: Sequence[Id]) -> int:
        if not len(ids) or self.version == 0:
            return 0
        with self._turn():
            keys, places = self._catch_up(), self._places(ids)
            gone, table = np.unique(keys[places[places >= 0]]), self._table
            if len(gone) > MANY:
                self.compact()
            if len(gone) and table is not None:
                self._retry(lambda: table.delete(f"key IN ({', '.join(map(str, gone.tolist()))})"))
            return len(gone)

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
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
        once, again = np.unique(np.asarray(keys, np.int64), return_inverse=True)
        out, order, missing = np.empty((len(once), self.dimension or 0), np.float32), np.arange(len(once)), len(once)
        for batch in self._query(["key", "vector"], once).to_batches():  # a batch at a time: there may be gigabytes
            at = places(once, batch["key"].to_numpy(), order)
            rows = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(at), -1)
            out[at[at >= 0]] = rows[at >= 0]
            missing -= int((at >= 0).sum())
        if missing:
            raise gone(self.name)
        return out[again]


def _rows_as_stored(keys: list[int], ids: list[str], metadata: list[str]) -> pa.Table:
    """`key`, `id` and `metadata`, the latter two as JSON."""
    columns = {
        "key": pa.array(keys, pa.int64()),
        "id": pa.array(ids, pa.string()),
        "metadata": pa.array(metadata, pa.string()),
    }
    return pa.table(columns)


def _decoded(texts: pa.ChunkedArray) -> list[Any]:
    """The values of a column of JSON."""
    return json.loads("[" + ",".join(texts.to_pylist()) + "]")


def _frame(rows: pa.Table) -> pd.DataFrame:
    """`id` and `metadata` as given."""
    return pd.DataFrame({name: pd.Series(_decoded(rows[name]), dtype=object) for name in ("id", "metadata")})
