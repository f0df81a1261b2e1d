"""Stores by the place that a person names: a folder, or the URL of a server."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from ziggurat.memory.folder import LOCK
from ziggurat.memory.lance import LanceStore
from ziggurat.memory.stores import Store

MADE = 1  # the version of a store whose table was made and holds nothing yet


def on_server(where: str | Path) -> bool:
    """Whether a store is named by a postgresql:// URL, and is no folder."""
    return isinstance(where, str) and where.startswith(("postgresql://", "postgres://"))


def open_store(where: str | Path, dimension: int | None = None) -> Store:
    """The store in a folder, or the one on the server that a postgresql:// URL names; made when it is not there and has a dimension."""
    if not on_server(where):
        return LanceStore(where, dimension)
    try:
        from ziggurat.memory.postgres import PostgresStore
    except ModuleNotFoundError:
        raise ValueError(
            'a store on a server needs psycopg and pgvector, which are not installed; pip install "ziggurat[server]" brings them.'
        ) from None
    return PostgresStore(str(where), dimension)


def there_is_store(where: str | Path) -> bool:
    """Whether something is stored there, without making anything."""
    if on_server(where):
        store = open_store(where)
        store.close()
        return store.dimension is not None
    return Path(where).is_dir() and any(Path(where).iterdir())


def shown(where: str | Path) -> str:
    """What a person may see of a store's place: a URL without its password."""
    if not on_server(where):
        return str(where)
    from ziggurat.memory.address import Address

    return Address.of(str(where)).shown


def discard_unfilled(store: Path) -> None:
    """Removes the folder of a store in which nothing was ever stored.

    Another process may have found it meanwhile and filled it, or be about to: who holds the lock of its writers is.
    """
    if not store.exists():
        return
    try:
        with FileLock(store / LOCK, timeout=0):
            with closing(LanceStore(store)) as opened:
                unfilled = opened.version <= MADE and not len(opened)
            if unfilled:
                shutil.rmtree(store, ignore_errors=True)
    except (OSError, ValueError):  # it is held by another, or is not to be read: what is not known to be empty stays
        pass
