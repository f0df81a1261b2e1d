"""Filters on metadata: a small language, parsed with a grammar, and evaluated as masks here and as parametrised SQL in `sql.py`.

    label = 'shirt' and (year >= 2020 or year is null) and size in (1, 2)

A comparison with a missing value is neither true nor false, as in SQL, and selects nothing. No text of a person becomes part of a
statement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from lark import Lark, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from ziggurat.memory.fields import Fields, TableFields, Value, kind


@dataclass(frozen=True)
class Comparison:
    """`field OPERATOR value`."""

    field: str
    sign: str
    value: Value


@dataclass(frozen=True)
class Membership:
    """`field in (values)`."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Missing:
    """`field is null`."""

    field: str


@dataclass(frozen=True)
class Not:
    """`not part`."""

    part: Filter


@dataclass(frozen=True)
class Every:
    """`part and part …`."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Any_:
    """`part or part …`."""

    parts: tuple[Filter, ...]


Filter = Comparison | Membership | Missing | Not | Every | Any_


class _Build(Transformer):
    def comparison(self, items: list) -> Comparison:
        return Comparison(str(items[0]), str(items[1]), items[2])

    def membership(self, items: list) -> Membership:
        return Membership(str(items[0]), tuple(items[1:]))

    def no_membership(self, items: list) -> Not:
        return Not(self.membership(items))

    def missing(self, items: list) -> Missing:
        return Missing(str(items[0]))

    def present(self, items: list) -> Not:
        return Not(Missing(str(items[0])))

    def negation(self, items: list) -> Not:
        return Not(items[0])

    def both(self, items: list) -> Every:
        return Every(tuple(items))

    def either(self, items: list) -> Any_:
        return Any_(tuple(items))

    def text(self, items: list) -> str:
        return str(items[0])[1:-1].replace("''", "'")

    def number(self, items: list) -> int | float:
        text = str(items[0])
        return int(text) if text.lstrip("-").isdigit() else float(text)

    def yes(self, items: list) -> bool:
        return True

    def no(self, items: list) -> bool:
        return False


@cache
def _parser() -> Lark:
    return Lark(files("ziggurat.memory").joinpath("where.lark").read_text(encoding="utf-8"), parser="lalr")


def parse(text: str) -> Filter:
    """The filter that a text means; a mistake is a `ValueError` that says where it is."""
    try:
        return _Build().transform(_parser().parse(text))
    except UnexpectedInput as error:
        place = "at its end" if error.column in (-1, None) else f"at position {error.column}"
        raise ValueError(
            f"the filter {text!r} is not understood {place}; write for instance label = 'shirt' and year >= 2020."
        ) from None
    except (RecursionError, VisitError):  # hundreds of nested `not`, a number of thousands of digits
        raise ValueError(f"the filter {text[:40]!r}… is nested too deeply or holds too long a number.") from None


def mask(where: Filter | str, rows: Fields | pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Which rows a filter selects. An unknown field, or text compared with a number, is a `ValueError`."""
    source = TableFields(rows) if isinstance(rows, pd.DataFrame) else rows
    truth, _ = _evaluate(parse(where) if isinstance(where, str) else where, source)
    return truth


def _evaluate(where: Filter, rows: Fields | TableFields) -> tuple[np.ndarray, np.ndarray]:
    """(certainly true, certainly false) of every row; a row that is neither is unknown."""
    if isinstance(where, Not):
        truth, falsehood = _evaluate(where.part, rows)
        return falsehood, truth
    if isinstance(where, Every | Any_):
        parts = [_evaluate(part, rows) for part in where.parts]
        every, some = np.logical_and.reduce, np.logical_or.reduce
        join, other = (every, some) if isinstance(where, Every) else (some, every)
        return join([p[0] for p in parts]), other([p[1] for p in parts])
    if where.field not in rows.names():
        raise unknown(where.field, rows.names())
    known = rows.known(where.field)
    if isinstance(where, Missing):
        return ~known, known
    kinds = rows.kinds(where.field)
    values, sign = (where.values, "=") if isinstance(where, Membership) else ((where.value,), where.sign)
    for value in values:
        compare_like_with_like(where.field, kinds, value)
    if sign in ("=", "!=", "<>"):
        equal = rows.equal(where.field, values)
        truth = equal if sign == "=" else known & ~equal
    else:
        truth = rows.compare(where.field, sign, values[0])
    return truth, known & ~truth


def unknown(field: str, fields: Iterable[Any]) -> ValueError:
    """The mistake of a filter on a field that no row has."""
    names = ", ".join(map(str, fields)) or "none"
    return ValueError(f"there is no field {field!r} in the metadata; the fields are: {names}.")


def compare_like_with_like(field: str, kinds: set[str], value: Value) -> None:
    """A `ValueError` unless every value of the field is of the kind that a filter compares it with."""
    mine = kind(type(value))
    if kinds - {mine}:
        raise ValueError(
            f"the field {field!r} holds {' and '.join(sorted(kinds))}, and {value!r} is {mine}; compare like with like."
        )
