"""Filters on metadata: a small language, parsed with a grammar, and evaluated as masks here and as parametrised SQL in `sql.py`.

    label = 'shirt' and (year >= 2020 or year is null) and size in (1, 2)

A comparison with a missing value is neither true nor false, as in SQL, and selects nothing. No text of a person becomes part of a
statement.
"""

from __future__ import annotations

import operator
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

Value = str | int | float | bool
OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


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


def mask(where: Filter | str, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Which rows of a table a filter selects. An unknown field, or text compared with a number, is a `ValueError`."""
    truth, _ = _evaluate(parse(where) if isinstance(where, str) else where, table)
    return truth


def _evaluate(where: Filter, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(certainly true, certainly false) of every row; a row that is neither is unknown."""
    if isinstance(where, Not):
        truth, falsehood = _evaluate(where.part, table)
        return falsehood, truth
    if isinstance(where, Every | Any_):
        parts = [_evaluate(part, table) for part in where.parts]
        every, some = np.logical_and.reduce, np.logical_or.reduce
        join, other = (every, some) if isinstance(where, Every) else (some, every)
        return join([p[0] for p in parts]), other([p[1] for p in parts])
    column = _column(where.field, table)
    known = column.notna().to_numpy(dtype=bool)
    if isinstance(where, Missing):
        return ~known, known
    if isinstance(where, Membership):
        truth = np.zeros(len(table), dtype=bool)
        for value in where.values:
            truth |= _compare(column, known, "=", value, where.field)
        return truth, known & ~truth
    truth = _compare(column, known, where.sign, where.value, where.field)
    return truth, known & ~truth


def _column(field: str, table: pd.DataFrame) -> pd.Series:
    if field not in table.columns:
        raise unknown(field, table.columns)
    return table[field]


def _compare(column: pd.Series, known: np.ndarray, sign: str, value: Value, field: str) -> np.ndarray:
    truth = np.zeros(len(column), dtype=bool)
    present = column[known]
    compare_like_with_like(field, {kind(of) for of in set(map(type, present))}, value)
    if len(present):
        truth[known] = OPERATORS[sign](present.to_numpy(dtype=object), value).astype(bool)
    return truth


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


def kind(of: type) -> str:
    """What a person calls values of a type."""
    if issubclass(of, bool | np.bool_):
        return "true or false"
    if issubclass(of, str):
        return "text"
    return "numbers" if issubclass(of, int | float | np.number) else "lists"
