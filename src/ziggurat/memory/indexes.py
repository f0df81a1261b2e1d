"""What an index is: int64 keys and vectors, a cache of a store that can always be rebuilt; and the one that looks at every row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from ziggurat.data.sources import written
from ziggurat.memory._kernels import few_products, own_products, take_smallest
from ziggurat.memory.planning import Plan
from ziggurat.memory.stores import places, places_of

Metric = Literal["cosine", "l2", "ip"]
Keys = Int64[np.ndarray, " n"]
Vectors = Float32[np.ndarray, "n d"]
QUERIES, ROWS = 1024, 4096  # of a block of distances
ONE_PASS, MANY_ROWS = 2, 65_536  # up to so many queries are multiplied in one pass, with larger blocks


class Index(Protocol):
    """What a memory asks of an index."""

    def add(self, keys: Keys, vectors: Vectors) -> None: ...

    def remove(self, keys: Keys) -> None: ...

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]: ...

    def plan(self, k: int, selected: int | None = None) -> Plan: ...

    def keys(self) -> Keys: ...

    def save(self, path: Path, version: int) -> None: ...


def distances(
    queries: Float32[np.ndarray, "m d"], vectors: Float32[np.ndarray, "n d"], metric: Metric
) -> Float32[np.ndarray, "m n"]:
    """Cosine distance 1 − cos, squared Euclidean distance, or 1 − inner product, of all pairs (float32)."""
    if metric == "l2":
        square = (queries**2).sum(1)[:, None] - 2 * queries @ vectors.T + (vectors**2).sum(1)
        return np.maximum(square, 0)
    return 1 - queries @ vectors.T


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one, however long they were (rows of zeros stay)."""
    units = np.empty(vectors.shape, np.float32)
    for first in range(0, len(vectors), ROWS):
        rows = vectors[first : first + ROWS]
        _, power = np.frexp(np.maximum(rows.max(1, initial=0), -rows.min(1, initial=0)))
        # the largest number is between one and two then, and its square can be told; dividing by a power of two rounds nothing
        rows = rows / np.ldexp(rows.dtype.type(1), power - 1)[:, None]
        units[first : first + ROWS] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
    return units


