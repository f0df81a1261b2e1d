"""The hierarchical graph of usearch."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from ziggurat.data.progress import counted
from ziggurat.memory.approximate_index import FEW, SO_FEW, ApproximateIndex
from ziggurat.memory.indexes import Keys, Metric, Vectors
from ziggurat.memory.planning import Plan
from ziggurat.memory.stores import places

BLOCK = 10_000  # rows that a bar over an addition waits for
STEP = 180  # rows that are scanned in the time in which a walk brings one more


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

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("connectivity", "expansion_add", "expansion_search")}

    def clear(self) -> None:
        super().clear()
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
        self._insert(min(before, self._size - len(keys)))  # removed rows may have been dropped

    def _insert(self, first: int) -> None:
        """Puts the rows from `first` on into the graph."""
        for start in counted(range(first, self._size, BLOCK), "adding to the graph"):
            rows = slice(start, min(start + BLOCK, self._size))
            self._graph.add(self._keys[rows], self._vectors[rows])

    def remove(self, keys: Keys) -> None:
        gone = self._keys[np.unique(self._places(keys))]
        if len(gone):
            self._graph.remove(gone)
        super().remove(gone)

    def _shrink(self) -> None:
        super()._shrink()
        self._graph = self._new()
        self._insert(0)

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
