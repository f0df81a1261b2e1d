"""Connections to a PostgreSQL server for a store, and what can go wrong with them, in one sentence."""

from __future__ import annotations

import psycopg
from psycopg import Connection, errors
from psycopg.types.json import set_json_dumps

from ziggurat.memory.address import Address


def connect(address: Address) -> tuple[Connection, str]:
    """A new connection, and the schema that it works in."""
    try:
        connection = psycopg.connect(**address.info, autocommit=True, prepare_threshold=None)
        row = connection.execute("SELECT current_schema(), getdatabaseencoding()").fetchone()
    except psycopg.Error as error:
        raise ConnectionError(f"the store {address.shown} cannot be reached ({line(error)}).") from None
    if row is None or row[0] is None or row[1] != "UTF8":
        connection.close()
        raise ValueError(f"the database of {address.shown} needs the encoding UTF8 and a schema to work in.")
    set_json_dumps(str, connection)  # what is sent is JSON already
    return connection, row[0]


def knows_vectors(connection: Connection) -> bool:
    """Whether vectors come as such, and not as text."""
    return connection.adapters.types.get("vector") is not None


def roll_back(connection: Connection) -> None:
    """Ends a transaction that failed."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:  # the server rolls back when its client is gone
        connection.close()


def mistake(name: str, error: psycopg.Error, lost: bool, writing: bool) -> Exception:
    """Instead of the database's own errors.

    Arguments:
        name: of the store.
        lost: whether the connection was.
        writing: whether something was to be stored.
    """
    text = line(error)
    if isinstance(error, errors.DiskFull):
        return OSError(f"the disk of the server of {name} is full; free some space there, nothing was half-written.")
    if lost:
        state = "it was not acknowledged, and is stored whole or not at all" if writing else "call again"
        return ConnectionError(f"the connection to {name} was lost in the middle of a call ({text}): {state}.")
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return ValueError(f"{name} is a replica that cannot be written to; write to its primary server.")
    if isinstance(error, psycopg.DataError):
        return ValueError(
            f"PostgreSQL cannot keep or compare some of this ({text}); ids, metadata and filters take text without the "
            "character NUL and numbers that are finite."
        )
    return ValueError(f"the store {name} cannot be read or written ({text}).")


def line(error: psycopg.Error) -> str:
    """What the database says, on one line."""
    return " ".join((error.diag.message_primary or str(error)).split())[:200] or type(error).__name__
