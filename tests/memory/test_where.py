import operator

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.typecheck import value_error
from ziggurat.memory.where import Any_, Comparison, Every, Membership, Missing, Not, mask, parse

TABLE = pd.DataFrame(
    {
        "label": ["shirt", "boot", None, "o'neil"],
        "year": [2019, 2020, 2021, None],
        "sale": [True, False, None, True],
    },
    dtype=object,
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("label = 'shirt'", [0]),
        ("label != 'shirt'", [1, 3]),
        ("year >= 2020", [1, 2]),
        ("year > 2019 and year < 2021", [1]),
        ("label = 'shirt' or year = 2021", [0, 2]),
        ("not year = 2020", [0, 2]),
        ("year is null", [3]),
        ("label IS NOT NULL AND sale = true", [0, 3]),
        ("year in (2019, 2021)", [0, 2]),
        ("year not in (2019, 2021)", [1]),
        ("label = 'o''neil'", [3]),
        ("(year = 2019 or year = 2020) and not sale = true", [1]),
        ("year = 2019 or year = 2020 and sale = true", [0]),
        ("not (label = 'shirt' or year = 2021)", [1]),
    ],
)
def test_meaning(text, rows):
    assert mask(text, TABLE).nonzero()[0].tolist() == rows


def test_tree():
    assert parse("a = 1 and b in (2, 'x') or c is null") == Any_(
        (Every((Comparison("a", "=", 1), Membership("b", (2, "x")))), Missing("c"))
    )
    assert parse("not a < -1.5e3") == Not(Comparison("a", "<", -1500.0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("label = ", "at its end|position"),
        ("label == 'x'", "position"),
        ("label = 'x'; drop table memory", "position"),
        ("", "not understood"),
        ("colour = 1", "fields are: label, year, sale"),
        ("year = '2020'", "compare like with like"),
        ("label > 3", "compare like with like"),
        ("sale = 1", "compare like with like"),
        ("not " * 5000 + "year = 1", "nested too deeply"),
        ("year = " + "9" * 5000, "too long a number"),
    ],
    ids=lambda text: text[:20],
)
def test_mistakes_are_named(text, says):
    with value_error(says):
        mask(text, TABLE)


SIGNS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
LARGE = [0.5, -1.5, 2.0, -0.0, 1e16, 10**16, 2**53 + 1, float(2**53), 1e23, 10**23, -1e300, 5e-324]
CHARACTERS = "ab' ;-%\\\"{}$ß\uffff😀"
VALUES = {
    "b": st.booleans(),
    "n": st.integers(-3, 3) | st.sampled_from(LARGE),
    "s": st.text(CHARACTERS, max_size=3),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | value for name, value in VALUES.items()}), max_size=8)
FIELD = st.sampled_from(list(VALUES))
LEAF = st.one_of(
    FIELD.flatmap(lambda f: st.tuples(st.just(f), st.sampled_from(list(SIGNS)), VALUES[f])),
    FIELD.flatmap(lambda f: st.tuples(st.just(f), st.just("in"), st.lists(VALUES[f], min_size=1, max_size=3))),
    st.tuples(FIELD, st.just("null"), st.none()),
)


def trees(leaf):
    """Filters made of such leaves."""
    return st.recursive(
        leaf,
        lambda t: st.one_of(st.tuples(st.just("not"), t), st.tuples(st.sampled_from(["and", "or"]), t, t)),
        max_leaves=6,
    )


def literal(value):
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def written(tree):
    if tree[0] == "not":
        return f"not ({written(tree[1])})"
    if tree[0] in ("and", "or"):
        return f"({written(tree[1])}) {tree[0]} ({written(tree[2])})"
    field, sign, value = tree
    if sign == "null":
        return f"{field} is null"
    if sign == "in":
        return f"{field} in ({', '.join(map(literal, value))})"
    return f"{field} {sign} {literal(value)}"


def evaluated(tree, row):
    """True, False, or None for unknown, row by row in plain Python."""
    if tree[0] == "not":
        inner = evaluated(tree[1], row)
        return None if inner is None else not inner
    if tree[0] in ("and", "or"):
        a, b = evaluated(tree[1], row), evaluated(tree[2], row)
        decisive = tree[0] == "or"
        if decisive in (a, b):
            return decisive
        return None if None in (a, b) else not decisive
    field, sign, value = tree
    if sign == "null":
        return row[field] is None
    if row[field] is None:
        return None
    return row[field] in value if sign == "in" else SIGNS[sign](row[field], value)


@settings(max_examples=200, deadline=None)
@given(trees(LEAF), ROWS)
def test_against_plain_python(tree, rows):
    table = pd.DataFrame(rows, columns=list(VALUES), dtype=object)
    table = table.where(table.notna(), None)
    assert mask(written(tree), table).tolist() == [evaluated(tree, row) is True for row in rows]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_filter_or_a_value_error(text):
    try:
        mask(text, TABLE)
    except ValueError as error:
        assert len(str(error)) > 20
