"""What people use: a store and an index over it, which always agree."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ziggurat.memory.indexes import KINDS, ExactIndex, Metric, load_index
from ziggurat.memory.opening import open_store
from ziggurat.memory.stores import TRIES, Id, LanceStore, Store, encode_id


@dataclass(frozen=True)
class Hits:
    """Neighbours of each query: ids and metadata as lists (M, k'), distances (M, k') ascending, ties by id."""

    ids: list[list[Id]]
    distances: np.ndarray
    metadata: list[list[dict[str, Any]]]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{q}</td><td>{html.escape(str(i))}</td><td>{d:.4f}</td><td>{html.escape(str(m))}</td></tr>"
            for q, (ids, away, metadata) in enumerate(zip(self.ids, self.distances, self.metadata, strict=True))
            for i, d, m in zip(ids, away, metadata, strict=True)
        )
        return f"<table><tr><th>query</th><th>id</th><th>distance</th><th>metadata</th></tr>{rows}</table>"


class Memory:
    """Embeddings that can be searched with filters, edited and kept.

    Arguments:
        store: the truth.
        index: a cache of it; it is caught up whenever the store has changed, by this process or another.

    All methods may be called from several threads.
    """

    def __init__(self, store: Store, index: ExactIndex) -> None:
        self.store, self.index = store, index
        self._version = -1
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | Path,
        dimension: int | None = None,
        index: Literal["exact", "hnsw"] = "exact",
        metric: Metric = "cosine",
    ) -> Memory:
        """The memory in a folder, or on the server of a postgresql:// URL; made when it is not there.

        A saved index that fits is used. That of a server store lives in memory only: it is built from the store at the first search.
        """
        if index not in KINDS:
            raise ValueError(f"index must be exact or hnsw, got {index!r}.")
        store = open_store(path, dimension)
        if store.dimension is None:
            raise ValueError(f"there is no store at {store.name} yet; say the dimension of its vectors to make one.")
        memory = cls(store, KINDS[index](store.dimension, metric))
        if isinstance(store, LanceStore) and memory._saved(store).is_file():
            memory.index, memory._version = load_index(memory._saved(store))
        return memory

    def _saved(self, store: LanceStore) -> Path:
        return store.path / f"index-{self.index.kind}-{self.index.metric}.npz"

    def save_index(self) -> Path:
        """Keeps the index beside the store, so that opening is quick. A server has no place for it: a `ValueError`."""
        if not isinstance(self.store, LanceStore):
            raise ValueError(
                f"the index of {self.store.name} lives in memory only; it is built when the memory is opened."
            )
        with self._lock:
            self._catch_up()
            path = self._saved(self.store)
            self.index.save(path, self._version)
            return path

    def _catch_up(self) -> pd.DataFrame:
        """Brings the index to the store's version: keys that came are added, keys that went are removed."""
        while True:
            rows = self.store.known()
            if self.store.seen == self._version:
                return rows
            there, mine = rows["key"].to_numpy(dtype=np.int64), self.index.keys()
            gone, new = np.setdiff1d(mine, there), np.setdiff1d(there, mine)
            try:
                vectors = self.store.vectors(new)
            except LookupError:  # another process removed some of them in between
                continue
            if len(gone):
                self.index.remove(gone)
            if len(new):
                self.index.add(new, vectors)
            self._version = self.store.seen
            return rows

    def _selected(self, where: str | None) -> tuple[pd.DataFrame, np.ndarray | None]:
        """Rows, and the keys that a filter selects, of one version of the store (or nearly, where others never stop writing)."""
        for _ in range(TRIES):
            rows = self._catch_up()
            allowed = None if where is None else self.store.scan(where)["key"].to_numpy(dtype=np.int64)
            if self.store.seen == self._version:
                break
        return rows, allowed

    def __len__(self) -> int:
        return len(self.store)

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds rows; acknowledged when it returns; an id that is there is a `ValueError`."""
        with self._lock:
            self.store.add(ids, vectors, metadata)

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds or replaces rows."""
        with self._lock:
            self.store.upsert(ids, vectors, metadata)

    def remove(self, ids: Sequence[Id]) -> int:
        """Removes rows and returns how many there were."""
        with self._lock:
            return self.store.remove(ids)

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        """{"id", "vector", "metadata"} of each id, or None."""
        with self._lock:
            return self.store.get(ids)

    def search(self, queries: np.ndarray, k: int = 10, where: str | None = None) -> Hits:
        """The k nearest rows of each query among those that a filter selects: exactly min(k, alive) of them."""
        with self._lock:
            rows, allowed = self._selected(where)
            keys, apart = self.index.search(np.atleast_2d(np.asarray(queries, dtype=np.float32)), k, allowed)
            place = pd.Series(np.arange(len(rows)), index=rows["key"].to_numpy())
            ids, metadata = rows["id"].to_list(), rows["metadata"].to_list()
        found, order = [], []
        for row, away in zip(keys, apart, strict=True):
            places = [int(place[key]) for key in row]
            ranks = sorted(range(len(places)), key=lambda j: (away[j], encode_id(ids[places[j]])))
            order.append(ranks)
            found.append([places[j] for j in ranks])
        away = np.take_along_axis(apart, np.array(order, dtype=np.int64).reshape(apart.shape), 1)
        return Hits([[ids[p] for p in row] for row in found], away, [[metadata[p] for p in row] for row in found])
