"""Stores: the truth about embeddings. What was acknowledged is there, in every process, until it is removed."""

from __future__ import annotations

import errno
import json
import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock

from ziggurat.memory.where import mask

Id = str | int
Result = TypeVar("Result")
TABLE, TRIES = "memory", 8
EVERYTHING = (1 << 31) - 1  # a query without a limit returns ten rows


class Store(ABC):
    """What a memory asks of a store.

    `name` is what a message calls it, `dimension` that of its vectors (None while it is not made), and `seen` the version that `known`
    or `scan` last showed.
    """

    name: str
    dimension: int | None
    seen: int

    @abstractmethod
    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds new rows; acknowledged when it returns. An id that is there already is a `ValueError`, and nothing is added."""

    @abstractmethod
    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds rows, or replaces those whose id is there, in one step."""

    @abstractmethod
    def remove(self, ids: Sequence[Id]) -> int:
        """Removes rows and returns how many there were."""

    @abstractmethod
    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        """{"id", "vector", "metadata"} of each id, or None where there is none."""

    @abstractmethod
    def scan(self, where: str | None = None) -> pd.DataFrame:
        """`key`, `id` and the fields of the metadata as columns, of the rows that a filter selects."""

    @abstractmethod
    def known(self) -> pd.DataFrame:
        """`key`, `id` (as given) and `metadata` (dict) of every row, kept until the version changes."""

    @abstractmethod
    def vectors(self, keys: np.ndarray) -> np.ndarray:
        """Vectors (n, D) of keys, in their order; a `LookupError` where some are not there."""

    @abstractmethod
    def refresh(self) -> None:
        """Sees what other handles and processes have written."""

    @property
    @abstractmethod
    def version(self) -> int:
        """Grows with every change; 0 for a store in which nothing was ever stored."""

    @abstractmethod
    def __len__(self) -> int: ...

    def close(self) -> None:  # noqa: B027 (most stores hold nothing open)
        """Gives back what the store holds open, if anything; it may be used again."""


def encode_id(value: Id) -> str:
    """A text that keeps apart 1 and "1"."""
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer):
        raise ValueError(f"an id is a text or a whole number, got {value!r}.")
    return json.dumps(value if isinstance(value, str) else int(value))


@dataclass(frozen=True)
class Rows:
    """What one call adds, checked: new keys (n), encoded ids (n), vectors (n, D), and metadata (n) as JSON."""

    keys: list[int]
    ids: list[str]
    vectors: np.ndarray
    metadata: list[str]

    def fit(self, dimension: int | None, name: str) -> None:
        """A `ValueError` unless the vectors are as long as those of the store."""
        if self.vectors.shape[1] != dimension:
            raise ValueError(f"vectors have {self.vectors.shape[1]} numbers, the store {name} holds {dimension}.")


