import sys

import pytest

from tests.claims import forget, install
from ziggurat.cli import main


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The paper of the tests, on a quiet machine."""
    paper = install(tmp_path, monkeypatch)
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: None)
    yield paper
    forget()


@pytest.fixture
def command(monkeypatch, capsys):
    """The command as a person calls it: exit code, stdout, stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ziggurat", *words])
        with pytest.raises(SystemExit) as stop:
            main.run()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call
