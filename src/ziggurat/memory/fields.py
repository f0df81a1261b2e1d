"""What filters look at: a table, or the fields of many rows of metadata, in which every different value is kept and compared once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

Value = str | int | float | bool
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NULL, ABSENT = -1, -2
EXACT = 2**53  # whole numbers up to here are the same in float64


def kind(of: type) -> str:
    """What a person calls values of a type."""
    if issubclass(of, bool | np.bool_):
        return "true or false"
    if issubclass(of, str):
        return "text"
    return "numbers" if issubclass(of, int | float | np.number) else "lists"


class TableFields:
    """The columns of a table, as `Fields` shows them."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def names(self) -> Iterable[str]:
        return self.table.columns

    def known(self, field: str) -> Bool[np.ndarray, " n"]:
        return self.table[field].notna().to_numpy(dtype=bool)

    def kinds(self, field: str) -> set[str]:
        return {kind(of) for of in set(map(type, self.table[field][self.known(field)]))}

    def compare(self, field: str, sign: str, value: Value) -> Bool[np.ndarray, " n"]:
        truth, known = np.zeros(len(self), dtype=bool), self.known(field)
        if known.any():
            truth[known] = OPERATORS[sign](self.table[field][known].to_numpy(dtype=object), value).astype(bool)
        return truth

    def equal(self, field: str, values: Iterable[Value]) -> Bool[np.ndarray, " n"]:
        truth = np.zeros(len(self), dtype=bool)
        for value in values:
            truth |= self.compare(field, "=", value)
        return truth


class Column:
    """The values of one field: every different one once, and for each row its number, or `NULL` or `ABSENT`.

    1, 1.0 and true are different. All lists and tables are one value, because nothing compares with them.
    """

    def __init__(self, rows: int) -> None:
        self.codes: Int64[np.ndarray, " n"] = np.full(rows, ABSENT, np.int64)
        self.values: list[Any] = []
        self._places: dict[type, dict[Any, int]] = {}
        self._forget()

    def _forget(self) -> None:
        """What was worked out of the values and codes."""
        self._numbers: np.ndarray | None = None
        self._large = False
        self._kinds: set[str] | None = None

    def _code(self, value: Any) -> int:
        if value is None or value != value:
            return NULL
        of: type = type(value)
        if of in (list, dict):
            value, of = None, list
        places = self._places.setdefault(of, {})
        code = places.setdefault(value, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        return code

    def extend(self, values: Sequence[Any]) -> None:
        """Adds a row for each value."""
        new = np.fromiter(map(self._code, values), np.int64, len(values))
        self.codes = np.concatenate([self.codes, new])
        self._forget()

    def pad(self, rows: int) -> None:
        """Adds rows without the field, until there are so many."""
        self.codes = np.concatenate([self.codes, np.full(rows - len(self.codes), ABSENT, np.int64)])

    def keep(self, rows: Bool[np.ndarray, " n"]) -> None:
        """Drops the other rows, and the values that none has any more once these are most of all."""
        self.codes = self.codes[rows]
        self._forget()
        if len(self.values) > 2 * len(self.codes) + 1000:
            used, again = np.unique(self.codes[self.codes >= 0], return_inverse=True)
            self.codes[self.codes >= 0] = again
            place = {old: new for new, old in enumerate(used.tolist())}
            self.values = [self.values[old] for old in used]
            self._places = {
                of: {v: place[old] for v, old in places.items() if old in place} for of, places in self._places.items()
            }

    @property
    def there(self) -> bool:
        """Whether any row has the field."""
        return bool((self.codes != ABSENT).any())

    def kinds(self) -> set[str]:
        """Of the values that rows have."""
        if self._kinds is None:
            used = np.zeros(len(self.values), dtype=bool)
            used[self.codes[self.codes >= 0]] = True
            self._kinds = {kind(of) for of, places in self._places.items() if used[list(places.values())].any()}
        return self._kinds

    def compare(self, sign: str, value: Value) -> Bool[np.ndarray, " n"]:
        """For which rows a comparison with a value of their kind is true."""
        truth = np.zeros(len(self.values) + 2, dtype=bool)  # the last two, at NULL and ABSENT, stay false
        wanted = kind(type(value))
        if wanted == "numbers" and self._exact(value):
            truth[:-2] = OPERATORS[sign](self._numbers, float(value))
        else:
            for of, places in self._places.items():
                if kind(of) == wanted:
                    at = np.fromiter(places.values(), np.int64, len(places))
                    mine = np.fromiter(places, dtype=object, count=len(places))
                    truth[at] = OPERATORS[sign](mine, value).astype(bool)
        return truth[self.codes]

    def equal(self, values: Iterable[Value]) -> Bool[np.ndarray, " n"]:
        """Which rows have one of these values. Each is looked up among those of its kind: 1 is 1.0, and true is no number."""
        truth = np.zeros(len(self.values) + 2, dtype=bool)
        for value in values:
            for of, places in self._places.items():
                if kind(of) == kind(type(value)) and value in places:
                    truth[places[value]] = True
        return truth[self.codes]

    def _exact(self, value: Value) -> bool:
        """Whether the values and this one are the same numbers in float64 (others are NaN there)."""
        if self._numbers is None:
            small = [type(v) is float or (type(v) is int and abs(v) <= EXACT) for v in self.values]
            self._numbers = np.array(
                [v if ok else np.nan for v, ok in zip(self.values, small, strict=True)], np.float64
            )
            self._large = any(type(v) is int and not ok for v, ok in zip(self.values, small, strict=True))
        return not self._large and (isinstance(value, float) or abs(value) <= EXACT)  # type: ignore[arg-type]


class Fields:
    """The fields of rows of metadata, and their ids as the field `id`.

    Arguments:
        ids, metadata: a row each.
    """

    def __init__(self, ids: Sequence[Any] = (), metadata: Sequence[Mapping[str, Any]] = ()) -> None:
        self._columns: dict[str, Column] = {"id": Column(0)}
        self._rows = 0
        self.extend(ids, metadata)

    def __len__(self) -> int:
        return self._rows

    def extend(self, ids: Sequence[Any], metadata: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows."""
        names = dict.fromkeys(name for row in metadata for name in row)
        for name in names:
            if name != "id":
                column = self._columns.setdefault(name, Column(0))
                column.pad(self._rows)
                column.extend([row.get(name) for row in metadata])
                absent = [self._rows + i for i, row in enumerate(metadata) if name not in row]
                column.codes[absent] = ABSENT
        self._columns["id"].extend(ids)
        self._rows += len(ids)
        for column in self._columns.values():
            column.pad(self._rows)

    def keep(self, rows: Bool[np.ndarray, " n"]) -> None:
        """Drops the other rows."""
        self._rows = int(rows.sum())
        for column in self._columns.values():
            column.keep(rows)

    def names(self) -> list[str]:
        return [*(name for name, column in self._columns.items() if name != "id" and column.there), "id"]

    def known(self, field: str) -> Bool[np.ndarray, " n"]:
        return self._columns[field].codes >= 0

    def kinds(self, field: str) -> set[str]:
        return self._columns[field].kinds()

    def compare(self, field: str, sign: str, value: Value) -> Bool[np.ndarray, " n"]:
        return self._columns[field].compare(sign, value)

    def equal(self, field: str, values: Iterable[Value]) -> Bool[np.ndarray, " n"]:
        return self._columns[field].equal(values)
