import pytest

from tests.claims import forget, install


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The paper of the tests, on a quiet machine."""
    paper = install(tmp_path, monkeypatch)
    monkeypatch.setattr("ziggurat.claims.run.busy", lambda: None)
    yield paper
    forget()
