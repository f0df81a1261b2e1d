"""The verb: mistakes in one sentence, which pictures it finds, and a real server that stops on Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import torch

import ziggurat
from tests.cli.serving.conftest import COUNT
from tests.untrained import untrained
from ziggurat.cli.serving.serve import is_loopback
from ziggurat.report.album import embedded_data

TOKEN = "a-token-of-some-length"


@pytest.fixture
def checkpoint(artifact, tmp_path):
    return str(artifact.save(tmp_path / "net"))


@pytest.fixture
def mistake(command):
    """A command that ends in one sentence with these words."""

    def call(words, *texts):
        code, out, err = command("serve", *map(str, words))
        assert (code, out) == (2, "") and err.startswith("ziggurat: ") and err.count("\n") == 1, err
        assert all(text in err for text in texts), err

    return call


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.evil"])
def test_off_loopback_only_with_a_token_or_by_a_clear_word(mistake, memory, host):
    mistake(
        [memory.store.path, "--host", host], f"{host} is reached from other machines", "--token-file", "--without-token"
    )


def test_what_is_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")))


def test_mistakes(mistake, memory, checkpoint, tmp_path):
    store, short = memory.store.path, tmp_path / "short"
    mistake([tmp_path / "lost"], "there is no store at", "ziggurat embed")
    assert not (tmp_path / "lost").exists()
    mistake([store, "--with", "lost"], "there is no checkpoint lost")
    mistake([store, "--device", "tpu"], "device must be cpu")
    mistake([store, "--images", "digits"], "--images needs the checkpoint")
    mistake([store, "--with", checkpoint, "--images", "cora"], "cora is no data set of images")
    mistake([store, "--with", checkpoint, "--images", "nowhere"], "nowhere is neither a data set")
    mistake([store, "--port", "70000"], "--port")
    mistake([store, "--host", "no.such.machine.invalid", "--without-token"], "is no address of this machine")
    short.write_text("secret\n")
    mistake([store, "--token-file", short], "holds no token", "16 or more", "secrets.token_urlsafe")
    mistake([store, "--token-file", tmp_path / "none"], "no such file")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mistake([store, "--port", port], f"127.0.0.1 port {port} cannot be listened on (address already in use)")


def test_a_checkpoint_of_another_width(mistake, memory, tmp_path):
    wide = untrained("cifar_resnet20")
    wide.method = "cifar_resnet20:widths=1"
    other = untrained("mlp").save(tmp_path / "mlp")
    mistake([memory.store.path, "--with", other], "mlp embeds into", "the memory holds vectors of 64")


def test_without_the_extra(mistake, memory, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    mistake([memory.store.path], "which are not installed", 'pip install "ziggurat[serve]"')


def test_which_pictures_are_shown(memory, artifact, tmp_path):
    data, notes = embedded_data(memory, artifact, None)
    assert [samples.name for samples in data] == ["digits"] and notes == []
    torch.manual_seed(1)
    other = untrained("cifar_resnet20")
    for parameter in other.learner.parameters():
        torch.nn.init.normal_(parameter)
    data, notes = embedded_data(memory, other, None)
    assert data == [] and "does not hold what this checkpoint makes of digits" in notes[0]


def ask(address, path, token=None, **options):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with urlopen(Request(address + path, headers=headers, **options), timeout=30) as answer:
        return json.loads(answer.read())


def test_a_server(memory, checkpoint, tmp_path):
    """As a person starts it, on a free port, with a token; Ctrl-C stops it."""
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o644)
    words = [memory.store.path, "--with", checkpoint, "--port", "0", "--token-file", secret, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from ziggurat.cli.main import run; run()", "serve", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(ziggurat.__file__).parents[1])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        said = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert said["examples"] == COUNT and said["store"] == str(memory.store.path)
        assert ask(said["address"], "/health")["status"] == "ok"
        assert ask(said["address"], "/api/stats", TOKEN)["count"] == COUNT
        with pytest.raises(HTTPError, match="401"):
            ask(said["address"], "/api/stats")
        with pytest.raises(HTTPError, match="404") as missing:
            ask(said["address"], "/api/examples/..%2F%252f%25/image", TOKEN)
        assert "there is no example '../%2f%' in the memory" in json.loads(missing.value.read())["detail"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    first, last = err.splitlines()
    assert "other users of this machine can read" in first and "chmod 600" in first
    assert last == "ziggurat: stopped; what was finished is kept."
