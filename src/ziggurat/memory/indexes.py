"""Indexes: int64 keys and vectors, searched exactly or by a graph. They are caches of a store and can always be rebuilt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from ziggurat.data.sources import written
from ziggurat.memory._kernels import few_products, take_smallest
from ziggurat.memory.planning import Plan
from ziggurat.memory.stores import places, places_of

Metric = Literal["cosine", "l2", "ip"]
Keys = Int64[np.ndarray, " n"]
Vectors = Float32[np.ndarray, "n d"]
QUERIES, ROWS = 1024, 4096  # of a block of distances
ONE_PASS, MANY_ROWS = 2, 65_536  # up to so many queries are multiplied in one pass, with larger blocks
FEW = 10_000  # rows that are scanned in no more time than a graph is walked
SO_FEW = "so few rows are scanned as quickly as a graph is walked"
STEP = 180  # rows that are scanned in the time in which a walk brings one more


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
    """Rows of length one (rows of zeros stay)."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32, copy=False)


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
    """Every distance, by blocked matrix products; ties by key.

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
        self._set(np.zeros(0, np.int64), np.zeros((0, dimension), np.float32))

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
        keys, squares, alive = (
            of[: self._size] if rows is None else of[rows] for of in (self._keys, self._squares, self._alive)
        )
        k = min(k, int(alive.sum()))
        values, names = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        sizes = np.zeros(len(queries), np.int64)
        if not k:
            return names, values
        if self.metric == "l2":
            own, scale, least = np.einsum("md,md->m", queries, queries), np.float32(2), np.float32(0)
        else:
            own, scale, least = np.ones(len(queries), np.float32), np.float32(1), np.float32(-np.inf)
        few = len(queries) <= ONE_PASS
        step = MANY_ROWS if few and rows is None else ROWS
        room = np.empty((0 if rows is None else min(ROWS, len(rows)), self.dimension), np.float32)
        for r in (slice(i, min(i + step, len(keys))) for i in range(0, len(keys), step)):
            if rows is None:
                vectors = self._vectors[r]
            else:  # gathered block by block, they are still in the cache when they are multiplied
                vectors = np.take(self._vectors, rows[r], axis=0, out=room[: r.stop - r.start], mode="clip")
            for q in (slice(i, i + QUERIES) for i in range(0, len(queries), QUERIES)):
                take_smallest(
                    few_products(queries[q], vectors) if few else queries[q] @ vectors.T,
                    keys[r],
                    alive[r],
                    own[q],
                    squares[r],
                    scale,
                    least,
                    values[q],
                    names[q],
                    sizes[q],
                )
        return in_order(names, values)

    def _apart(self, queries: Vectors, rows: Int64[np.ndarray, "m j"]) -> Float32[np.ndarray, "m j"]:
        """Distances of each query from rows of its own, as a scan gives them."""
        products = np.einsum("md,mjd->mj", queries, self._vectors[rows])
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
        about = json.dumps({"kind": self.kind, "metric": self.metric, "version": version})
        state: dict[str, Any] = self._state()
        with written(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **state, about=np.array(about))


def in_order(keys: Int64[np.ndarray, "m k"], apart: Float32[np.ndarray, "m k"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by distance, ties by key."""
    order = np.lexsort((keys, apart), axis=1)
    return np.take_along_axis(keys, order, 1), np.take_along_axis(apart, order, 1)


class ApproximateIndex(ExactIndex):
    """A graph beside the vectors. Where few rows are selected, or the graph brings too few, these are scanned: there are always
    min(k, selected) rows.
    """

    def search(self, queries: np.ndarray, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]:
        asked = self.asked(queries, k)
        rows = None if allowed is None else self._rows(allowed)
        want = min(k, len(self) if rows is None else len(rows))
        if self.plan(k, None if rows is None else len(rows)).strategy == "scan" or not len(asked):
            return self._scan(asked, k, rows)
        near = self._walk(asked, want, rows)
        short = np.flatnonzero((near < 0).any(1))
        keys, away = self._keys[near], self._apart(asked, near)
        if len(short):
            keys[short], away[short] = self._scan(asked[short], k, rows)
        return in_order(keys, away)

    def _walk(self, queries: Vectors, k: int, rows: np.ndarray | None) -> Int64[np.ndarray, "m k"]:
        """The k nearest rows that the graph brings, of all or of some; −1 where there are fewer."""
        raise AssertionError("a graph says how it is walked")