def nearest(found: Float32[np.ndarray, "m n"], keys: Keys, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of the k smallest distances of every row, ascending, ties by key."""
    m, k = len(found), min(k, found.shape[1])
    values, names = np.empty((m, k), np.float32), np.empty((m, k), np.int64)
    if k:
        zeros, there = np.zeros(max(found.shape), np.float32), np.ones(len(keys), dtype=bool)
        least, sizes = np.float32(-np.inf), np.zeros(m, np.int64)
        take_smallest(found, keys, there, zeros[:m], zeros[: len(keys)], np.float32(-1), least, values, names, sizes)
    return in_order(names, values)


class ExactIndex:
    """Every distance, by blocked matrix products; ties by key. Equal rows are equally far, wherever they stand.

    Removed rows are marked, and dropped once they are more than half.

    Arguments:
        dimension: of the vectors.
        metric: "cosine", "l2" (squared Euclidean) or "ip" (1 − inner product).
    """

    kind = "exact"

    def __init__(self, dimension: int, metric: Metric = "cosine") -> None:
        if metric not in ("cosine", "l2", "ip"):
            raise ValueError(f"metric must be cosine, l2 or ip, got {metric!r}.")
        self.dimension, self.metric = dimension, metric
        ExactIndex.clear(self)

    def _set(self, keys: Keys, vectors: Vectors) -> None:
        """These rows and no others; vectors are as `_check` gives them."""
        self._size, self._keys, self._vectors = len(keys), keys, vectors
        self._squares = (
            np.einsum("nd,nd->n", vectors, vectors) if self.metric == "l2" else np.zeros(len(keys), np.float32)
        )
        self._alive, self._count = np.ones(len(keys), dtype=bool), len(keys)
        self._changed()

    def _changed(self) -> None:
        """Forgets what was worked out of the rows."""
        self._order: np.ndarray | None = None
        self._chosen: list[tuple[np.ndarray, np.ndarray]] = []

    def _arguments(self) -> dict[str, Any]:
        """What it was made with beside dimension and metric."""
        return {}

    def clear(self) -> None:
        """Drops every row."""
        self._set(np.zeros(0, np.int64), np.zeros((0, self.dimension), np.float32))

    def __len__(self) -> int:
        return self._count

    def keys(self) -> Keys:
        """Keys of everything in the index."""
        return self._keys[: self._size][self._alive[: self._size]]

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """Rows of those of the keys that are there."""
        at = places(self._keys[: self._size], np.asarray(keys, np.int64), self._sorting())
        at = at[at >= 0]
        return at[self._alive[at]]

    def _rows(self, allowed: Keys) -> np.ndarray:
        """Rows of keys that are allowed, ascending; those of the last few arrays are remembered."""
        for keys, rows in self._chosen:
            if keys is allowed:
                return rows
        rows = np.unique(self._places(allowed))
        self._chosen = [*self._chosen[-7:], (allowed, rows)]
        return rows

    def _sorting(self) -> np.ndarray:
        """Sorts the keys."""
        if self._order is None:
            self._order = self._keys[: self._size].argsort()
        return self._order

    def _check(self, vectors: np.ndarray) -> Vectors:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"vectors have the shape {vectors.shape}; this index takes (n, {self.dimension}).")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors hold numbers that are not finite; drop those rows first.")
        return unit(vectors) if self.metric == "cosine" else vectors

    def add(self, keys: Keys, vectors: np.ndarray) -> None:
        """Adds vectors under new keys."""
        keys, vectors = np.asarray(keys, np.int64), self._check(vectors)
        taken = self._places(keys)
        if len(taken):
            raise ValueError(f"the keys {self._keys[taken[:3]].tolist()} are in the index already; remove them first.")
        if np.isin(keys, self._keys[: self._size]).any():  # marked as removed
            self._shrink()
        end = self._size + len(keys)
        if end > len(self._keys):
            self._grow(max(end, 3 * self._size // 2))
        new = slice(self._size, end)
        self._keys[new], self._vectors[new], self._alive[new] = keys, vectors, True
        self._squares[new] = np.einsum("nd,nd->n", vectors, vectors) if self.metric == "l2" else 0
        self._size, self._count = end, self._count + len(keys)
        self._changed()

    def _grow(self, room: int) -> None:
        """Makes room for so many rows."""
        self._keys, self._vectors, self._squares, self._alive = (
            np.concatenate([of[: self._size], np.zeros((room - self._size, *of.shape[1:]), of.dtype)])
            for of in (self._keys, self._vectors, self._squares, self._alive)
        )

    def remove(self, keys: Keys) -> None:
        """Removes keys; unknown ones are ignored."""
        at = np.unique(self._places(keys))
        self._chosen = []
        self._alive[at] = False
        self._count -= len(at)
        if self._size > 2 * self._count + 1000:
            self._shrink()

    def _shrink(self) -> None:
        """Drops the rows that were removed."""
        keep = np.flatnonzero(self._alive[: self._size])
        self._set(self._keys[keep], self._vectors[keep])

    def plan(self, k: int, selected: int | None = None) -> Plan:
        """How `search` goes about a filter that selects so many rows (None: no filter)."""
        return Plan(
            "scan", len(self) if selected is None else selected, len(self), "the exact index looks at every row"
        )

    def search(self, queries: np.ndarray, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Keys (M, k') and ascending distances of the nearest vectors, k' = min(k, those there and allowed)."""
        return self._scan(self.asked(queries, k), k, None if allowed is None else self._rows(allowed))

    def scan(self, queries: np.ndarray, k: int, allowed: Keys) -> tuple[np.ndarray, np.ndarray]:
        """The same of every index, by looking at each vector that is allowed."""
        return self._scan(self.asked(queries, k), k, self._rows(allowed))

    def first(self, queries: np.ndarray, k: int, keys: Keys) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest among some that are there, of equally near ones those that come first among them."""
        rows = places_of(self._keys[: self._size], keys, "the index", self._sorting())
        at, away = self._smallest(self.asked(queries, k), k, rows, np.arange(len(rows)))
        return keys[at], away

    def within(
        self, queries: np.ndarray, limits: Float32[np.ndarray, " m"], allowed: Keys | None = None
    ) -> Int64[np.ndarray, " s"]:
        """Keys of all rows that are at most so far from one of the queries, each of which has a limit, give or take what is rounded."""
        asked, rows = self.asked(queries, 1), None if allowed is None else self._rows(allowed)
        keys, squares, alive = self._columns(rows)
        own, scale, _ = self._terms(asked)
        rounded = np.float32(np.finfo(np.float32).eps * (self.dimension + 8))
        low, near = own - limits - rounded * np.einsum("md,md->m", asked, asked), np.zeros(len(keys), dtype=bool)
        for q, r, vectors, products in self._products(asked, rows, len(asked) <= ONE_PASS):
            column = squares[r] - rounded * np.einsum("nd,nd->n", vectors, vectors)
            near[r] |= (scale * products >= low[q, None] + column).any(0)
        return keys[near & alive]

    def ranked(self, queries: np.ndarray, keys: Int64[np.ndarray, "m j"]) -> tuple[np.ndarray, np.ndarray]:
        """Candidates of each query by distance, each once; −1, and keys that are not there, come last as −1 at infinity."""
        keys = np.sort(keys, axis=1)
        twice = np.pad(keys[:, 1:] == keys[:, :-1], ((0, 0), (1, 0)))
        at = places(self._keys[: self._size], keys.ravel(), self._sorting()).reshape(keys.shape)
        good = (at >= 0) & ~twice & self._alive[at]
        away = np.where(good, self._apart(self.asked(queries, 1), np.where(good, at, 0)), np.float32(np.inf))
        return in_order(np.where(good, keys, -1), away)

    def vectors(self, keys: Keys) -> Vectors:
        """Of keys that are there, in their order, of length one where the metric is cosine."""
        return self._vectors[places_of(self._keys[: self._size], keys, "the index", self._sorting())]

    def asked(self, queries: np.ndarray, k: int) -> Vectors:
        """Queries as they are compared; a `ValueError` says what is wrong with them or with k."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}.")
        return self._check(queries)

    def _scan(self, queries: Vectors, k: int, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Every row, or all of some."""
        keys, _ = self._smallest(queries, k, rows)
        at = places(self._keys[: self._size], keys.ravel(), self._sorting()).reshape(keys.shape)
        return in_order(keys, self._apart(queries, at))

    def _columns(self, rows: np.ndarray | None) -> Iterator[np.ndarray]:
        """Keys, squares and whether they are alive, of every row, or of some."""
        return (of[: self._size] if rows is None else of[rows] for of in (self._keys, self._squares, self._alive))

    def _terms(self, queries: Vectors) -> tuple[np.ndarray, np.float32, np.float32]:
        """a, s and least of the distances max(a + squares − s · products, least)."""
        if self.metric == "l2":
            return np.einsum("md,md->m", queries, queries), np.float32(2), np.float32(0)
        return np.ones(len(queries), np.float32), np.float32(1), np.float32(-np.inf)

    def _products(
        self, queries: Vectors, rows: np.ndarray | None, few: bool
    ) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """Of every block of rows and of queries: which of both, the vectors of the rows, and the inner products.

        Equal rows have equal products where the queries are said to be few, which is slow where they are many.
        """
        count, step = self._size if rows is None else len(rows), MANY_ROWS if few and rows is None else ROWS
        room = np.empty((0 if rows is None else min(ROWS, count), self.dimension), np.float32)
        for r in (slice(i, min(i + step, count)) for i in range(0, count, step)):
            if rows is None:
                vectors = self._vectors[r]
            else:  # gathered block by block, they are still in the cache when they are multiplied
                vectors = np.take(self._vectors, rows[r], axis=0, out=room[: r.stop - r.start], mode="clip")
            for q in (slice(i, i + QUERIES) for i in range(0, len(queries), QUERIES)):
                yield q, r, vectors, few_products(queries[q], vectors) if few else queries[q] @ vectors.T

    def _smallest(
        self, queries: Vectors, k: int, rows: np.ndarray | None, ranks: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keys and distances of the k nearest of every row, or of some, ties by key; or their ranks where these are given, ties by them."""
        keys, squares, alive = self._columns(rows)
        k, few = min(k, int(alive.sum())), ranks is not None or len(queries) <= ONE_PASS
        keys = keys if ranks is None else ranks
        values, names = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        sizes = np.zeros(len(queries), np.int64)
        if not k:
            return names, values
        own, scale, least = self._terms(queries)
        for q, r, _, products in self._products(queries, rows, few):
            take_smallest(products, keys[r], alive[r], own[q], squares[r], scale, least, values[q], names[q], sizes[q])
        return in_order(names, values)

    def _apart(self, queries: Vectors, rows: Int64[np.ndarray, "m j"]) -> Float32[np.ndarray, "m j"]:
        """Distances of each query from rows of its own, as a scan gives them."""
        products = own_products(queries, self._vectors, rows)
        if self.metric != "l2":
            return 1 - products
        return np.maximum(np.einsum("md,md->m", queries, queries)[:, None] + self._squares[rows] - 2 * products, 0)

    def _state(self) -> dict[str, np.ndarray]:
        """What is saved."""
        return {name: getattr(self, f"_{name}")[: self._size] for name in ("keys", "vectors", "alive")}

    def _restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes what `_state` gave."""
        self._set(state["keys"], state["vectors"])
        self._alive, self._count = state["alive"], int(state["alive"].sum())

    def save(self, path: Path, version: int) -> None:
        """Writes the index and the version of the store that it reflects, whole or not at all."""
        about = json.dumps(
            {"kind": self.kind, "metric": self.metric, "version": version, "arguments": self._arguments()}
        )
        state: dict[str, Any] = self._state()
        with written(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **state, about=np.array(about))


def in_order(keys: Int64[np.ndarray, "m k"], apart: Float32[np.ndarray, "m k"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by distance, ties by key."""
    order = np.lexsort((keys, apart), axis=1)
    return np.take_along_axis(keys, order, 1), np.take_along_axis(apart, order, 1)
