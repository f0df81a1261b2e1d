"""Requests that once made the server stumble; each is answered with a result or a sentence."""

import json

import numpy as np
import pytest

from ziggurat.cli.serving.service import count_votes
from ziggurat.memory.memory import Memory


def search(client, status=200, **form):
    found = client.post("/api/search", data=form)
    assert found.status_code == status, found.text
    return found.json()


@pytest.mark.parametrize("depth", [300, 480])
def test_a_filter_that_is_nested_deeply(client, monkeypatch, depth):
    """It can be parsed, and is then too deep to be looked at."""

    def deep(*arguments):
        raise RecursionError

    monkeypatch.setattr("ziggurat.memory.lance.mask", deep)
    said = search(client, 422, id="digits/0", where="not " * depth + "year = 1900")
    assert "nested too deeply" in said["detail"]


def test_a_length_of_thousands_of_digits(client):
    said = client.post("/api/search", content=b"", headers={"content-length": "9" * 5000})
    assert said.status_code == 413 and "larger than" in said.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"broken", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, None])
def test_a_thumbnail_that_is_damaged_or_was_removed_meanwhile(client, digit, content, monkeypatch):
    assert client.post("/api/examples", data={"id": "mine"}, files={"image": ("x.png", digit(300))}).status_code == 201
    (kept,) = client.app.state.service.album.folder.iterdir()
    if content is None:
        kept.unlink()
        monkeypatch.setattr(client.app.state.service.album, "_thumbnail", lambda metadata: kept)
    else:
        kept.write_bytes(content)
    for response in (
        client.get("/api/examples/mine/image"),
        client.post("/api/explain", data={"id": "mine", "neighbour": "mine"}),
        client.post("/api/explain", data={"neighbour": "mine"}, files={"image": ("x.png", digit(1))}),
    ):
        assert response.status_code == 404 and "no picture of 'mine' that can be shown" in response.json()["detail"]
    assert client.delete("/api/examples/mine").status_code == 200


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("vote", ["distance", "softmax", "rank", "plurality"])
@pytest.mark.parametrize("size", [1, 1e17])
def test_distances_of_any_size_give_votes(serve, tmp_path, metric, vote, size):
    memory = Memory.open(tmp_path / "other", 64, metric=metric)
    memory.add(
        ["a", "b", "c"], np.stack([np.ones(64), np.full(64, 1e17), np.zeros(64)]), [{"label": "x"}, {"label": "y"}, {}]
    )
    found = search(serve(None, memory=memory), vector=json.dumps([size] * 64), vote=vote)
    assert sum(share["share"] for share in found["votes"]) == pytest.approx(1)
    assert sum(neighbour["vote"] for neighbour in found["neighbours"]) == pytest.approx(1)


def test_a_distance_beyond_all_numbers(serve, tmp_path):
    memory = Memory.open(tmp_path / "wide", 400, metric="l2")
    memory.add(["far"], np.full((1, 400), -1e18), [{"label": "x"}])
    assert search(serve(None, memory=memory), vector=json.dumps([1e18] * 400))["neighbours"][0]["distance"] > 1e38


def test_votes_do_not_depend_on_where_distances_begin():
    away = np.array([[0.1, 0.2, 0.4]])
    for vote in ("distance", "softmax"):
        near, far = (count_votes(["x", None, "y"], away + start, vote) for start in (0, 5000))
        assert [s.label for s in near[0]] == [s.label for s in far[0]] == ["x", "y"]
        np.testing.assert_allclose(near[1], far[1], atol=1e-9)
