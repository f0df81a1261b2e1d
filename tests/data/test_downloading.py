import functools
import hashlib
import http.server
import threading

import pytest

from tests.typecheck import value_error
from ziggurat.data import downloading
from ziggurat.data.downloading import download, fetch

CONTENT = bytes(range(256)) * 9000


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.bin").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def known(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ZIGGURAT_DATA", raising=False)
    file = {
        "name": "a.bin",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "url": f"{server}/a.bin",
    }
    other = {key: value for key, value in file.items() if key != "url"} | {"name": "b.bin"}
    table = {name: {"files": [f], "source": "a server"} for name, f in (("it", file), ("derived", other))}
    for module in (downloading, __import__("ziggurat.data.sources", fromlist=["sources"])):
        monkeypatch.setattr(module, "sources", lambda: table)
    return file


def test_files_are_fetched_once_with_progress(known, tmp_path):
    seen = []
    (path,) = download("it", lambda *step: seen.append(step))
    assert path == tmp_path / "cache" / "ziggurat" / "a.bin" and path.read_bytes() == CONTENT
    assert seen[-1] == ("a.bin", len(CONTENT), len(CONTENT)) and len(seen) > 1
    seen.clear()
    assert download("it", lambda *step: seen.append(step)) == [path] and seen == []


def test_wrong_files_are_not_kept(known, tmp_path):
    target = tmp_path / "here" / "a.bin"
    for size, digest in ((len(CONTENT), "0" * 64), (10, known["sha256"]), (len(CONTENT) + 1, known["sha256"])):
        with value_error("that are not a.bin"):
            fetch(known["url"], target, size, digest)
        assert list(target.parent.iterdir()) == []


def test_what_cannot_be_had_is_said(known):
    with value_error("no data set 'other'"):
        download("other")
    with value_error("derived cannot be downloaded: its source has b.bin in another form"):
        download("derived")
    with value_error("File not found"):
        fetch(known["url"] + "x", downloading.cache_folder() / "x", 1, "0")
    with value_error("cannot be reached"):
        fetch("http://127.0.0.1:9/x", downloading.cache_folder() / "x", 1, "0")