def checked(ids: Sequence[Id], vectors: np.ndarray, metadata: Any) -> Rows:
    """The rows that a call means. Every row gets a random 62-bit key that is never used again."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise ValueError(f"{len(ids)} ids and vectors of the shape {vectors.shape}; give one row for each id.")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors hold numbers that are not finite; drop those rows first.")
    if isinstance(metadata, pd.DataFrame):
        metadata = metadata.astype(object).where(metadata.notna(), None).to_dict("records")
    metadata = [{} for _ in ids] if metadata is None else list(metadata)
    if len(metadata) != len(ids):
        raise ValueError(f"{len(ids)} ids and {len(metadata)} rows of metadata; give one for each id.")
    texts = [encode_id(value) for value in ids]
    twice = pd.Series(texts)[pd.Series(texts).duplicated()].tolist()
    if twice:
        raise ValueError(f"the ids {', '.join(twice[:3])} come twice in one call; give each id once.")
    keys = [secrets.randbits(62) for _ in ids]
    return Rows(keys, texts, vectors, [json.dumps(row, default=_plain) for row in metadata])


def taken(ids: Sequence[str]) -> ValueError:
    """The mistake of adding ids that are there; they are given as encoded, sorted."""
    return ValueError(f"the ids {', '.join(ids[:3])} are in the store already; use upsert to replace them.")


def spread(metadata: pd.Series) -> pd.DataFrame:
    """A column for each field of the metadata, in the order of their first appearance; None where a row lacks it."""
    fields = pd.DataFrame(metadata.tolist(), index=metadata.index).astype(object)
    return fields.where(fields.notna(), None)


class LanceStore(Store):
    """A store in a folder, on LanceDB.

    Every row has a random 62-bit key that is never used again: a replaced vector gets a new key, so that an index sees every
    change as keys that came and keys that went.

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
        self._known: pd.DataFrame | None = None
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
            yield
        finally:
            self._lock.release()

    def _create(self, dimension: int) -> None:
        import pyarrow as pa

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

    def known(self) -> pd.DataFrame:
        version = self.version
        if self._known is None or self.seen != version:
            if self._table is None:
                rows = pd.DataFrame({"key": np.zeros(0, np.int64), "id": [], "metadata": []})
            else:
                arrow = self._table.search().select(["key", "id", "metadata"]).limit(EVERYTHING).to_arrow()
                rows = arrow.to_pandas()
                rows["id"] = [json.loads(text) for text in rows["id"]]
                rows["metadata"] = [json.loads(text) for text in rows["metadata"]]
            self._known, self.seen = rows, version
        return self._known

    def _rows(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any) -> Any:
        import pyarrow as pa

        rows = checked(ids, vectors, metadata)
        self.refresh()
        if self._table is None:
            self._create(rows.vectors.shape[1])
        rows.fit(self.dimension, self.name)
        return pa.table(
            {
                "key": pa.array(rows.keys, pa.int64()),
                "id": pa.array(rows.ids, pa.string()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.ravel()), self.dimension),
                "metadata": pa.array(rows.metadata, pa.string()),
            }
        )

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if not len(ids):
            return
        with self._turn():
            rows = self._rows(ids, vectors, metadata)
            there = sorted(set(rows["id"].to_pylist()) & {encode_id(value) for value in self.known()["id"]})
            if there:
                raise taken(there)
            assert self._table is not None
            table = self._table
            self._retry(lambda: table.merge_insert("id").when_not_matched_insert_all().execute(rows))

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        if not len(ids):
            return
        with self._turn():
            rows = self._rows(ids, vectors, metadata)
            assert self._table is not None
            table = self._table
            self._retry(
                lambda: table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
            )

    def remove(self, ids: Sequence[Id]) -> int:
        wanted = {encode_id(value) for value in ids}
        if not wanted or self.version == 0:
            return 0
        with self._turn():
            known = self.known()
            keys = [int(k) for k, value in zip(known["key"], known["id"], strict=True) if encode_id(value) in wanted]
            table = self._table
            if keys and table is not None:
                self._retry(lambda: table.delete(f"key IN ({', '.join(map(str, keys))})"))
            return len(keys)

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        known = self.known()
        places = {encode_id(value): i for i, value in enumerate(known["id"])}
        found = [places.get(encode_id(value)) for value in ids]
        keys = known["key"].to_numpy()[[i for i in found if i is not None]]
        vectors = dict(zip(keys.tolist(), self.vectors(keys), strict=True))
        return [
            None if i is None else {
                "id": known["id"][i], "vector": vectors[int(known["key"][i])], "metadata": known["metadata"][i],
            }
            for i in found
        ]  # fmt: skip

    def vectors(self, keys: np.ndarray) -> np.ndarray:
        if self._table is None or not len(keys):
            return np.zeros((0, self.dimension or 0), np.float32)
        query = self._table.search().select(["key", "vector"]).limit(EVERYTHING)
        if len(keys) <= 1000:
            query = query.where(f"key IN ({', '.join(str(int(k)) for k in keys)})")
        arrow = query.to_arrow()
        there = arrow["key"].to_numpy()
        flat = (
            arrow["vector"]
            .combine_chunks()
            .flatten()
            .to_numpy(zero_copy_only=False)
            .reshape(len(there), self.dimension or 0)
        )
        place = {int(key): i for i, key in enumerate(there)}
        return flat[[place[int(k)] for k in keys]]

    def scan(self, where: str | None = None) -> pd.DataFrame:
        known = self.known()
        fields = spread(known["metadata"])
        chosen = np.ones(len(known), dtype=bool) if where is None else mask(where, fields.assign(id=known["id"]))
        return pd.concat([known[["key", "id"]], fields.drop(columns=["key", "id"], errors="ignore")], axis=1)[chosen]


def _plain(value: Any) -> Any:
    """Numbers of numpy as JSON; anything else is refused."""
    if isinstance(value, np.generic):
        return value.item()
    raise ValueError(f"metadata may hold text, numbers, true, false and null, not {type(value).__name__}.")
