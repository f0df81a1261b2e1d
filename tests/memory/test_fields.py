import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.typecheck import value_error
from ziggurat.memory.fields import Fields
from ziggurat.memory.stores import spread
from ziggurat.memory.where import mask

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, -(2**60), 10**400]),
    st.floats(-3, 3),
    st.sampled_from([float("inf"), float("nan"), 2.0**53]),
    st.text("ab'", max_size=2),
    st.lists(st.integers(0, 1), max_size=1),
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "id"]), VALUES, max_size=3), max_size=6)
FILTERS = [
    "a = 1", "a != 2", "a < 2.5", "a >= -1", "a > 9007199254740992", "a <= 9007199254740993", "a < 1e300", "a in (1, 2, 3)",
    "a = 'a'", "a > ''", "a is null", "not a is null and b = true", "b != false or a = 1", "id >= 3", "b is null", "a = 1e999",
    "a in (1, 9007199254740993, 1e999)", "a = 9007199254740992", "a != 9007199254740993", "a in (true, false)", "a != ''",
    "a in ('a', '', 'b')", "not a in (0, 1.0, -0.0)", "id in (0, 2.0, 7)", "b != 1e999",
]  # fmt: skip


def outcome(function):
    try:
        return function().tolist()
    except ValueError as error:
        return str(error).split("; the fields")[0]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ROWS, st.randoms(use_true_random=False)), min_size=1, max_size=3), st.sampled_from(FILTERS))
def test_the_same_rows_and_mistakes_as_of_a_table(batches, where):
    fields, rows, ids = Fields(), [], []
    for batch, draw in batches:
        fields.extend(range(len(ids), len(ids) + len(batch)), batch)
        rows, ids = rows + batch, ids + list(range(len(ids), len(ids) + len(batch)))
        keep = np.array([draw.random() < 0.7 for _ in rows], dtype=bool)
        fields.keep(keep)
        rows, ids = ([x for x, ok in zip(of, keep, strict=True) if ok] for of in (rows, ids))
    table = spread(pd.Series(rows, dtype=object)).assign(id=pd.Series(ids, dtype=object))
    assert len(fields) == len(rows) and set(fields.names()) == set(table.columns)
    assert outcome(lambda: mask(where, fields)) == outcome(lambda: mask(where, table))


def test_values_that_no_row_has_are_forgotten():
    fields = Fields(range(5000), [{"n": i, "text": str(i), "list": [i]} for i in range(5000)])
    fields.keep(np.arange(5000) % 100 == 7)
    fields.extend([7, 8], [{"n": 7, "text": "7"}, {}])
    for column in fields._columns.values():
        assert len(column.values) <= 52
    assert mask("n = 7", fields).nonzero()[0].tolist() == mask("text = '7'", fields).nonzero()[0].tolist() == [0, 50]
    assert mask("n < 250 and list is not null", fields).sum() == 3 and mask("n is null", fields).sum() == 1
    with value_error("'list' holds lists, and 1 is numbers"):
        mask("list = 1", fields)
    with value_error("fields are: n, text, list, id"):
        mask("other = 1", fields)


@pytest.mark.parametrize("where", ["n < 100000", "label = 'c3'", "n >= 5 and not label in ('c1', 'c2')"])
def test_many_rows(where):
    n = 30_000
    rows = [{"n": (i * 7919) % n, "label": f"c{i % 10}"} for i in range(n)]
    expected = mask(where, pd.DataFrame(rows).assign(id=range(n)))
    assert np.array_equal(mask(where, Fields(range(n), rows)), expected)


def test_values_are_looked_up_and_not_looked_through(monkeypatch):
    """Sixty ids cost as much as one: an equal value is found in a dictionary."""
    fields = Fields([f"id{i}" for i in range(100)], [{"n": i, "x": i / 2, "yes": i % 2 == 0} for i in range(100)])
    monkeypatch.setattr("ziggurat.memory.fields.OPERATORS", {})
    assert mask("id in ('id7', 'id3', 'none', 'id3')", fields).nonzero()[0].tolist() == [3, 7]
    assert mask("n = 7.0 or x in (1, 1.5) or n in (2.5, 90)", fields).nonzero()[0].tolist() == [2, 3, 7, 90]
    assert mask("yes != true and n != 1 and not n in (3, 5)", fields).nonzero()[0].tolist() == list(range(7, 100, 2))
