"""What the API does not do: each limit, each mistake, and what people try who mean harm."""

import asyncio
import errno
import io
import json
import struct
import threading
import time
import zlib

import numpy as np
import pytest

from tests.cli.serving.conftest import COUNT, encoded
from ziggurat.cli.serving.app import OPEN, PAGE, Workers
from ziggurat.cli.serving.guard import Guard
from ziggurat.cli.serving.limits import Limits, Refusal

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def said(response, status):
    """The sentence of a refusal."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail"}
    assert response.headers["x-content-type-options"] == "nosniff"
    return response.json()["detail"]


def upload(content, name="x.png"):
    return {"image": (name, content)}


@pytest.mark.parametrize(
    ("form", "status", "text"),
    [
        ({}, 422, "exactly one of image, vector and id"),
        ({"id": "digits/0", "vector": "[1]"}, 422, "exactly one of image, vector and id"),
        ({"id": "nobody"}, 404, "no example 'nobody' in the memory"),
        ({"id": "7", "number": "true"}, 404, "no example '7' as a number"),
        ({"id": "seven", "number": "true"}, 422, "no whole number"),
        ({"id": "digits/0", "k": "0"}, 422, "k: input should be greater than or equal to 1"),
        ({"id": "digits/0", "k": "many"}, 422, "k: input should be a valid integer"),
        ({"id": "digits/0", "k": "201"}, 422, "k is 201, more than 200"),
        ({"id": "digits/0", "vote": "loud"}, 422, "vote: input should be 'rank', 'plurality', 'distance' or 'softmax'"),
        ({"id": "digits/0", "where": "label ="}, 422, "is not understood at position 7"),
        ({"id": "digits/0", "where": "colour = 'red'"}, 422, "there is no field 'colour'"),
        ({"id": "digits/0", "where": "label > 3"}, 422, "compare like with like"),
        ({"id": "digits/0", "where": "x" * 2001}, 422, "more than 2,000 characters"),
        ({"id": "digits/0", "where": "not " * 499 + "odd"}, 422, "filter"),
        ({"id": "digits/0", "where": "'; drop table memory; --"}, 422, "is not understood"),
        ({"vector": "[1, 2]"}, 422, "a JSON list of 64 finite numbers"),
        ({"vector": "[" * 100_000}, 422, "a JSON list of 64 finite numbers"),
        ({"vector": json.dumps(["1"] * 64)}, 422, "a JSON list of 64 finite numbers"),
        ({"vector": json.dumps([float("nan")] * 64)}, 422, "a JSON list of 64 finite numbers"),
        ({"vector": json.dumps([1e300] * 64)}, 422, "a JSON list of 64 finite numbers"),
    ],
)
def test_searches_that_are_refused(client, form, status, text):
    assert text in said(client.post("/api/search", data=form), status).replace("Input", "input")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ("[]", "must be a JSON object"),
        ("{", "must be a JSON object"),
        ("[" * 50_000, "must be a JSON object"),
        (json.dumps({f"f{i}": i for i in range(41)}), "41 fields, more than 40"),
        ('{"my field": 1}', "cannot be called 'my field'"),
        ('{"and": 1}', "cannot be called 'and'"),
        ('{"id": 1}', "cannot be called 'id'"),
        ('{"thumbnail": "x"}', "cannot be called 'thumbnail'"),
        ('{"Key": 1}', "cannot be called 'Key'"),
        ('{"<script>": 1}', "cannot be called '<script>'"),
        ('{"a": [1]}', "'a' must be text, a number"),
        ('{"a": {"b": 1}}', "'a' must be text, a number"),
        ('{"a": NaN}', "'a' is not finite"),
        ('{"a": 1e999}', "'a' is not finite"),
        ('{"a": 1' + "0" * 30 + "}", "more than 64 bits"),
        (json.dumps({"a": "x" * 501}), "501 characters, more than 500"),
        ('{"a": "\\ud800"}', "characters that cannot be shown"),
        ('{"a": "\\u0000"}', "characters that cannot be shown"),
        ('{"year": "last"}', "'year' holds numbers in this memory, and 'last' is text"),
        ('{"odd": 1}', "'odd' holds true or false in this memory"),
    ],
)
def test_metadata_that_is_refused(client, digit, metadata, text):
    response = client.post("/api/examples", data={"id": "x", "metadata": metadata}, files=upload(digit(300)))
    assert text in said(response, 422)
    assert client.get("/api/stats").json()["count"] == COUNT
    assert not client.app.state.service.album.folder.exists()


@pytest.mark.parametrize("name", ["", " ", ".", "..", "x" * 501, "a\x00b", "line\nbreak"])
def test_ids_that_are_refused(client, digit, name):
    response = client.post("/api/examples", data={"id": name}, files=upload(digit(300)))
    said(response, 422)
    assert client.get("/api/stats").json()["count"] == COUNT


def test_an_id_that_is_taken(client, digit):
    response = client.post("/api/examples", data={"id": "digits/3"}, files=upload(digit(300)))
    assert "there is an example 'digits/3' already" in said(response, 409)
    assert not list(client.app.state.service.album.folder.glob("*")), "no picture is left behind"


HOSTILE = [
    "../../etc/passwd", "..%2f..", "/etc/passwd", "a/../b", "a?number=true", "a#b", "%00", "100%", "'; drop table memory; --",
    '"><img src=x onerror=alert(1)>', "</script><script>alert(1)</script>", "{{7*7}}", "naïve 東京 🙂", "a\\b", "image", "x/image",
    "\u202egnp.exe", "CON", "~", "-1", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_are_ids(client, digit, name, tmp_path):
    from urllib.parse import quote

    before = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    metadata = json.dumps({"label": name, "note": "<b onclick=alert(1)>"})
    made = client.post("/api/examples", data={"id": name, "metadata": metadata}, files=upload(digit(300), name))
    assert made.status_code == 201 and made.json()["id"] == name
    found = client.post(
        "/api/search", data={"where": f"label = '{name.replace(chr(39), 2 * chr(39))}'"}, files=upload(digit(300))
    )
    assert [n["id"] for n in found.json()["neighbours"]] == [name]
    address = (
        f"/api/examples/{quote(name, safe='').replace('%25', '%2525')}"  # this client decodes twice, a server once
    )
    assert client.get(f"{address}/image").status_code == 200
    assert client.delete(address).json()["id"] == name
    assert {path for path in tmp_path.rglob("*") if "store" not in path.parts} == before


@pytest.mark.parametrize(
    "path", ["../../secret.png", "/etc/passwd", "0" * 64, "A" * 64, "a" * 63 + "/", ["a"], 7, None, "\ud800"]
)
def test_a_store_cannot_name_a_file(client, memory, tmp_path, path, monkeypatch):
    monkeypatch.setattr("ziggurat.memory.stores._whole", lambda value: True)  # what an older version let in
    (tmp_path / "secret.png").write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    memory.add(["evil"], np.ones((1, 64)), [{"thumbnail": path, "data": path, "path": "/etc/passwd"}])
    said(client.get("/api/examples/evil/image"), 404)
    hits = client.post("/api/search", data={"vector": json.dumps([1] * 64), "k": 1}).json()
    assert hits["neighbours"][0]["picture"] is False and "thumbnail" not in hits["neighbours"][0]["metadata"]
    assert client.delete("/api/examples/evil").status_code == 200
    assert (tmp_path / "secret.png").exists()


def test_what_json_and_utf_8_cannot_say_is_shown_nevertheless(client, memory, monkeypatch):
    monkeypatch.setattr("ziggurat.memory.stores._whole", lambda value: True)  # what an older version let in
    strange = {"label": "\ud800", "a": float("nan"), "b": [float("inf"), {"\udfff": "\udfff"}]}
    memory.add(["odd\ud800", 1], np.stack([np.ones(64), np.ones(64)]), [strange, {}])
    found = client.post("/api/search", data={"vector": json.dumps([1] * 64), "k": 2}).json()
    texts = {n["id"]: n["metadata"] for n in found["neighbours"]}
    assert texts["odd?"] == {"label": "?", "a": None, "b": [None, {"?": "?"}]}
    assert found["votes"][0]["label"] == "?"


def png(width, height):
    """A PNG that claims a size and holds nothing."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = (
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"", 422, "no picture that can be read"),
        (b"hello", 422, "no picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "no picture that can be read"),
        (b"%PDF-1.7", 422, "no picture that can be read"),
        (png(100_000, 100_000), 422, "no picture that can be read"),
        (png(6_000, 6_000), 413, "6000×6000 pixels, more than 30,000,000"),
        (png(10, 9_000), 422, "10×9000 pixels; cut it, its sides may differ 40 times"),
        (png(50, 50), 422, "damaged or cut off"),
        (encoded(np.eye(300, dtype=np.uint8) * 255, "JPEG")[:-900], 422, "damaged or cut off"),
    ],
)
def test_pictures_that_are_refused(client, content, status, text):
    for path, form in (("search", {}), ("examples", {"id": "x"}), ("explain", {"neighbour": "digits/0"})):
        assert text in said(client.post(f"/api/{path}", data=form, files=upload(content)), status)


