"""Indexes: int64 keys and vectors, searched exactly or by a graph. They are caches of a store and can always be rebuilt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ziggurat.data.sources import write_atomically

Metric = Literal["cosine", "l2", "ip"]
Keys = Int64[np.ndarray, " n"]
Vectors = Float32[np.ndarray, "n d"]
BLOCK = 1 << 22  # distances computed at a time


class Index(Protocol):
    """What a memory asks of an index."""

    def add(self, keys: Keys, vectors: Vectors) -> None: ...

    def remove(self, keys: Keys) -> None: ...

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]: ...

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
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def nearest(found: np.ndarray, keys: Keys, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest distances of every row and their keys, ties by key."""
    k = min(k, found.shape[1])
    if k == 0:
        return np.zeros((len(found), 0), np.int64), np.zeros((len(found), 0), np.float32)
    kth = np.partition(found, k - 1, axis=1)[:, k - 1 : k]
    out_keys, out = np.empty((len(found), k), np.int64), np.empty((len(found), k), np.float32)
    for row, (values, limit) in enumerate(zip(found, kth, strict=True)):
        near = np.flatnonzero(values <= limit)
        order = near[np.lexsort((keys[near], values[near]))[:k]]
        out_keys[row], out[row] = keys[order], values[order]
    return out_keys, out


class ExactIndex:
    """Every distance, by blocked matrix products; ties by key.

    Arguments:
        dimension: of the vectors.
        metric: "cosine", "l2" (squared Euclidean) or "ip" (1 − inner product).
    """

    kind = "exact"

    def __init__(self, dimension: int, metric: Metric = "cosine") -> None:
        if metric not in ("cosine", "l2", "ip"):
            raise ValueError(f"metric must be cosine, l2 or ip, got {metric!r}.")
        self.dimension, self.metric = dimension, metric
        self._keys = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, dimension), np.float32)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Keys:
        """Keys of everything in the index."""
        return self._keys.copy()

    def _check(self, vectors: np.ndarray) -> Vectors:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"vectors have the shape {vectors.shape}; this index takes (n, {self.dimension}).")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors hold numbers that are not finite; drop those rows first.")
        return unit(vectors) if self.metric == "cosine" else vectors

    def add(self, keys: Keys, vectors: np.ndarray) -> None:
        """Adds vectors under new keys."""
        taken = np.intersect1d(keys, self._keys)
        if len(taken):
            raise ValueError(f"the keys {taken[:3].tolist()} are in the index already; remove them first.")
        self._vectors = np.concatenate([self._vectors, self._check(vectors)])
        self._keys = np.concatenate([self._keys, np.asarray(keys, np.int64)])

    def remove(self, keys: Keys) -> None:
        """Removes keys; unknown ones are ignored."""
        keep = ~np.isin(self._keys, keys)
        self._keys, self._vectors = self._keys[keep], self._vectors[keep]

    def search(self, queries: np.ndarray, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Keys (M, k') and ascending distances of the nearest vectors, k' = min(k, those there and allowed)."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}.")
        queries = self._check(queries)
        keys, vectors = self._keys, self._vectors
        if allowed is not None:
            chosen: Bool[np.ndarray, " n"] = np.isin(keys, allowed)
            keys, vectors = keys[chosen], vectors[chosen]
        rows = max(1, BLOCK // max(len(keys), 1))
        parts = [
            nearest(distances(queries[i : i + rows], vectors, self.metric), keys, k)
            for i in range(0, len(queries), rows)
        ]
        if not parts:
            return nearest(np.zeros((0, len(keys)), np.float32), keys, k)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def save(self, path: Path, version: int) -> None:
        """Writes the index and the version of the store that it reflects, whole or not at all."""
        from io import BytesIO

        buffer = BytesIO()
        about = json.dumps({"kind": self.kind, "metric": self.metric, "version": version})
        np.savez(buffer, keys=self._keys, vectors=self._vectors, about=np.array(about))
        write_atomically(Path(path), buffer.getvalue())


class HNSWIndex(ExactIndex):
    """Approximate search on a navigable graph (usearch), with the vectors beside it.

    It over-fetches under a filter, and where few vectors are allowed, or the graph returns too few, it searches exactly: there are
    always min(k, allowed) rows.

    Arguments:
        connectivity, expansion_add, expansion_search: of the graph.
        selectivity: share of allowed vectors below which the search is exact.
    """

    kind = "hnsw"

    def __init__(
        self,
        dimension: int,
        metric: Metric = "cosine",
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 200,
        selectivity: float = 0.1,
    ) -> None:
        super().__init__(dimension, metric)
        self.connectivity, self.expansion_add, self.expansion_search = connectivity, expansion_add, expansion_search
        self.selectivity = selectivity
        self._graph = self._new()

    def _new(self) -> Any:
        from usearch.index import Index as Graph

        kind = {"cosine": "ip", "l2": "l2sq", "ip": "ip"}[self.metric]
        return Graph(
            ndim=self.dimension, metric=kind, dtype="f32", connectivity=self.connectivity,
            expansion_add=self.expansion_add, expansion_search=self.expansion_search,
        )  # fmt: skip

    def add(self, keys: Keys, vectors: np.ndarray) -> None:
        before = len(self)
        super().add(keys, vectors)
        if len(self) > before:
            self._graph.add(self._keys[before:], self._vectors[before:])

    def remove(self, keys: Keys) -> None:
        gone = np.intersect1d(keys, self._keys)
        super().remove(gone)
        if len(gone):
            self._graph.remove(gone)
        if len(self._graph) > 2 * len(self) + 1000:
            self._graph = self._new()
            self._graph.add(self._keys, self._vectors)

    def search(self, queries: np.ndarray, k: int, allowed: Keys | None = None) -> tuple[np.ndarray, np.ndarray]:
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}.")
        alive = len(self) if allowed is None else int(np.isin(self._keys, allowed).sum())
        share = alive / max(len(self), 1)
        if len(self) <= 4 * k or share < self.selectivity:
            return super().search(queries, k, allowed)
        wide = min(len(self), int(np.ceil((k + 8) * 2 / share))) if allowed is not None else k
        checked = self._check(queries)
        matches = self._graph.search(checked, wide)
        found, apart = np.atleast_2d(matches.keys).astype(np.int64), np.atleast_2d(matches.distances).astype(np.float32)
        good = np.isin(found, self._keys if allowed is None else allowed) & np.isin(found, self._keys)
        want = min(k, alive)
        out_keys, out = np.empty((len(checked), want), np.int64), np.empty((len(checked), want), np.float32)
        for row in range(len(checked)):
            mine, away = found[row][good[row]], apart[row][good[row]]
            if len(mine) < want:
                exact = super().search(queries[row : row + 1], k, allowed)
                out_keys[row], out[row] = exact[0][0], exact[1][0]
                continue
            order = np.lexsort((mine, away))[:want]
            out_keys[row], out[row] = mine[order], away[order]
        return out_keys, np.maximum(out, 0) if self.metric == "l2" else out


KINDS: dict[str, type[ExactIndex]] = {"exact": ExactIndex, "hnsw": HNSWIndex}


def load_index(path: Path) -> tuple[ExactIndex, int]:
    """An index as `save` wrote it, and the version of the store that it reflects; a damaged file is a `ValueError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about, keys, vectors = json.loads(str(file["about"])), file["keys"], file["vectors"]
        index = KINDS[about["kind"]](vectors.shape[1], about["metric"])
        index.add(keys, vectors)
        return index, int(about["version"])
    except Exception as error:
        raise ValueError(f"the index {path} is damaged ({error}); delete it, it is rebuilt from the store.") from None
