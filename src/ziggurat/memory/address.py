"""The URL of a server store, read once: what libpq gets, the table, and what a message may show of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

TABLE, STORES = "memory", "ziggurat_stores"  # of one store, and of the versions of all
DEFAULTS = {
    "fallback_application_name": "ziggurat", "connect_timeout": 10,
    "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
}  # fmt: skip
SECRET = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*"}
UNREADABLE = (
    "the URL of the store cannot be read; write postgresql://USER@HOST/DATABASE, with @ / : ? # % in its parts as "
    "%40 %2F %3A %3F %23 %25, and keep the password in ~/.pgpass or PGPASSWORD."
)


@dataclass(frozen=True)
class Address:
    """Where a server store is.

    Arguments:
        info: the connection's parameters, password and all.
        table: the store's table.
        shown: the URL without anything secret.
    """

    info: dict[str, Any]
    table: str
    shown: str

    @classmethod
    def of(cls, url: str) -> Address:
        """A URL that cannot be read for certain is a `ValueError` that repeats nothing of it: a part may be a piece of a password."""
        front, mark, query = url.partition("?")
        scheme, _, rest = front.partition("://")
        login, at, place = rest.rpartition("@")
        pairs = [pair for pair in query.split("&") if pair]
        names = [unquote(pair.partition("=")[0]) for pair in pairs]
        tables = [unquote(pair.partition("=")[2]) for name, pair in zip(names, pairs, strict=True) if name == "table"]
        kept = [pair for name, pair in zip(names, pairs, strict=True) if name != "table"]
        try:
            info = conninfo_to_dict(f"{front}?{'&'.join(kept)}" if kept else front)
        except (psycopg.Error, UnicodeError):
            raise ValueError(UNREADABLE) from None
        ports = str(info.get("port") or "").split(",")
        if (
            "/" in login
            or "@" in login
            or "@" in query
            or "\0" in url
            or not all(port.isdigit() or not port for port in ports)
        ):
            raise ValueError(UNREADABLE)
        table = tables[-1] if tables else TABLE
        if not 1 <= len(table.encode()) <= 63 or set("%\0") & set(table) or table == STORES:
            raise ValueError(f"?table= takes a name of 1 to 63 bytes, without %, other than {STORES}.")
        secret = [pair for name, pair in zip(names, pairs, strict=True) if name not in SECRET]
        shown = f"{scheme}://{login.partition(':')[0]}{at}{place}{mark if secret else ''}{'&'.join(secret)}"
        return cls({**DEFAULTS, **info}, table, shown)
