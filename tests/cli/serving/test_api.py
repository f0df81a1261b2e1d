"""What the API answers: numbers against the memory and naive loops, and that what was done can be found, seen and undone."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.serving.conftest import COUNT, encoded
from tests.memory.conftest import server  # noqa: F401 (a PostgreSQL for one test)
from tests.untrained import untrained
from ziggurat.cli.serving.service import count_votes
from ziggurat.memory.lance import LanceStore

PATHS = {
    "/health",
    "/api/stats",
    "/api/search",
    "/api/examples",
    "/api/examples/{id}",
    "/api/examples/{id}/image",
    "/api/explain",
}


def search(client, status=200, image=None, **form):
    found = client.post("/api/search", data=form, files=None if image is None else {"image": ("x.png", image)})
    assert found.status_code == status, found.text
    return found.json()


def add(client, image, name, status=201, number=False, **metadata):
    form = {"id": name, "number": number, "metadata": json.dumps(metadata)}
    made = client.post("/api/examples", data=form, files={"image": ("x.png", image)})
    assert made.status_code == status, made.text
    return made.json()


def ids(found):
    return [neighbour["id"] for neighbour in found["neighbours"]]


def test_health_and_description(client):
    assert client.get("/health").json()["status"] == "ok"
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == PATHS
    for path, methods in described["paths"].items():
        for method in methods.values():
            assert method["description"] and (path == "/health" or "422" in method["responses"])
            for status, response in method["responses"].items():
                if status >= "400":
                    assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Mistake")


def test_stats(client, memory):
    said = client.get("/api/stats").json()
    assert (said["count"], said["dimension"], said["metric"]) == (COUNT, 64, "cosine")
    assert said["version"] == memory.store.version and said["numbered"] == "none"
    assert said["method"] == "cifar_resnet20" and said["maps"] is None
    fields = {field["name"]: field for field in said["fields"]}
    assert {name: field["kind"] for name, field in fields.items()} == {
        "label": "text", "data": "text", "year": "numbers", "odd": "true or false",
    }  # fmt: skip
    assert (fields["year"]["low"], fields["year"]["high"], fields["year"]["values"]) == (1900, 1900 + COUNT - 1, [])
    assert fields["data"]["values"] == [{"value": "digits", "count": COUNT}]
    assert fields["label"]["distinct"] == 10 and sum(v["count"] for v in fields["label"]["values"]) == COUNT
    assert {v["value"] for v in fields["odd"]["values"]} == {True, False}
    memory.add(["bare"], np.ones((1, 64)), [{"colour": "red", "list": [1], "my field": 1}])
    fields = {field["name"]: field for field in client.get("/api/stats").json()["fields"]}
    assert fields["label"]["missing"] == 1 and fields["colour"]["missing"] == COUNT
    assert (fields["list"]["kind"], fields["list"]["filterable"], fields["my field"]["filterable"]) == (
        "mixed",
        False,
        False,
    )


def test_a_picture_a_vector_and_an_id_find_the_same(client, memory, digit, vectors):
    by_image = search(client, image=digit(17), k=5)
    assert ids(by_image)[0] == "digits/17" and by_image["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-5)
    hits = memory.search(vectors[17], 5)
    assert ids(by_image) == hits.ids[0]
    assert [n["metadata"] for n in by_image["neighbours"]] == hits.metadata[0]
    by_vector = search(client, vector=json.dumps(vectors[17].tolist()), k=5)
    assert ids(by_vector) == ids(by_image)
    np.testing.assert_allclose([n["distance"] for n in by_vector["neighbours"]], hits.distances[0], atol=1e-6)
    assert ids(search(client, id="digits/17", k=4)) == ids(by_image)[1:], "it is not its own neighbour"


def test_filters_by_label_and_range(client):
    found = search(client, id="digits/0", k=50, where="label = '3' and year >= 1950 and year < 2000")
    years = [n["metadata"]["year"] for n in found["neighbours"]]
    assert years and all(1950 <= year < 2000 for year in years)
    assert {n["metadata"]["label"] for n in found["neighbours"]} == {"3"}
    away = [n["distance"] for n in found["neighbours"]]
    assert away == sorted(away)
    assert len(ids(search(client, id="digits/0", k=200))) == COUNT - 1
    nothing = search(client, id="digits/0", where="year < 1000")
    assert nothing["neighbours"] == nothing["votes"] == [] and nothing["plan"]["selected"] == 0
    some = search(client, id="digits/0", where="label = '3'")["plan"]
    assert some["strategy"] == "scan" and 0 < some["selected"] < some["rows"] and "every row" in some["why"]
    assert ids(search(client, id="digits/0", where="id = 'digits/5'")) == ["digits/5"]


WEIGHTS = {
    "plurality": lambda rank, d, all_: 1.0,
    "rank": lambda rank, d, all_: 1 / (rank + 2),
    "distance": lambda rank, d, all_: np.exp(-d),
    "softmax": lambda rank, d, all_: np.exp((1 - d) / 0.07),
}


@pytest.mark.parametrize("vote", WEIGHTS)
def test_votes_by_a_loop(client, vote):
    found = search(client, id="digits/3", k=12, vote=vote)
    away = [n["distance"] for n in found["neighbours"]]
    sums: dict[str, float] = {}
    for rank, neighbour in enumerate(found["neighbours"]):
        label = neighbour["metadata"]["label"]
        sums[label] = sums.get(label, 0) + WEIGHTS[vote](rank, neighbour["distance"], away)
    whole = sum(sums.values())
    assert {v["label"]: v["share"] for v in found["votes"]} == pytest.approx({k: v / whole for k, v in sums.items()})
    assert [v["share"] for v in found["votes"]] == sorted((v["share"] for v in found["votes"]), reverse=True)
    assert sum(n["vote"] for n in found["neighbours"]) == pytest.approx(1)
    assert sum(v["neighbours"] for v in found["votes"]) == 12


def test_votes_on_another_field_and_without_labels(client, memory):
    odd = search(client, id="digits/3", k=9, label="odd")["votes"]
    assert {type(v["label"]) for v in odd} == {bool}
    assert search(client, id="digits/3", label="nothing")["votes"] == []
    shares, weights = count_votes([None, 1, "1", True, 1], np.zeros((1, 5)), "plurality")
    assert [(s.label, s.share, s.neighbours) for s in shares] == [(1, 0.5, 2), ("1", 0.25, 1), (True, 0.25, 1)]
    assert weights == [0, 0.25, 0.25, 0.25, 0.25]


def test_searches_go_on_while_changes_wait_for_another_process(client, digit, memory):
    """More of them than there are threads that search."""
    with client, ThreadPoolExecutor(5) as threads:
        with LanceStore(memory.store.path)._turn():
            adding = [
                threads.submit(
                    client.post, "/api/examples", data={"id": f"x{i}"}, files={"image": ("x.png", digit(300))}
                )
                for i in range(4)
            ]
            removing = threads.submit(client.delete, "/api/examples/digits/7")
            time.sleep(0.5)
            assert len(client.post("/api/search", data={"id": "digits/0", "k": "3"}).json()["neighbours"]) == 3
            assert client.get("/api/stats").json()["count"] == COUNT
            assert not any(one.done() for one in (*adding, removing))
        assert [one.result(30).status_code for one in (*adding, removing)] == [201] * 4 + [200]
    assert client.get("/api/stats").json()["count"] == COUNT + 3


def test_add_find_see_and_forget(client, noise, tmp_path):
    before, version = search(client, image=noise, k=3), client.get("/api/stats").json()["version"]
    made = add(client, noise, "mine", label="cat", year=2020, odd=True)
    assert made == {
        "id": "mine",
        "number": False,
        "metadata": {"label": "cat", "year": 2020, "odd": True},
        "picture": True,
    }
    assert client.get("/api/stats").json()["version"] > version
    after = search(client, image=noise, k=4)
    assert ids(after) == ["mine", *ids(before)] and after["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-5)
    seen = client.get("/api/examples/mine/image")
    assert seen.headers["content-type"] == "image/png"
    whole = np.asarray(Image.open(io.BytesIO(noise)))
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(seen.content))), whole[:, 12:52], "the centre square"
    )
    (kept,) = (tmp_path / "store" / "thumbnails").iterdir()
    assert len(kept.stem) == 64 and kept.suffix == ".png"
    gone = client.delete("/api/examples/mine")
    assert gone.json() == {"id": "mine", "number": False, "count": COUNT}
    assert search(client, image=noise, k=3) == before
    assert not list((tmp_path / "store" / "thumbnails").iterdir())
    assert client.get("/api/examples/mine/image").status_code == 404
    assert client.delete("/api/examples/mine").status_code == 404


def test_numbers_and_text_are_different_ids(client, noise, digit):
    assert add(client, noise, "7")["number"] is False
    assert add(client, digit(200), "7", number=True)["number"] is True
    assert client.get("/api/stats").json()["numbered"] == "some"
    assert ids(search(client, image=digit(200), k=1)) == ["7"]
    assert search(client, image=digit(200), k=1)["neighbours"][0]["number"] is True
    assert client.delete("/api/examples/7", params={"number": True}).status_code == 200
    assert client.get("/api/examples/7/image").status_code == 200, "the text is still there"
    assert client.get("/api/examples/7/image", params={"number": True}).status_code == 404
    big = str(2**60 + 1)
    add(client, digit(201), big, number=True)
    assert ids(search(client, image=digit(201), k=1)) == [big], "as text: a browser would round it"


def test_what_a_picture_says_beside_its_pixels_is_not_kept(client, tmp_path):
    place = Image.Exif()
    place[0x010E] = "where I live"
    content = encoded(np.full((300, 500, 3), 90, np.uint8), "JPEG", exif=place)
    assert b"where I live" in content
    add(client, content, "photo")
    seen = client.get("/api/examples/photo/image").content
    picture = Image.open(io.BytesIO(seen))
    assert picture.size == (256, 256) and not picture.getexif() and b"where I live" not in seen


def test_pictures_of_the_data_set_that_was_embedded(client, digits):
    seen = client.get("/api/examples/digits/5/image")
    pixels = np.asarray(Image.open(io.BytesIO(seen.content)))
    np.testing.assert_array_equal(pixels, np.repeat(digits.images[5, 0].numpy()[..., None], 3, 2))
    assert client.get("/api/examples/digits/500/image").status_code == 404, "it is in the data set, not in the memory"


def test_maps_of_the_similarity(client, digit, noise):
    away = search(client, image=digit(17), k=3)["neighbours"][2]
    form = {"neighbour": away["id"]}
    drawn = client.post("/api/explain", data=form, files={"image": ("x.png", digit(17))})
    assert drawn.headers["content-type"] == "image/png"
    assert float(drawn.headers["x-cosine"]) == pytest.approx(1 - away["distance"], abs=1e-4)
    picture = np.asarray(Image.open(io.BytesIO(drawn.content)))
    assert picture.shape == (320, 656, 4) and (picture[:, 320:336, 3] == 0).all(), "two squares and a gap"
    again = client.post("/api/explain", data={"neighbour": away["id"], "id": "digits/17"})
    assert again.headers["x-cosine"] == drawn.headers["x-cosine"]
    add(client, noise, "mine")
    assert (
        float(client.post("/api/explain", data={"neighbour": "mine"}, files={"image": noise}).headers["x-cosine"])
        > 0.99
    )


def test_a_network_without_maps_says_why(serve, digit, tmp_path):
    from ziggurat.memory.memory import Memory
    from ziggurat.workflows.embedding import represent

    mlp = untrained("mlp")
    vectors = represent(mlp, torch.zeros(1, 1, 8, 8))
    memory = Memory.open(tmp_path / "other", vectors.shape[1])
    memory.add(["zero"], vectors, [{"label": "0"}])
    client = serve(mlp, memory=memory)
    assert "no maps" in client.get("/api/stats").json()["maps"]
    refused = client.post("/api/explain", data={"neighbour": "zero"}, files={"image": ("x.png", digit(0))})
    assert refused.status_code == 422 and "mlp has no maps" in refused.json()["detail"]
    assert ids(search(client, image=digit(0))) == ["zero"]


def test_without_a_checkpoint_ids_and_vectors_are_searched(serve, digit, vectors):
    client = serve(artifact=None)
    said = client.get("/api/stats").json()
    assert said["method"] is None and "--with" in said["maps"]
    assert ids(search(client, id="digits/17", k=1)) and ids(search(client, vector=json.dumps(vectors[3].tolist()), k=1))
    assert "takes no pictures" in search(client, 422, image=digit(0))["detail"]
    assert "takes no pictures" in add(client, digit(0), "x", 422)["detail"]
    assert client.delete("/api/examples/digits/17").status_code == 200


def test_adds_at_the_same_time(client, digit):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: add(client, digit(300 + i), f"new/{i}", label="n")["id"], range(12)))
    assert client.get("/api/stats").json()["count"] == COUNT + 12 and made == [f"new/{i}" for i in range(12)]
    found = search(client, image=digit(305), k=1)
    assert ids(found) == ["new/5"]

    def try_it(i):
        return client.post("/api/examples", data={"id": "one"}, files={"image": ("x.png", digit(400 + i))}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(try_it, range(8))) == [201] + [409] * 7
    assert client.get("/api/stats").json()["count"] == COUNT + 13
    thumbnails = list(client.app.state.service.album.folder.iterdir())
    assert len(thumbnails) == 13, "those of the refused ones are not left behind"


def test_what_others_write_is_seen(client, memory, noise):
    from ziggurat.memory.memory import Memory

    other = Memory.open(memory.store.path)
    vector = client.app.state.service.embed(np.asarray(Image.open(io.BytesIO(noise))))
    other.add(["theirs"], vector[None], [{"label": "x"}])
    assert ids(search(client, image=noise, k=1)) == ["theirs"]
    other.remove(["theirs"])
    assert ids(search(client, image=noise, k=1)) != ["theirs"]


def test_a_memory_on_a_server(serve, request, vectors, noise, digit):
    from ziggurat.memory.memory import Memory

    memory = Memory.open(f"{request.getfixturevalue('server').url()}&table=served", vectors.shape[1])
    memory.add([f"digits/{i}" for i in range(20)], vectors[:20], [{"label": str(i % 2), "year": i} for i in range(20)])
    client = serve(memory=memory)
    add(client, noise, "mine", label="cat", year=20)
    assert ids(search(client, image=noise, k=1)) == ["mine"]
    assert client.get("/api/examples/mine/image").status_code == 200
    assert len(ids(search(client, image=digit(3), k=50, where="label = '1' and year > 10"))) == 5
    assert "no field 'colour'" in search(client, 422, image=digit(3), where="colour = 1")["detail"]
    said = client.get("/api/stats").json()
    assert (said["count"], {f["name"]: f["kind"] for f in said["fields"]}) == (21, {"label": "text", "year": "numbers"})
    assert client.delete("/api/examples/mine").json()["count"] == 20
    memory.store.close()
