"""Filters as SQL on a column `metadata` of jsonb: the same rows, and the same mistakes, as `where.mask` gives.

    label = 'shirt' and year >= 2020   ->   ((metadata ->> $1) = $2) AND ((metadata ->> $3)::numeric >= $4)

Names and values are parameters, so no text of a person is part of the statement. `->>` gives SQL's null for a missing field and for
JSON's null, and SQL's logic of three values does the rest. An index on an expression such as `((metadata ->> 'label'))` or
`(((metadata ->> 'year')::numeric))` is used, and so are partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psycopg import sql

from ziggurat.memory.fields import Value, kind
from ziggurat.memory.where import (
    Comparison,
    Every,
    Filter,
    Membership,
    Missing,
    Not,
    compare_like_with_like,
    unknown,
)

SIGNS = {sign: sql.SQL(sign) for sign in ("=", "<>", "<", "<=", ">", ">=")} | {"!=": sql.SQL("<>")}
TYPES = {"text": sql.SQL("text"), "numbers": sql.SQL("numeric"), "true or false": sql.SQL("boolean")}
BY_CODE_POINTS = sql.SQL(' COLLATE "C"')  # the order of text in Python
MOST = 60_000  # parameters; the protocol takes 65,535
Part = tuple[sql.Composable, list[Any]]


def to_sql(where: Filter, kinds: Mapping[str, set[str]]) -> tuple[sql.Composable, list[Any]]:
    """The condition that a filter means, and its parameters.

    Arguments:
        where: a parsed filter.
        kinds: of the values of every field that some row has, as `where.kind` calls them. "id" is the id of the row.

    An unknown field, or text compared with a number, is a `ValueError`.
    """
    condition, parameters = _part(where, kinds)
    if len(parameters) > MOST:
        raise ValueError(f"the filter compares {len(parameters) // 2:,} times; write field in (…), or ask in parts.")
    return condition, parameters


def _part(where: Filter, kinds: Mapping[str, set[str]]) -> Part:
    if isinstance(where, Not):
        condition, parameters = _part(where.part, kinds)
        return sql.SQL("(NOT {})").format(condition), parameters
    if isinstance(where, Comparison | Membership | Missing):
        return _test(where, kinds)
    parts = [_part(part, kinds) for part in where.parts]
    return _joined(parts, " AND " if isinstance(where, Every) else " OR ")


def _joined(parts: list[Part], word: str) -> Part:
    condition = sql.SQL("({})").format(sql.SQL(word).join([condition for condition, _ in parts]))
    return condition, [value for _, parameters in parts for value in parameters]


def _test(where: Comparison | Membership | Missing, kinds: Mapping[str, set[str]]) -> Part:
    field = where.field
    if field not in kinds:
        raise unknown(field, kinds)
    name = [] if field == "id" else [field]
    column = sql.SQL("(id #>> '{{}}')" if field == "id" else "(metadata ->> %s::text)").format()
    if isinstance(where, Missing):
        return sql.SQL("({} IS NULL)").format(column), name
    values = where.values if isinstance(where, Membership) else (where.value,)
    for value in values:
        compare_like_with_like(field, kinds[field], value)
    if isinstance(where, Comparison):
        of, sign = kind(type(where.value)), SIGNS[where.sign]
        ordered = BY_CODE_POINTS if of == "text" and where.sign in ("<", "<=", ">", ">=") else sql.SQL("")
        condition = sql.SQL("({}{} {} %s::{})").format(_as(of, column), ordered, sign, TYPES[of])
        return condition, [*name, exact(where.value)]
    parts: list[Part] = []
    for of in dict.fromkeys(kind(type(value)) for value in values):
        mine = [exact(value) for value in values if kind(type(value)) == of]
        parts.append((sql.SQL("({} = ANY(%s::{}[]))").format(_as(of, column), TYPES[of]), [*name, mine]))
    return _joined(parts, " OR ")


def _as(of: str, column: sql.Composable) -> sql.Composable:
    return column if of == "text" else sql.SQL("{}::{}").format(column, TYPES[of])


def exact(value: Value) -> Value | Decimal:
    """A value as it is sent: a number as the decimal that orders as Python orders numbers, floats and whole ones, without rounding."""
    if isinstance(value, str):
        if "\0" in value or value != value.encode("utf-8", "replace").decode():
            raise ValueError(
                "the filter compares with half a character or with NUL, which no text in PostgreSQL holds."
            )
        return value
    if isinstance(value, bool):
        return value
    return Decimal(int(value)) if isinstance(value, int) or value.is_integer() else Decimal(repr(value))
