"""Filters in SQL: the same rows and the same mistakes as masks, on a real PostgreSQL."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.test_where import CHARACTERS, FIELD, LARGE, LEAF, SIGNS, VALUES, evaluated, trees, written
from tests.typecheck import value_error
from ziggurat.memory import open_store, parse
from ziggurat.memory.where import Any_, Comparison, mask

OFTEN = settings(max_examples=100, deadline=None)
ANY_VALUE = st.one_of(*VALUES.values())
MIXED_LEAF = st.one_of(
    st.tuples(FIELD, st.sampled_from(list(SIGNS)), ANY_VALUE),
    st.tuples(FIELD, st.just("in"), st.lists(ANY_VALUE, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["nowhere", "b"]), st.just("null"), st.none()),
)


def fill(store, rows):
    """Gives a new store these rows; their ids are 0, 1, …"""
    store.add(list(range(len(rows))), np.ones((len(rows), 1)), rows)
    table = pd.DataFrame(rows, dtype=object).assign(id=range(len(rows)))
    return store, rows, table.where(table.notna(), None)


@pytest.fixture(scope="module")
def filled(server):
    """A store in which every number and every text of at most two characters meets each of true, false and null."""
    texts = ["".join(pair) for n in range(3) for pair in itertools.product(CHARACTERS, repeat=n)]
    numbers = [None, *range(-3, 4), *LARGE]
    rows = [
        {"b": (None, True, False)[i % 3], "n": numbers[i % len(numbers)], "s": [None, *texts][i % (len(texts) + 1)]}
        for i in range(3 * len(texts))
    ]
    yield (made := fill(open_store(f"{server.url()}&table=filled", 1), rows))
    made[0].close()


@OFTEN
@given(tree=trees(LEAF))
def test_sql_masks_and_plain_python_select_the_same_rows(filled, tree):
    store, rows, table = filled
    expected = [i for i, row in enumerate(rows) if evaluated(tree, row) is True]
    assert sorted(store.scan(written(tree))["id"]) == expected
    assert mask(written(tree), table).nonzero()[0].tolist() == expected


@pytest.fixture(scope="module")
def mixed(server):
    """Stores whose fields hold values of none, one or several kinds."""
    columns = [[None, None], [True, None], [1, 2.5], ["a", "b"], [1, "a"], [False, "a"]]
    made = [
        fill(
            open_store(f"{server.url()}&table=mixed{i}", 1),
            [{"b": columns[i][j], "n": columns[(2 * i + 2) % 6][j], "s": columns[(i + 3) % 6][j]} for j in range(2)],
        )
        for i in range(6)
    ]
    yield made
    for store, _, _ in made:
        store.close()


def outcome(call):
    """What a filter selects, or the sentence of its mistake."""
    try:
        return call()
    except ValueError as error:
        return str(error)


@OFTEN
@given(tree=trees(MIXED_LEAF), which=st.integers(0, 5))
def test_sql_and_masks_make_the_same_mistakes(mixed, tree, which):
    store, _, table = mixed[which]
    expected = outcome(lambda: mask(written(tree), table).nonzero()[0].tolist())
    assert outcome(lambda: sorted(store.scan(written(tree))["id"])) == expected


@OFTEN
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_a_parameter_and_never_part_of_the_statement(filled, text):
    from ziggurat.memory.sql import to_sql

    quoted = "'" + text.replace("'", "''") + "'"
    condition, values = to_sql(parse(f"s = {quoted} or s in ('x', {quoted})"), {"s": {"text"}})
    assert values == ["s", text, "s", ["x", text]]
    assert condition.as_string(None) == to_sql(parse("s = 'a' or s in ('b')"), {"s": {"text"}})[0].as_string(None)
    found = filled[0].scan(f"s = {quoted}")["id"]
    assert sorted(found) == [i for i, row in enumerate(filled[1]) if row["s"] == text]


def test_ids_lists_and_long_filters(url):
    from ziggurat.memory.sql import to_sql

    store, _, _ = fill(open_store(url, 1), [{"n": i, "tags": ["a"]} for i in range(5)])
    assert store.scan("id >= 3 and n != 4")["id"].tolist() == [3]
    assert len(store.scan("tags is not null")) == 5
    assert len(store.scan(f"n in ({', '.join(map(str, range(3, 3000)))})")) == 2
    assert store.scan(" or ".join(["n = 2"] * 500))["id"].tolist() == [2]
    assert len(store.scan("n < 1e999")) == 5 and not len(store.scan("n < -1e999"))
    assert store.scan("not " * 50 + "n = 1")["id"].tolist() == [1]
    with value_error("31,000 times"):
        to_sql(Any_((Comparison("n", "=", 2),) * 31_000), {"n": {"numbers"}})
    for text, says in [
        ("tags = 'a'", "holds lists, and 'a' is text"),
        ("id = '3'", "holds numbers, and '3' is text"),
        ("n = 'a\0'", "holds numbers"),
        ("nowhere = '\ud800'", "no field 'nowhere'"),
    ]:
        with value_error(says):
            store.scan(text)
    store.add(["7"], np.ones((1, 1)), [{"s": "a"}])
    for text, says in [
        ("id = 3", "holds numbers and text"),
        ("s > 'a\0'", "NUL"),
        ("s = '\ud800'", "half a character"),
    ]:
        with value_error(says):
            store.scan(text)
    store.close()


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a%sb", "{}", "a; drop table t", "key", "id", ""])
def test_fields_of_any_name_are_kept(url, name):
    store = open_store(url, 1)
    store.add(["a", "b"], np.ones((2, 1)), [{name: 1}, {"other": 2}])
    assert store.get(["a"])[0]["metadata"] == {name: 1}
    assert store.scan("other = 2")["id"].tolist() == ["b"]
    store.close()
