"""What is in a memory: how many examples, which fields, which values. It follows what comes and goes, since to read everything again
would make all others wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ziggurat.cli.serving.fields import MIXED, NAME, OWN, showable
from ziggurat.cli.serving.schemas import Field, Value
from ziggurat.memory.fields import kind as kind_of
from ziggurat.memory.stores import Id, Store

BLOCK = 10_000  # rows that are read at a time


class Column:
    """How often each value comes in one field, by its kind; and how many examples have the field, be it without a value."""

    def __init__(self) -> None:
        self.rows, self.known = 0, 0
        self.values: dict[str, Counter] = {}

    def count(self, value: Any, times: int) -> None:
        """Takes an example in (1), or out again (-1)."""
        self.rows += times
        if value is None or value != value:
            return
        self.known += times
        kind = kind_of(type(value))
        counter, value = self.values.setdefault(kind, Counter()), None if kind == "lists" else value
        counter[value] += times
        if not counter[value]:
            del counter[value]
        if not counter:
            del self.values[kind]

    @property
    def kind(self) -> str:
        """What all its values are, "mixed" where they are of several kinds, of none or lists."""
        kind = next(iter(self.values)) if len(self.values) == 1 else MIXED
        return MIXED if kind == "lists" else kind

    def describe(self, name: str, examples: int, most: int) -> Field:
        """The field as the API shows it.

        Arguments:
            examples: in the memory, with the field or without.
            most: values that are named.
        """
        kind = self.kind
        counts = self.values[kind] if kind in ("text", "true or false") else None
        numbers = self.values[kind] if kind == "numbers" else None
        return Field(
            name=showable(name),
            kind=kind,  # type: ignore[arg-type]
            filterable=kind != MIXED and NAME.fullmatch(name) is not None,
            missing=examples - self.known,
            distinct=None if counts is None else len(counts),
            values=[Value(value=showable(v), count=n) for v, n in (counts or Counter()).most_common(most)],
            low=None if numbers is None else as_float(min(numbers)),
            high=None if numbers is None else as_float(max(numbers)),
        )


def as_float(number: float) -> float | None:
    """A number as JSON and browsers know it; None where it is too large for them."""
    try:
        return showable(float(number))
    except OverflowError:
        return None


class Overview:
    """How many examples a memory holds, how many of them have numbers as ids, and what is in their fields.

    Arguments:
        store: of the memory; the caller sees to it that nothing else uses it meanwhile.
        most: values of a field that are named.
    """

    def __init__(self, store: Store, most: int) -> None:
        self.store, self.most = store, most
        self._empty()

    def _empty(self) -> None:
        self.version, self.examples, self.numbers = -1, 0, 0
        self.columns: dict[str, Column] = {}
        self._keys = np.zeros(0, np.int64)
        self._fields: list[Field] | None = None

    def follow(self, forgotten: tuple[Id, Mapping[str, Any]] | None = None) -> None:
        """Catches up with the store: examples that came are read. One that went is told; where others did, all are counted again.

        Arguments:
            forgotten: id and metadata of an example of the last version that is no longer there.
        """
        if self.store.version == self.version:
            return
        keys, mine = self.store.keys(), self._keys
        version = self.store.seen
        if np.array_equal(keys[: len(mine)], mine):  # nothing went: rows stay in their order
            came, gone = keys[len(mine) :], 0
        else:
            came, gone = keys[~np.isin(keys, mine)], int((~np.isin(mine, keys)).sum())
        if gone and (gone > 1 or forgotten is None):
            self._empty()
            came, gone = keys, 0
        self._fields = None
        try:
            if gone and forgotten is not None:
                self._count(*forgotten, -1)
            for start in range(0, len(came), BLOCK):
                rows = self.store.rows(came[start : start + BLOCK])
                for name, metadata in zip(rows["id"], rows["metadata"], strict=True):
                    self._count(name, metadata, 1)
        except BaseException:  # what is half counted is wrong
            self._empty()
            raise
        self._keys, self.version = keys, version

    def _count(self, name: Id, metadata: Mapping[str, Any], times: int) -> None:
        self.examples += times
        self.numbers += times * (not isinstance(name, str))
        for field, value in metadata.items():
            if field not in OWN:
                column = self.columns.setdefault(field, Column())
                column.count(value, times)
                if not column.rows:
                    del self.columns[field]

    def kinds(self) -> dict[str, str]:
        """What the values of each field are."""
        return {name: column.kind for name, column in self.columns.items()}

    def fields(self) -> list[Field]:
        """All fields, by name."""
        if self._fields is None:
            self._fields = [self.columns[n].describe(n, self.examples, self.most) for n in sorted(self.columns)]
        return self._fields
