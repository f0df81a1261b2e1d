"""Filters on attributes, the rows that they select, and what every index under filters shares."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from ziggurat.memory.filtered.inner import Found, Queries, Vectors, checked
from ziggurat.memory.filtered.walks._kernels import scan_allowed
from ziggurat.memory.filtered.window_search import WindowHits
from ziggurat.memory.where import mask

BLOCK = 1 << 27  # bytes of masks held at once


@dataclass(frozen=True)
class Equals:
    """`field` is `value` (exact match)."""

    field: str
    value: Hashable


@dataclass(frozen=True)
class Between:
    """low <= `field` <= high (range); the ends may be infinite."""

    field: str
    low: float
    high: float


@dataclass(frozen=True)
class Contains:
    """`value` is in the set `field` (exact match in set)."""

    field: str
    value: Hashable


Where = Equals | Between | Contains | str
"""A text is a filter of `ziggurat.memory.where`."""


class Attributes:
    """A table of attributes; a column may hold sets, one a row.

    Arguments:
        table: of n rows; the index is not looked at.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table.reset_index(drop=True)
        self._sets: dict[str, dict[Any, Int64[np.ndarray, " _"]]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def column(self, field: str) -> np.ndarray:
        """The values of a column."""
        if field not in self.table.columns:
            names = ", ".join(map(str, self.table.columns)) or "none"
            raise ValueError(f"there is no attribute {field!r}; the attributes are: {names}.")
        return self.table[field].to_numpy()

    def members(self, field: str) -> dict[Any, Int64[np.ndarray, " _"]]:
        """Ascending rows of every value that a column holds, alone or in its sets."""
        if field not in self._sets:
            self.column(field)
            values = self.table[field].explode().dropna()
            rows = values.index.to_numpy(np.int64)
            self._sets[field] = {value: np.unique(rows[at]) for value, at in values.groupby(values).indices.items()}
        return self._sets[field]

    def mask(self, where: Where) -> Bool[np.ndarray, " n"]:
        """Which rows a filter selects. A missing value is never selected."""
        if isinstance(where, str):
            return mask(where, self.table)
        if isinstance(where, Between):
            column = self.column(where.field)
            if not np.issubdtype(column.dtype, np.number):
                raise ValueError(f"the attribute {where.field!r} is no number; a range needs an ordered attribute.")
            return (column >= where.low) & (column <= where.high)
        found = np.zeros(len(self), bool)
        found[self.members(where.field).get(where.value, np.empty(0, np.int64))] = True
        return found


@dataclass(frozen=True)
class Asked:
    """What a batch of queries asks for: its different filters, the rows that each selects, and the filter of every query."""

    filters: tuple[Where, ...]
    masks: Bool[np.ndarray, "f n"]
    which: Int64[np.ndarray, " m"]

    @cached_property
    def counts(self) -> Int64[np.ndarray, " m"]:
        """How many rows each query may find."""
        return self.masks.sum(1)[self.which]

    def of(self, chosen: np.ndarray) -> Asked:
        """Some of the queries, by number."""
        return Asked(self.filters, self.masks, self.which[chosen])

    def ends(self) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        """Low and high of every query's range."""
        pairs = [(one.low, one.high) for one in self.filters if isinstance(one, Between)]
        low, high = np.array(pairs, np.float64)[self.which].T
        return low, high

    def values(self) -> list[Hashable]:
        """The value that every query matches."""
        own = [one.value for one in self.filters if isinstance(one, Equals | Contains)]
        return [own[i] for i in self.which]


class FilteredIndex(ABC):
    """Vectors with ids and attributes, searched by squared Euclidean distance among the rows that a filter selects.

    Where a filter selects no more than k rows, or a search comes upon fewer than k of them, as it may where they lie together far from
    where it sets out, those rows are scanned: every method brings as many as there are. A subclass says in `_make` what it builds, in
    `_find` how it searches, and in `answers` which filters it can.
    """

    def __init__(self) -> None:
        self.ids = np.zeros(0, np.int64)
        self.vectors = np.zeros((0, 0), np.float32)
        self.attributes = Attributes(pd.DataFrame())
        self._built, self.build_seconds = True, 0.0

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Int64[np.ndarray, " n"], vectors: Vectors, attributes: pd.DataFrame) -> None:
        """Adds rows; the index is built when it is searched next, or by `build`.

        Arguments:
            ids: of the rows, different whole numbers.
            attributes: a row each; all additions have the same columns.
        """
        vectors = checked(vectors, self.vectors.shape[1] if len(self) else None)
        if not len(ids) == len(vectors) == len(attributes):
            raise ValueError(
                f"ids, vectors and attributes must be equally many, got {len(ids)}, {len(vectors)}, {len(attributes)}."
            )
        if len(self) and list(attributes.columns) != list(self.attributes.table.columns):
            raise ValueError(f"the attributes must be {', '.join(map(str, self.attributes.table.columns))}, as before.")
        all_ids = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        if len(np.unique(all_ids)) < len(all_ids):
            raise ValueError("an id occurs twice; every vector needs its own.")
        self.vectors = np.concatenate([self.vectors, vectors]) if len(self) else vectors
        table = pd.concat([self.attributes.table, attributes], ignore_index=True) if len(self) else attributes
        self.ids, self.attributes, self._built = all_ids, Attributes(table), False

    def build(self) -> None:
        """Builds what the method searches; nothing to do when nothing was added."""
        if not self._built:
            start = time.perf_counter()
            self._make()
            self._built, self.build_seconds = True, time.perf_counter() - start

    def answers(self, where: Where) -> bool:
        """Whether the method can search under such a filter."""
        return True

    def search(self, queries: Queries, k: int, where: Where | Sequence[Where], beam: int = 64) -> WindowHits:
        """The nearest rows of each query that its filter selects; fewer than k are padded with −1 and ∞.

        Arguments:
            where: one filter for all queries, or one each.
            beam: of the searches in graphs; wider is slower and finds more.
        """
        if min(k, beam) < 1:
            raise ValueError(f"k and beam must be 1 or more, got {k} and {beam}.")
        if not len(self):
            raise ValueError("the index is empty; add vectors first.")
        queries = checked(queries, self.vectors.shape[1])
        filters = [where] * len(queries) if isinstance(where, Where) else list(where)
        if len(filters) != len(queries):
            raise ValueError(
                f"where must be one filter, or one for each of {len(queries)} queries, got {len(filters)}."
            )
        for one in set(filters):
            if not self.answers(one):
                raise ValueError(f"{type(self).__name__} cannot search under {one!r}.")
        self.build()
        rows, away, computed = self._all(queries, k, filters, beam)
        return WindowHits(np.where(rows >= 0, self.ids[rows], -1), away, computed)

    def _all(self, queries: Queries, k: int, filters: list[Where], beam: int) -> Found:
        number = {one: i for i, one in enumerate(dict.fromkeys(filters))}
        if len(number) > 1 and len(number) * len(self) > BLOCK:
            half = len(filters) // 2
            parts = (self._all(queries[at], k, filters[at], beam) for at in (slice(0, half), slice(half, None)))
            return Found(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))
        masks = np.stack([self.attributes.mask(one) for one in number]) if number else np.zeros((0, len(self)), bool)
        asked = Asked(tuple(number), masks, np.array([number[one] for one in filters], np.int64))
        found = Found(
            np.full((len(queries), k), -1, np.int64),
            np.full((len(queries), k), np.inf, np.float32),
            np.zeros(len(queries), np.int64),
        )
        few = asked.counts <= k
        for chosen, find in ((np.flatnonzero(few), self._scan), (np.flatnonzero(~few), self._find)):
            if len(chosen):
                for whole, part in zip(found, find(queries[chosen], k, asked.of(chosen), beam), strict=True):
                    whole[chosen] = part
        short = np.flatnonzero((found.rows >= 0).sum(1) < np.minimum(k, asked.counts))
        if len(short):
            scanned = self._scan(queries[short], k, asked.of(short), beam)
            found.rows[short], found.distances[short] = scanned.rows, scanned.distances
            found.computed[short] += scanned.computed
        return found

    def _scan(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        """Every row that each filter selects."""
        return Found(*scan_allowed(self.vectors, queries, asked.masks, asked.which, k))

    @abstractmethod
    def _make(self) -> None:
        """Builds what is searched."""

    @abstractmethod
    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        """Rows (m, k), distances and counts of queries that may find more than k rows; −1 and ∞ where the search ends with fewer."""

    @property
    def bytes(self) -> int:
        """Of what `build` made, without the vectors and attributes themselves."""
        return 0