def test_a_large_body_is_refused_before_it_is_read(serve):
    client = serve(limits=Limits(upload_bytes=5_000))
    text = "larger than 0.005 MB; send a smaller picture"
    assert text in said(client.post("/api/search", files=upload(b"x" * 5_000)), 413)
    parts = [b'--b\r\ncontent-disposition: form-data; name="id"\r\n\r\n', *[b"x" * 1_000] * 9, b"\r\n--b--\r\n"]
    kind = {"content-type": "multipart/form-data; boundary=b"}
    chunked = client.post("/api/search", content=iter(parts), headers=kind)  # without a length
    assert "content-length" not in chunked.request.headers and text in said(chunked, 413)
    assert said(client.post("/api/search", content=b"", headers={"content-length": "-1"}), 413)


def test_bodies_that_cannot_be_read(client):
    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/api/search", content=b"--b\r\nnonsense", headers=kind).status_code in (400, 422)
    assert client.post("/api/search", content=b"{", headers={"content-type": "application/json"}).status_code == 422
    missing = client.post("/api/examples", data={"id": "x"})
    assert "image: field required" in said(missing, 422)
    assert "neighbour: field required" in said(client.post("/api/explain", data={"id": "digits/0"}), 422)
    many = {f"f{i}": "x" for i in range(1_200)}
    assert client.post("/api/search", files={**{k: (None, v) for k, v in many.items()}}).status_code == 400


