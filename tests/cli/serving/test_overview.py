"""What the server says of a memory: it follows what comes and goes, and reads everything again only where it must."""

import json
import threading

import numpy as np
import pytest

from tests.cli.serving.conftest import COUNT, encoded
from ziggurat.cli.serving.limits import Refusal
from ziggurat.cli.serving.overview import Column, Overview
from ziggurat.memory.memory import Memory

VALUES = [None, "a", "b", 1, 2.5, True, [1], {"x": 1}, float("nan"), 10**400, float("inf")]


def add(client, picture, name, **metadata):
    form = {"id": name, "metadata": json.dumps(metadata)}
    return client.post("/api/examples", data=form, files={"image": ("x.png", picture)}).status_code


@pytest.fixture
def read(memory, monkeypatch):
    """How many rows were read at a time."""
    counts, scan, rows = [], memory.store.scan, memory.store.rows
    monkeypatch.setattr(memory.store, "scan", lambda *a: counts.append(len(memory)) or scan(*a))
    monkeypatch.setattr(memory.store, "rows", lambda keys: counts.append(len(keys)) or rows(keys))
    return counts


def test_what_was_added_and_forgotten_here_is_followed(client, memory, digit, read, monkeypatch):
    monkeypatch.setattr("ziggurat.memory.lance.WRITES", 3)  # small files are written together, which makes versions too
    before = client.get("/api/stats").json()
    del read[:]
    for i in range(5):
        assert add(client, digit(300 + i), f"new/{i}", label="new", year=3000 + i) == 201
    said = {field["name"]: field for field in client.get("/api/stats").json()["fields"]}
    assert said["year"]["high"] == 3004 and said["label"]["distinct"] == 11 and said["odd"]["missing"] == 5
    for i in range(5):
        assert client.delete(f"/api/examples/new/{i}").status_code == 200
    after = client.get("/api/stats").json()
    assert max(read) == 1, "no more than the one row at a time"
    assert {**after, "version": 0} == {**before, "version": 0}


def test_what_other_processes_change_is_seen(client, memory, read):
    other = Memory.open(memory.store.path)
    client.get("/api/stats")
    del read[:]
    other.add([7], np.ones((1, 64)), [{"colour": "red"}])
    said = client.get("/api/stats").json()
    assert said["count"] == COUNT + 1 and said["numbered"] == "some" and read == [1], "one that came is read alone"
    other.upsert([7], np.ones((1, 64)), [{"colour": 3}])
    client.delete("/api/examples/digits/0")
    other.remove(["digits/1"])
    said = client.get("/api/stats").json()
    assert said["count"] == COUNT - 1 and read[-1] == COUNT - 1, "what another one removed is not known"
    assert {field["name"]: field["kind"] for field in said["fields"]}["colour"] == "numbers"


def test_an_overview_that_follows_is_one_that_is_new(tmp_path):
    rng, memory = np.random.default_rng(0), Memory.open(tmp_path / "store", 2)
    overview, there = Overview(memory.store, 3), {}
    for step in range(60):
        overview.follow()
        if there and rng.random() < 0.4:
            name = list(there)[rng.integers(len(there))]
            memory.remove([name])
            overview.follow((name, there.pop(name)))
        else:
            name = step if rng.random() < 0.3 else str(step)
            there[name] = {f: VALUES[rng.integers(len(VALUES))] for f in ("x", "y", "z") if rng.random() < 0.6}
            memory.add([name], np.ones((1, 2)), [there[name]])
        overview.follow()
        new = Overview(memory.store, 3)
        new.follow()
        assert (overview.version, overview.examples, overview.numbers) == (new.version, len(there), new.numbers)
        assert overview.kinds() == new.kinds()
        for mine, fresh in zip(overview.fields(), new.fields(), strict=True):
            assert mine.model_dump(exclude={"values"}) == fresh.model_dump(exclude={"values"})
            assert sorted(v.count for v in mine.values) == sorted(v.count for v in fresh.values)


def test_an_overview_that_was_interrupted_counts_again(memory, monkeypatch):
    overview = Overview(memory.store, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Column, "count", lambda *a: [][0])
        with pytest.raises(IndexError):
            overview.follow()
    overview.follow()
    assert overview.examples == COUNT and overview.columns["year"].known == COUNT


def test_two_kinds_of_a_new_field_at_the_same_time(client, memory, monkeypatch):
    """Both are embedded before either is added; afterwards a filter must still be able to name the field."""
    service, both, refused = client.app.state.service, threading.Barrier(2), []

    def embed(picture):
        both.wait(30)
        return np.ones(64, np.float32)

    def add_one(name, metadata, image):
        try:
            service.add(image, name, metadata)
        except Refusal as error:
            refused.append((error.status, str(error)))

    picture = encoded(np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(service, "embed", embed)
    adders = [
        threading.Thread(target=add_one, args=(name, json.dumps({"size": size}), picture))
        for name, size in (("number", 2020), ("text", "2020"))
    ]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join(60)
    assert [status for status, _ in refused] == [422] and "compare like with like" in refused[0][1]
    assert len(memory) == COUNT + 1 and len(list(service.album.folder.iterdir())) == 1


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("-inf")])
def test_numbers_that_browsers_do_not_know(client, memory, value):
    memory.add(["large", "small"], np.ones((2, 64)), [{"size": value, "label": value}, {"size": 3}])
    said = client.get("/api/stats")
    assert said.status_code == 200
    size = {field["name"]: field for field in said.json()["fields"]}["size"]
    assert size["kind"] == "numbers" and [size["low"], size["high"]] == ([3, None] if value > 0 else [None, 3])
    found = client.post("/api/search", data={"vector": json.dumps([1] * 64), "k": 2})
    assert found.status_code == 200, found.text
