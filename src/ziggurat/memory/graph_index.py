"""A navigable graph that is walked inside a filter."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from ziggurat.data.progress import counted
from ziggurat.data.seeds import derive
from ziggurat.memory._kernels import insert_nodes
from ziggurat.memory.approximate_index import FEW, SO_FEW, ApproximateIndex
from ziggurat.memory.filtered.walks._kernels import search_allowed
from ziggurat.memory.indexes import Keys, Metric, Vectors
from ziggurat.memory.planning import Plan


class GraphIndex(ApproximateIndex):
    """A Vamana graph; under a filter a walk takes, in the place of the neighbours that are not selected, selected neighbours of theirs.

    Rows are inserted as they come. Removed ones stay in the graph as roads until they are more than half. With "ip" there is no graph,
    because inner products are no metric: use "cosine", or `HNSWIndex`.

    Arguments:
        degree: neighbours of a node.
        beam: nearest rows that a search holds, and those that find a new node's neighbours.
        alpha: above 1 longer edges stay.
        random_state: of the order in which the rows of one addition are inserted.

    See `Acorn1Index` and `Vamana`.
    """

    kind = "graph"

    def __init__(
        self,
        dimension: int,
        metric: Metric = "cosine",
        degree: int = 32,
        beam: int = 100,
        alpha: float = 1.2,
        random_state: int = 0,
    ) -> None:
        if metric == "ip":
            raise ValueError("a navigable graph needs the metric cosine or l2, not ip; the hnsw index takes it.")
        if degree < 2 or beam < 1 or alpha < 1:
            raise ValueError(
                f"degree must be 2 or more, beam 1 or more and alpha at least 1, got {degree}, {beam}, {alpha}."
            )
        self.degree, self.beam, self.alpha, self.random_state = degree, beam, alpha, random_state
        self._neighbours = np.zeros((0, degree), np.int32)
        super().__init__(dimension, metric)
        self._empty()

    def _arguments(self) -> dict[str, Any]:
        return {"degree": self.degree, "beam": self.beam, "alpha": self.alpha, "random_state": self.random_state}

    def clear(self) -> None:
        super().clear()
        self._empty()

    def _empty(self) -> None:
        self._neighbours = np.full((len(self._keys), self.degree), -1, np.int32)
        self._degrees, self._start = np.zeros(len(self._keys), np.int64), 0

    def add(self, keys: Keys, vectors: np.ndarray) -> None:
        super().add(keys, vectors)
        self._insert(self._size - len(keys))

    def _insert(self, first: int) -> None:
        """Puts the rows from `first` on into the graph."""
        if (room := len(self._keys) - len(self._neighbours)) > 0:
            self._neighbours = np.concatenate([self._neighbours, np.full((room, self.degree), -1, np.int32)])
            self._degrees = np.concatenate([self._degrees, np.zeros(room, np.int64)])
        vectors = self._vectors[: self._size]
        if not first and self._size:
            self._start = int((np.einsum("nd,nd->n", vectors, vectors) - 2 * vectors @ vectors.mean(0)).argmin())
        order = first + np.random.default_rng(derive(self.random_state, "graph", first)).permutation(self._size - first)
        parts = np.array_split(order, max(1, len(order) // 10_000))
        for part in counted(parts, "adding to the graph"):
            insert_nodes(
                vectors,
                self._neighbours,
                self._degrees,
                part,
                min(self.beam, self._size),
                np.float32(self.alpha),
                self._start,
            )

    def _shrink(self) -> None:
        super()._shrink()
        self._empty()
        self._insert(0)

    def plan(self, k: int, selected: int | None = None) -> Plan:
        rows = len(self)
        count = rows if selected is None else selected
        if count <= max(FEW, 4 * k):
            return Plan("scan", count, rows, SO_FEW)
        if selected is None:
            return Plan("walk", rows, rows, "there is no filter")
        return Plan("walk inside the filter", selected, rows, "more are selected than a scan is quick for")

    def _walk(self, queries: Vectors, k: int, rows: np.ndarray | None) -> Int64[np.ndarray, "m k"]:
        mask = self._alive[: self._size]
        if rows is not None:
            mask = np.zeros(self._size, dtype=bool)
            mask[rows] = True
        lists, starts = self._neighbours[: self._size], np.full(len(queries), self._start)
        found, _, _ = search_allowed(
            self._vectors[: self._size], lists, lists[:0], np.arange(self._size)[None], starts, queries,
            mask[None], np.zeros(len(queries), np.int64), k, min(max(self.beam, k), self._size), 0, 0,
        )  # fmt: skip
        return found

    def _state(self) -> dict[str, np.ndarray]:
        state = super()._state()
        state["neighbours"], state["degrees"] = self._neighbours[: self._size], self._degrees[: self._size]
        state["start"] = np.array(self._start)
        return state

    def _restore(self, state: dict[str, np.ndarray]) -> None:
        super()._restore(state)
        self._neighbours, self._degrees, self._start = state["neighbours"], state["degrees"], int(state["start"])
