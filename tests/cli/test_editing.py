"""A memory that is looked at, edited and forgotten from by command; no network is needed."""

import json

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.memory.lance import LanceStore
from ziggurat.memory.memory import Memory
from ziggurat.report.album import Album
from ziggurat.workflows.editing import edit, examples, forget


@pytest.fixture
def store(tmp_path):
    memory = Memory.open(tmp_path / "store", 2)
    ids = ["a", "b", "c", 7, "7"]
    labels = ["cat", "cat", "dog", None, "dog"]
    rows = [{"label": label, "year": 2000 + i, "odd": i % 2 == 1} for i, label in enumerate(labels)]
    memory.add(ids, np.arange(10, dtype=np.float32).reshape(5, 2), rows)
    return tmp_path / "store"


def told(store, name):
    return next(row for row in examples(store)[0] if row["id"] == name)


def test_examples_come_by_id_with_what_is_known_of_them(store):
    rows, count = examples(store, k=3)
    assert count == 5 and [row["id"] for row in rows] == [7, "7", "a"]
    assert rows[2] == {"id": "a", "label": "cat", "year": 2000, "odd": False}
    assert examples(store, "year >= 2003 and label is null") == ([rows[0]], 1)


def test_edited_examples_keep_their_vectors(store):
    assert edit(store, {"label": "kitten", "place": "home"}, where="label = 'cat'") == 2
    assert told(store, "b") == {"id": "b", "label": "kitten", "year": 2001, "odd": True, "place": "home"}
    assert told(store, "c")["label"] == "dog"
    memory = Memory.open(store)
    assert memory.get(["b"])[0]["vector"].tolist() == [2, 3] and len(memory) == 5
    assert set(memory.search(np.array([2.0, 3.0]), 5, "label = 'kitten'").ids[0]) == {"a", "b"}


@pytest.fixture
def meanwhile(store, monkeypatch):
    """Another process that removes a and b, and replaces b and c, just before the first change."""
    turn, left = LanceStore._turn, [1]

    def late(self):
        if left:
            left.pop()
            other = LanceStore(store)
            other.remove(["a", "b"])
            other.upsert(["b", "c"], np.ones((2, 2)), [{"label": "cat", "year": 1}, {"label": "horse", "year": 2}])
        return turn(self)

    monkeypatch.setattr(LanceStore, "_turn", late)


def test_what_others_do_while_examples_are_edited_stays(store, meanwhile):
    assert edit(store, {"place": "home"}, where="label = 'cat' or label = 'dog'") == 2
    assert {row["id"]: row.get("place") for row in examples(store)[0]} == {7: None, "7": "home", "b": "home", "c": None}
    assert told(store, "b") == {"id": "b", "label": "cat", "year": 1, "place": "home"}
    assert Memory.open(store).get(["b"])[0]["vector"].tolist() == [1, 1]


def test_examples_that_are_named_are_edited_as_they_are_by_then(store, meanwhile):
    assert edit(store, {"label": "kitten"}, ["a", "c"]) == 1
    assert told(store, "c") == {"id": "c", "label": "kitten", "year": 2}
    assert "a" not in {row["id"] for row in examples(store)[0]}


def test_forgetting_takes_what_others_changed_if_it_is_still_meant(store, meanwhile):
    """The filter selects b as it is by then; c is a horse, and stays."""
    assert forget(store, where="label = 'cat' or label = 'dog'") == [
        {"label": "dog", "year": 2004, "odd": False},
        {"label": "cat", "year": 1},
    ]
    assert [row["id"] for row in examples(store)[0]] == [7, "c"]


def test_forgetting_by_name_takes_what_is_there_by_then(store, meanwhile):
    assert forget(store, ["a", "c"]) == [{"label": "horse", "year": 2}]
    assert [row["id"] for row in examples(store)[0]] == [7, "7", "b"]


