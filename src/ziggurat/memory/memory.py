"""What people use: a store and an index over it, which always agree."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ziggurat.memory.approximate_index import FEW
from ziggurat.memory.fields import EXACT, kind
from ziggurat.memory.indexes import ExactIndex, Metric
from ziggurat.memory.kinds import KINDS, load_index
from ziggurat.memory.lance import TRIES, LanceStore
from ziggurat.memory.opening import open_store
from ziggurat.memory.planning import Plan
from ziggurat.memory.stores import Id, Store, places
from ziggurat.memory.where import Filter, parse
from ziggurat.memory.windows import Interval, Windows, interval

FILTERS = 8  # whose rows are kept until the store changes
AGED = 100  # rows of a range that went since graphs were built over it


@dataclass(frozen=True)
class Hits:
    """Neighbours of each query: ids and metadata as lists (M, k'), distances (M, k') ascending, ties by id; and how they were found.

    By id means whole numbers by their value, and texts after them.
    """

    ids: list[list[Id]]
    distances: np.ndarray
    metadata: list[list[dict[str, Any]]]
    plan: Plan

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{q}</td><td>{html.escape(str(i))}</td><td>{d:.4f}</td><td>{html.escape(str(m))}</td></tr>"
            for q, (ids, away, metadata) in enumerate(zip(self.ids, self.distances, self.metadata, strict=True))
            for i, d, m in zip(ids, away, metadata, strict=True)
        )
        return f"<table><tr><th>query</th><th>id</th><th>distance</th><th>metadata</th></tr>{rows}</table>"


def by_id(one: Id) -> tuple[bool, Id]:
    """Sorts ids: whole numbers by their value, then texts."""
    return isinstance(one, str), one


class Memory:
    """Embeddings that can be searched with filters, edited and kept.

    Arguments:
        store: the truth.
        index: a cache of it; it is caught up whenever the store has changed, by this process or another.

    All methods may be called from several threads. While a change waits for other processes, searches go on.
    """

    def __init__(self, store: Store, index: ExactIndex) -> None:
        self.store, self.index = store, index
        self._version = -1
        self._windows: dict[str, Windows] = {}
        self._filters: dict[str, np.ndarray] = {}

    @classmethod
    def open(
        cls,
        path: str | Path,
        dimension: int | None = None,
        index: Literal["exact", "hnsw", "graph"] = "exact",
        metric: Metric = "cosine",
    ) -> Memory:
        """The memory in a folder, or on the server of a postgresql:// URL; made when it is not there.

        A saved index that fits is used. That of a server store lives in memory only: it is built from the store at the first search.
        """
        if index not in KINDS:
            raise ValueError(f"index must be exact, hnsw or graph, got {index!r}.")
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
        with self.store.lock:
            self._catch_up()
            path = self._saved(self.store)
            self.index.save(path, self._version)
            return path

    def _catch_up(self) -> None:
        """Brings the index to the store's version: keys that came are added, keys that went are removed."""
        while True:
            there = self.store.keys()
            if self.store.seen == self._version:
                return
            mine = self.index.keys()
            gone, new = mine[places(there, mine) < 0], there[places(mine, there) < 0]
            try:
                vectors = self.store.vectors(new)
            except LookupError:  # another process removed some of them in between
                continue
            try:
                if len(gone):
                    self.index.remove(gone)
                if len(new):
                    self.index.add(new, vectors)
            except BaseException:  # an index that has the rows but not all of their graph must not pass for a whole one
                self._version = -1
                self.index.clear()
                raise
            self._version, self._filters = self.store.seen, {}
            return

    def _selected(self, where: str) -> np.ndarray:
        """The keys, ascending, that a filter selects in the index's version of the store (or nearly, where others never stop writing)."""
        for _ in range(TRIES):
            self._catch_up()
            if where in self._filters:
                return self._filters[where]
            allowed = np.sort(self.store.select(where))
            if self.store.seen == self._version:
                break
        self._filters = dict([*self._filters.items(), (where, allowed)][-FILTERS:])
        return allowed

    def __len__(self) -> int:
        return len(self.store)

    def add(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds rows; acknowledged when it returns; an id that is there is a `ValueError`."""
        self.store.add(ids, vectors, metadata)

    def upsert(self, ids: Sequence[Id], vectors: np.ndarray, metadata: Any = None) -> None:
        """Adds or replaces rows."""
        self.store.upsert(ids, vectors, metadata)

    def remove(self, ids: Sequence[Id]) -> int:
        """Removes rows and returns how many there were."""
        return self.store.remove(ids)

    def get(self, ids: Sequence[Id]) -> list[dict[str, Any] | None]:
        """{"id", "vector", "metadata"} of each id, or None."""
        return self.store.get(ids)

    def prepare(self, field: str) -> None:
        """Builds graphs over the ranges of a field of numbers, by which filters such as `year >= 2020 and year < 2024` are searched then.

        They are kept in memory, follow additions and removals as long as these are few, and are built anew by another call.
        """
        if self.index.metric == "ip":
            raise ValueError("graphs over ranges need the metric cosine or l2, not ip.")
        with self.store.lock:
            self._catch_up()
            rows = self.store.scan(f"{field} is not null")
            if {kind(type(value)) for value in rows[field]} != {"numbers"}:
                raise ValueError(
                    f"the field {field!r} does not hold numbers in any row, or not only; it has no ranges."
                )
            if any(isinstance(value, int) and abs(value) > EXACT for value in rows[field]):
                raise ValueError(
                    f"the field {field!r} holds whole numbers beyond {EXACT:,}, which are not told apart here."
                )
            labels = rows[field].to_numpy(dtype=np.float64)
            if not np.isfinite(labels).all():
                raise ValueError(f"the field {field!r} holds numbers that are not finite; it has no ranges.")
            keys = rows["key"].to_numpy(dtype=np.int64)
            self._windows[field] = Windows(field, keys, self.index.vectors(keys), labels)

    def search(self, queries: np.ndarray, k: int = 10, where: str | None = None) -> Hits:
        """The k nearest rows of each query among those that a filter selects: exactly min(k, alive) of them.

        `Hits.plan` says how they were found: by looking at all that are selected where these are few, through the graphs over a field
        that was prepared where the filter is a range of it, or as the index plans.
        """
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}.")
        queries = np.atleast_2d(np.asarray(queries, dtype=np.float32))
        with self.store.lock:
            if where is None:
                self._catch_up()
            allowed = None if where is None else self._selected(where)
            plan = self.index.plan(k, None if allowed is None else len(allowed))
            windows = None if where is None or allowed is None else self._within(parse(where), k, allowed)
            if windows is None or allowed is None:
                keys, away = self.index.search(queries, k + 1, allowed)  # one more shows where there are ties
            else:
                prepared, within = windows
                plan = Plan(
                    "windows",
                    len(allowed),
                    len(self.index),
                    f"the filter is a range of {prepared.field}, which was prepared",
                )
                keys, away = prepared.search(self.index, queries, k + 1, within, allowed)
            cut = np.flatnonzero((away[:, k - 1 : k] == away[:, k : k + 1]).any(1))
            rest, keys, away = keys[cut], keys[:, :k].copy(), away[:, :k].copy()
            if len(cut):
                keys[cut], away[cut] = self._settled(queries[cut], k, allowed, rest, away[cut, -1])
            different, at = np.unique(keys, return_inverse=True)
            rows = self.store.rows(different)
        ids, metadata = (rows[name].to_numpy(dtype=object)[at.reshape(keys.shape)] for name in ("id", "metadata"))
        for row in np.flatnonzero((np.diff(away) == 0).any(1)):
            ranks = [(far, *by_id(one)) for far, one in zip(away[row].tolist(), ids[row].tolist(), strict=True)]
            order = sorted(range(len(ranks)), key=ranks.__getitem__)
            ids[row], metadata[row] = ids[row, order], metadata[row, order]
        return Hits(ids.tolist(), away, metadata.tolist(), plan)

    def _settled(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, keys: np.ndarray, limits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keys and distances where more rows than k are as near as the k-th: by a scan, of equally near rows the first by id.

        Arguments:
            keys, limits: of each query more than k, and the distance of the k-th.
        """
        near = np.union1d(keys, self.index.within(queries, limits, allowed))
        ids = self.store.rows(near)["id"].tolist()
        return self.index.first(queries, k, near[sorted(range(len(ids)), key=lambda i: by_id(ids[i]))])

    def _within(self, where: Filter, k: int, selected: np.ndarray) -> tuple[Windows, Interval] | None:
        """The prepared field that a filter is a range of, if the graphs over it are worth it and have not aged too much."""
        if len(selected) <= max(FEW, 4 * k):
            return None
        for field, windows in self._windows.items():
            if (within := interval(where, field)) is not None:
                gone, came = windows.changed(within, selected)
                if gone <= AGED and len(came) <= FEW:
                    return windows, within
        return None
