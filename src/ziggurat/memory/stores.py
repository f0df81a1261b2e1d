"""Stores: the truth about embeddings. What was acknowledged is there, in every process, until it is removed."""

from __future__ import annotations

import errno
import json
import random
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from ziggurat.memory.where import mask

Id = str | int
Result = TypeVar("Result")
TABLE, TRIES = "memory", 8
EVERYTHING = (1 << 31) - 1  # a query without a limit returns ten rows


class Store(Protocol):
    """What a memory asks of a store."""

    dimension: int | None

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None: ...

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None: ...

    def remove(self, ids: Sequence[Id]) -> int: ...

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]: ...

    def scan(self, where: str | None = None) -> pd.DataFrame: ...

    @property
    def version(self) -> int: ...


def encode_id(value: Id) -> str:
    """A text that keeps apart 1 and "1"."""
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer):
        raise ValueError(f"an id is a text or a whole number, got {value!r}.")
    return json.dumps(value if isinstance(value, str) else int(value))


class LanceStore:
    """A store in a folder, on LanceDB.

    Every row has a random 62-bit key that is never used again: a replaced vector gets a new key, so that an index sees every
    change as keys that came and keys that went.

    Arguments:
        path: the folder; made when it is not there.
        dimension: of the vectors; None takes that of the store, or of the first vectors added.
    """

    def __init__(self, path: str | Path, dimension: int | None = None) -> None:
        import lancedb

        self.path = Path(path)
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
        self.seen = -1  # the version that `known` last showed

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
        """Sees what other handles and processes have written."""
        if self._table is None and (self.path / f"{TABLE}.lance").is_dir():
            self._table = self._db.open_table(TABLE)
            self.dimension = self._table.schema.field("vector").type.list_size
        if self._table is not None:
            self._table.checkout_latest()

    @property
    def version(self) -> int:
        """Grows with every change; 0 for a store in which nothing was ever stored."""
        self.refresh()
        return 0 if self._table is None else int(self._table.version)

    def __len__(self) -> int:
        self.refresh()
        return 0 if self._table is None else self._table.count_rows()

    def known(self) -> pd.DataFrame:
        """`key`, `id` (as given) and `metadata` (dict) of every row, kept until the version changes."""
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
        self.refresh()
        if self._table is None:
            self._create(vectors.shape[1])
        if vectors.shape[1] != self.dimension:
            raise ValueError(f"vectors have {vectors.shape[1]} numbers, the store {self.path} holds {self.dimension}.")
        return pa.table(
            {
                "key": pa.array([secrets.randbits(62) for _ in ids], pa.int64()),
                "id": pa.array(texts, pa.string()),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dimension),
                "metadata": pa.array([json.dumps(row, default=_plain) for row in metadata], pa.string()),
            }
        )

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds new rows; acknowledged when it returns. An id that is there already is a `ValueError`, and nothing is added."""
        if not len(ids):
            return
        rows = self._rows(ids, vectors, metadata)
        taken = sorted(set(rows["id"].to_pylist()) & {encode_id(value) for value in self.known()["id"]})
        if taken:
            raise ValueError(f"the ids {', '.join(taken[:3])} are in the store already; use upsert to replace them.")
        assert self._table is not None
        table = self._table
        result = self._retry(lambda: table.merge_insert("id").when_not_matched_insert_all().execute(rows))
        if result.num_inserted_rows < len(rows):  # another writer added one of them in between
            keys = ", ".join(map(str, rows["key"].to_pylist()))
            self._retry(lambda: table.delete(f"key IN ({keys})"))
            raise ValueError("another process added some of these ids at the same moment; use upsert to replace them.")

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds rows, or replaces those whose id is there, in one step."""
        if not len(ids):
            return
        rows = self._rows(ids, vectors, metadata)
        assert self._table is not None
        table = self._table
        self._retry(
            lambda: table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        )

    def remove(self, ids: Sequence[Id]) -> int:
        """Removes rows and returns how many there were."""
        wanted = {encode_id(value) for value in ids}
        known = self.known()
        keys = [int(k) for k, value in zip(known["key"], known["id"], strict=True) if encode_id(value) in wanted]
        if not keys or self._table is None:
            return 0
        table = self._table
        self._retry(lambda: table.delete(f"key IN ({', '.join(map(str, keys))})"))
        return len(keys)

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        """{"id", "vector", "metadata"} of each id, or None where there is none."""
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
        """Vectors (n, D) of keys, in their order."""
        if self._table is None or not len(keys):
            return np.zeros((0, self.dimension or 0), np.float32)
        query = self._table.search().select(["key", "vector"]).limit(EVERYTHING)
        if len(keys) <= 1000:
            query = query.where(f"key IN ({', '.join(str(int(k)) for k in keys)})")
        arrow = query.to_arrow()
        there = arrow["key"].to_numpy()
        flat = arrow["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(there), -1)
        place = {int(key): i for i, key in enumerate(there)}
        return flat[[place[int(k)] for k in keys]]

    def scan(self, where: str | None = None) -> pd.DataFrame:
        """`key`, `id` and the fields of the metadata as columns, of the rows that a filter selects."""
        known = self.known()
        fields = pd.DataFrame(known["metadata"].tolist(), index=known.index).astype(object)
        fields = fields.where(fields.notna(), None)
        chosen = np.ones(len(known), dtype=bool) if where is None else mask(where, fields.assign(id=known["id"]))
        return pd.concat([known[["key", "id"]], fields.drop(columns=["key", "id"], errors="ignore")], axis=1)[chosen]


def _plain(value: Any) -> Any:
    """Numbers of numpy as JSON; anything else is refused."""
    if isinstance(value, np.generic):
        return value.item()
    raise ValueError(f"metadata may hold text, numbers, true, false and null, not {type(value).__name__}.")