def test_few_vectors_are_read(store, monkeypatch):
    read, vectors = [], LanceStore.vectors

    def counted(self, keys):
        read.extend(keys)
        return vectors(self, keys)

    monkeypatch.setattr(LanceStore, "vectors", counted)
    monkeypatch.setattr(LanceStore, "scan", None)
    monkeypatch.setattr("ziggurat.workflows.editing.BLOCK", 2, raising=False)
    assert len(forget(store, where="year = 2003")) == len(forget(store, ["7"])) == 1 and not read
    assert edit(store, {"year": "1"}, ["b"]) == 1 and len(read) == 1
    assert edit(store, {"year": "2"}, where="year > 0") == 3 and len(read) == 4
    monkeypatch.undo()
    assert {row["year"] for row in examples(store)[0]} == {2}


def test_a_value_is_of_the_kind_of_its_field(store):
    edit(store, {"label": "7", "year": "1999.5", "odd": "false", "weight": "12", "seen": "true", "name": "0x1"}, ["b"])
    assert told(store, "b") == {
        "id": "b", "label": "7", "year": 1999.5, "odd": False, "weight": 12, "seen": True, "name": "0x1",
    }  # fmt: skip
    edit(store, {"label": "", "year": "", "weight": ""}, ["b"])
    assert told(store, "b") == {"id": "b", "label": None, "odd": False, "seen": True, "name": "0x1"}
    with value_error("the field 'year' holds numbers in this memory, and 'old' is none"):
        edit(store, {"year": "old"}, ["a"])
    with value_error("the field 'odd' holds true or false in this memory, and '1' is neither"):
        edit(store, {"odd": "1"}, ["a"])


def test_a_number_means_the_text_before_the_number(store):
    assert forget(store, ["7", "c", "c"]) == [
        {"label": "dog", "year": 2004, "odd": False},
        {"label": "dog", "year": 2002, "odd": False},
    ]
    assert [row["id"] for row in examples(store)[0]] == [7, "a", "b"]
    assert len(forget(store, ["7"])) == 1 and [row["id"] for row in examples(store)[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--set", "label=x"], "either by their ids or by a filter"),
        (["a", "--where", "year > 1", "--set", "label=x"], "either by their ids or by a filter"),
        (["nobody", "--set", "label=x"], "there is no example 'nobody'"),
        (["a", "--set", "label"], "--set takes FIELD=VALUE"),
        (["a", "--set", "id=b"], "a field cannot be called 'id'"),
        (["a", "--set", "two words=b"], "a field cannot be called 'two words'"),
        (["a", "--set", "and=b"], "a field cannot be called 'and'"),
        (["--where", "colour = 'red'", "--set", "label=x"], "there is no field 'colour'"),
    ],
)
def test_mistakes_change_nothing(command, store, words, text):
    before = examples(store)
    code, out, err = command("edit", str(store), *words)
    assert (code, out) == (2, "") and text in err and err.count("\n") == 1
    assert examples(store) == before


def test_by_command(command, store, tmp_path):
    assert command("edit", str(store), "a", "b", "--set", "label=old cat") == (
        0,
        f"2 examples changed in {store}\n",
        "",
    )
    assert (
        command("forget", str(store), "--where", "label = 'old cat' and year = 2000")[1]
        == f"1 example forgotten in {store}\n"
    )
    assert json.loads(command("forget", str(store), "--where", "label = 'horse'", "--json")[1])["forgotten"] == 0
    assert examples(store)[1] == 4
    code, _, err = command("forget", str(tmp_path / "lost"), "a")
    assert code == 2 and "there is no store at" in err and not (tmp_path / "lost").exists()


def test_what_is_forgotten_takes_its_thumbnail_along(command, store):
    album = Album(store / "thumbnails")
    kept = [album.keep(np.zeros((8, 8, 3), np.uint8)) for _ in range(2)]
    Memory.open(store).add(["new", "newer"], np.ones((2, 2), np.float32), kept)
    assert command("forget", str(store), "new")[0] == 0
    assert [path.stem for path in (store / "thumbnails").iterdir()] == [kept[1]["thumbnail"]]
