"""Stores: the truth about embeddings. What was acknowledged is there, in every process, until it is removed."""

from __future__ import annotations

import json
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ziggurat.data.progress import measured

Id = str | int
LONG = 20_000  # vectors that take a while to be read


class Store(ABC):
    """What a memory asks of a store.

    `name` is what a message calls it, `dimension` that of its vectors (None while it is not made), and `seen` the version that `keys`,
    `select`, `look` or `scan` last showed. Every row has a key of 62 random bits that is never used again: a replaced row has a new one.
    Several threads may use a store: who reads more than once and wants the same version holds `lock`. Who writes may have to wait for
    other processes, and must not hold it: the reading threads would wait as well.
    """

    name: str
    dimension: int | None
    seen: int
    lock: threading.RLock

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
    def replace(self, keys: Sequence[int] | np.ndarray, metadata: Any) -> np.ndarray:
        """Gives rows other metadata, in one step, and returns which of them were still there as they were read, under these keys (n).

        A row that was removed or replaced in between stays as it is.
        """

    @abstractmethod
    def discard(self, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        """Removes rows, in one step, and returns which of them were still there as they were read, under these keys (n)."""

    @abstractmethod
    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        """{"id", "vector", "metadata"} of each id, or None where there is none."""

    @abstractmethod
    def scan(self, where: str | None = None) -> pd.DataFrame:
        """`key`, `id` and the fields of the metadata as columns, of the rows that a filter selects."""

    @abstractmethod
    def look(self, where: str | None = None, ids: Sequence[Id] | None = None) -> pd.DataFrame:
        """`key`, `id` and `metadata` (dict) of the rows that a filter selects and that have one of these ids, where either is given.

        They are of one version, in no order, and their vectors are not read.
        """

    @abstractmethod
    def kinds(self) -> dict[str, set[str]]:
        """The fields that the rows have, and `id`; of each, of which kinds its values are, as `fields.kind` calls them."""

    @abstractmethod
    def keys(self) -> np.ndarray:
        """The key of every row (n)."""

    @abstractmethod
    def select(self, where: str) -> np.ndarray:
        """The keys of the rows that a filter selects."""

    @abstractmethod
    def rows(self, keys: np.ndarray) -> pd.DataFrame:
        """`id` (as given) and `metadata` (dict) of keys, in their order, of version `seen`; a `LookupError` where some are not there."""

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
    rows = written(ids, metadata)
    texts = [encode_id(value) for value in ids]
    twice = pd.Series(texts)[pd.Series(texts).duplicated()].tolist()
    if twice:
        raise ValueError(f"the ids {', '.join(twice[:3])} come twice in one call; give each id once.")
    check_whole(texts)
    return Rows(new_keys(len(ids)), texts, vectors, rows)


def new_keys(count: int) -> list[int]:
    """Random keys of 62 bits."""
    return [secrets.randbits(62) for _ in range(count)]


def written(names: Sequence[Any], metadata: Any) -> list[str]:
    """Metadata as JSON: a dictionary for each row, of which a mistake tells the name."""
    if isinstance(metadata, pd.DataFrame):
        metadata = metadata.astype(object).where(metadata.notna(), None).to_dict("records")
    metadata = [{} for _ in names] if metadata is None else list(metadata)
    if len(metadata) != len(names):
        raise ValueError(f"{len(names)} ids and {len(metadata)} rows of metadata; give one for each id.")
    for name, row in zip(names, metadata, strict=True):
        if not isinstance(row, Mapping) or not all(isinstance(field, str) for field in row):
            raise ValueError(
                f"the metadata of {name!r} is {repr(row)[:60]}; give a dictionary with the fields' names, or {{}}."
            )
    texts = [json.dumps(dict(row), default=_plain) for row in metadata]
    check_whole(texts)
    return texts


def replacing(keys: Sequence[int] | np.ndarray, metadata: Any) -> tuple[np.ndarray, list[str]]:
    """What one call of `replace` means, checked: keys (n), and metadata (n) as JSON."""
    keys = np.asarray(keys, np.int64)
    if len(np.unique(keys)) < len(keys):
        raise ValueError("a key comes twice in one call; give each row once.")
    return keys, written(keys.tolist(), metadata)


def check_whole(texts: Sequence[str]) -> None:
    """A `ValueError` where JSON holds text that cannot be written as UTF-8."""
    for text in texts:
        if "\\ud" in text and not _whole(json.loads(text)):
            raise ValueError(
                f"{text[:60]} holds half a character (a lone surrogate); decode the text it came from as UTF-8."
            )


def _whole(value: Any) -> bool:
    """Whether text can be written as UTF-8, also within."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def taken(ids: Sequence[str]) -> ValueError:
    """The mistake of adding ids that are there; they are given as encoded, sorted."""
    return ValueError(f"the ids {', '.join(ids[:3])} are in the store already; use upsert to replace them.")


def places(there: np.ndarray, wanted: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Where the wanted keys are among those that are there, −1 for none; `order` sorts the latter, where that is known."""
    order = there.argsort() if order is None else order
    if not len(there):
        return np.full(len(wanted), -1, np.int64)
    ascending, at = wanted.argsort(), np.empty(len(wanted), np.int64)
    # in order: each is looked for near the one before
    at[ascending] = np.searchsorted(there, wanted[ascending], sorter=order)
    at = order[np.minimum(at, len(there) - 1)]
    return np.where(there[at] == wanted, at, -1)


def places_of(there: np.ndarray, wanted: np.ndarray, name: str, order: np.ndarray | None = None) -> np.ndarray:
    """The same, where all must be there."""
    at = places(there, wanted, order)
    if (at < 0).any():
        raise gone(name)
    return at


def read_so_far(count: int) -> AbstractContextManager[Callable[[int], object]]:
    """Says how many of so many vectors were read, where that takes a while."""
    return measured(count, "reading vectors") if count > LONG else nullcontext(lambda more: None)


def gone(name: str) -> LookupError:
    """Rows were removed since their keys were read."""
    return LookupError(f"some of these rows are no longer in the store {name}; read it again.")


def spread(metadata: pd.Series) -> pd.DataFrame:
    """A column for each field of the metadata, in the order of their first appearance; None where a row lacks it."""
    fields = pd.DataFrame(metadata.tolist(), index=metadata.index, dtype=object)
    return fields.where(fields.notna(), None)


def _plain(value: Any) -> Any:
    """Numbers of numpy as JSON; anything else is refused."""
    if isinstance(value, np.generic):
        return value.item()
    raise ValueError(f"metadata may hold text, numbers, true, false and null, not {type(value).__name__}.")