def test_addresses_and_methods_that_are_not_there(client):
    assert "nothing at this address" in said(client.get("/etc/passwd"), 404)
    assert "nothing at this address" in said(client.get("/api/../page/../../app.py"), 404)
    assert "nothing at this address" in said(client.get("/docs"), 404)
    assert "does not take that method" in said(client.get("/api/search"), 405)
    assert "does not take that method" in said(client.options("/api/search"), 405)


def test_a_slow_body_is_given_up():
    async def receive():
        await asyncio.sleep(60)

    async def reads(scope, receive, send):
        await receive()

    guard = Guard(reads, None, (), None, Limits(upload_seconds=0.05))
    started = time.monotonic()
    with pytest.raises(Exception, match="did not arrive in time") as late:
        asyncio.run(guard({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, None))
    assert late.value.status_code == 408 and time.monotonic() - started < 5


def test_answers_that_take_too_long_and_too_many_at_once():
    go = threading.Event()

    async def use():
        work = Workers(1, Limits(waiting=2, seconds=0.05))
        both = await asyncio.gather(work(go.wait), work(go.wait), return_exceptions=True)
        assert [error.status for error in both] == [503, 503] and "takes too long" in str(both[0])
        with pytest.raises(Refusal, match="busy"):
            await work(int)
        go.set()
        while work.waiting:
            await asyncio.sleep(0.01)
        assert await work(int) == 0

    asyncio.run(use())


def test_the_loop_is_free_while_something_is_computed(client, digit):
    service, busy = client.app.state.service, threading.Event()
    waiting = threading.Thread(target=lambda: (client.post("/api/search", files=upload(digit(0))), busy.set()))
    with client:  # one loop for both
        with service._network:  # nobody can embed
            waiting.start()
            assert client.get("/health").status_code == 200 and not busy.is_set()
        waiting.join(60)
    assert busy.is_set()


def test_a_memory_that_is_full(serve, digit):
    client = serve(limits=Limits(examples=COUNT))
    response = client.post("/api/examples", data={"id": "x"}, files=upload(digit(300)))
    assert f"the memory is full with {COUNT} examples" in said(response, 409)


def test_a_full_disk_and_a_defect(client, memory, digit, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory, "add", full)
    response = client.post("/api/examples", data={"id": "x"}, files=upload(digit(300)))
    assert "the disk of the server is full" in said(response, 507)
    assert not list(client.app.state.service.album.folder.glob("*"))
    monkeypatch.setattr(memory, "add", lambda *arguments: [][0])
    response = client.post("/api/examples", data={"id": "x"}, files=upload(digit(300)))
    assert said(response, 500) == "the server has made a mistake, which stands in its log."
    assert not list(client.app.state.service.album.folder.glob("*"))


def test_a_database_that_cannot_be_reached(client, memory, monkeypatch):
    def lost(*arguments):
        raise ConnectionError("the store postgresql://h/d cannot be reached (timeout).")

    monkeypatch.setattr(memory, "search", lost)
    response = client.post("/api/search", data={"id": "digits/0"})
    assert said(response, 503) == "the store postgresql://h/d cannot be reached (timeout)."


def test_another_checkpoint_than_the_store_was_made_with(serve, tmp_path):
    from tests.typecheck import value_error
    from ziggurat.memory.memory import Memory

    other = Memory.open(tmp_path / "narrow", 7)
    with value_error("embeds into 64 numbers and the memory holds vectors of 7"):
        serve(memory=other)


def test_the_token(serve, digit, monkeypatch):
    client = serve(token=TOKEN)
    for path in OPEN:
        assert client.get(path).status_code == 200
    for wrong in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"},
                  {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer "}, {"Cookie": f"token={TOKEN}"}):  # fmt: skip
        for method, path in (("GET", "/api/stats"), ("POST", "/api/search"), ("DELETE", "/api/examples/digits/0"),
                             ("GET", "/api/examples/digits/0/image"), ("GET", "//api/stats"), ("GET", "/API/stats")):  # fmt: skip
            refused = client.request(method, path, headers=wrong)
            assert "asks for a token" in said(refused, 401) and refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/api/stats", headers=BEARER).json()["count"] == COUNT
    assert client.get("/api/stats", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
    assert client.get("/api/stats", params={"token": TOKEN}).status_code == 401, "an address ends up in logs"
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((len(a), len(b))) or False)
    client.get("/api/stats", headers={"Authorization": "Bearer x"})
    assert compared == [(32, 32)], "in constant time, whatever the length"
    security = client.get("/openapi.json").json()
    assert security["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "[::1", ""]
)
def test_names_that_were_bound_to_this_machine_are_refused(client, host):
    assert "answers on 127.0.0.1, ::1, localhost only" in said(client.get("/api/stats", headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine(client, host):
    assert client.get("/api/stats", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://localhost:8000"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
def test_pages_of_other_sites_cannot_write(client, headers):
    for method, path in (("POST", "/api/examples"), ("POST", "/api/search"), ("DELETE", "/api/examples/digits/0")):
        assert "pages of other sites" in said(client.request(method, path, headers=headers), 403)
    assert client.get("/api/stats").json()["count"] == COUNT


def test_the_page_of_this_server_can_write(client):
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.delete("/api/examples/digits/0", headers=own).status_code == 200


def test_what_every_answer_says_to_a_browser(client):
    for path in (*PAGE, "/health", "/api/stats", "/nothing"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_the_page_stands_alone(client):
    for path, (_, kind) in PAGE.items():
        answer = client.get(path)
        assert answer.headers["content-type"].split(";")[0] == kind
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text
        assert "innerHTML" not in text and "insertAdjacent" not in text and "document.write" not in text
        assert " style=" not in text and " onclick=" not in text


def test_thirty_megapixels_are_not_decoded_to_be_refused(client, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("the picture was decoded"))
    assert client.post("/api/search", files=upload(png(6_000, 6_000))).status_code == 413
    assert io.BytesIO(png(1, 1)).read(4) == b"\x89PNG"