class HNSWIndex(ApproximateIndex):
    """A hierarchical navigable graph (usearch); under a filter it is asked for more and the rest is dropped.

    Arguments:
        connectivity, expansion_add, expansion_search: of the graph.

    Y. Malkov, D. Yashunin, Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World Graphs,
    2016, arXiv:1603.09320.
    """

    kind = "hnsw"

    def __init__(
        self,
        dimension: int,
        metric: Metric = "cosine",
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 200,
    ) -> None:
        self.connectivity, self.expansion_add, self.expansion_search = connectivity, expansion_add, expansion_search
        super().__init__(dimension, metric)
        self._graph = self._new()

    def _new(self) -> Any:
        from usearch.index import Index as Graph

        kind = {"cosine": "ip", "l2": "l2sq", "ip": "ip"}[self.metric]
        return Graph(
            ndim=self.dimension, metric=kind, dtype="f32", connectivity=self.connectivity,
            expansion_add=self.expansion_add, expansion_search=self.expansion_search,
        )  # fmt: skip

    def add(self, keys: Keys, vectors: np.ndarray) -> None:
        before = self._size
        super().add(keys, vectors)
        before = min(before, self._size - len(keys))  # removed rows may have been dropped
        if len(keys):
            self._graph.add(self._keys[before : self._size], self._vectors[before : self._size])

    def remove(self, keys: Keys) -> None:
        gone = self._keys[np.unique(self._places(keys))]
        if len(gone):
            self._graph.remove(gone)
        super().remove(gone)

    def _shrink(self) -> None:
        super()._shrink()
        self._graph = self._new()
        if len(self):
            self._graph.add(self._keys, self._vectors)

    def plan(self, k: int, selected: int | None = None) -> Plan:
        rows = len(self)
        if selected is None:
            return (
                Plan("scan", rows, rows, SO_FEW)
                if rows <= max(FEW, 4 * k)
                else Plan("walk", rows, rows, "there is no filter")
            )
        if selected <= max(FEW, 4 * k):
            return Plan("scan", selected, rows, SO_FEW)
        if selected <= STEP * self._wide(k, selected):
            return Plan(
                "scan", selected, rows, "a walk would drop so much of what it meets that a scan takes no longer"
            )
        return Plan("walk, then filter", selected, rows, "of what a walk meets enough is selected")

    def _wide(self, k: int, selected: int) -> int:
        """How many rows are asked for, so that with some to spare k are selected."""
        return min(len(self), int(np.ceil((k + 8) * 2 * len(self) / selected)))

    def _walk(self, queries: Vectors, k: int, rows: np.ndarray | None) -> Int64[np.ndarray, "m k"]:
        wide = k if rows is None else self._wide(k, len(rows))
        matches = self._graph.search(queries, wide)
        names = matches.keys.reshape(len(queries), -1).astype(np.int64)
        counts = (
            np.full((1, 1), len(matches)) if len(queries) == 1 else np.reshape(matches.counts, (-1, 1))
        )  # usearch's two kinds
        at = places(self._keys[: self._size], names.ravel(), self._sorting()).reshape(names.shape)
        at[np.arange(names.shape[1]) >= counts] = -1
        if rows is not None:
            chosen = np.zeros(self._size + 1, dtype=bool)  # the last one stands for −1
            chosen[rows] = True
            at[~chosen[at]] = -1
        order = np.argsort(at < 0, axis=1, kind="stable")[:, :k]  # they come sorted by distance
        near = np.take_along_axis(at, order, 1)
        return np.pad(near, ((0, 0), (0, k - near.shape[1])), constant_values=-1)

    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | {"graph": np.frombuffer(self._graph.save(), np.uint8)}

    def _restore(self, state: dict[str, np.ndarray]) -> None:
        super()._restore(state)
        self._graph.load(state["graph"].tobytes())
