"""Looking at the examples of a memory, changing what it knows of them, and forgetting them. Nothing here needs a network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ziggurat.memory.opening import open_store
from ziggurat.memory.stores import Id, Store

RESERVED = ("id", "key", "data", "label", "thumbnail")
"""Words of a memory itself: what else is known of a sample is called otherwise."""
NAME = re.compile(r"(?!(?:and|or|not|in|is|null|true|false)\Z)[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
"""What a filter can call a field."""
FIXED = tuple(word for word in RESERVED if word != "label")
WORDS = {"true": True, "false": False}


def examples(store: str | Path, where: str | None = None, k: int = 10) -> tuple[list[dict[str, Any]], int]:
    """The first examples that a filter selects, by id, each with its `id` and its metadata, and how many it selects in all."""
    with closing(open_store(store)) as opened:
        ids = opened.scan(where)["id"].tolist()
        first = sorted(ids, key=lambda name: (isinstance(name, str), name))[:k]
        return [{"id": row["id"], **row["metadata"]} for row in opened.get(first) if row is not None], len(ids)


def chosen(store: Store, ids: Sequence[str], where: str | None) -> list[Id]:
    """The ids of the examples that are named, or of those that a filter selects; an id that is not there is a `ValueError`."""
    if bool(ids) == (where is not None):
        raise ValueError("say which examples are meant, either by their ids or by a filter (--where).")
    if where is not None:
        return store.scan(where)["id"].tolist()
    found: list[Id] = []
    for text in ids:
        names: list[Id] = [text, int(text)] if re.fullmatch(r"-?[0-9]+", text) else [text]
        there = [name for name, row in zip(names, store.get(names), strict=True) if row is not None]
        if not there:
            raise ValueError(
                f"there is no example {text!r} in {store.name}; `ziggurat search {store.name}` shows some ids."
            )
        found.append(there[0])
    return list(dict.fromkeys(found))


def forget(place: str | Path, ids: Sequence[str] = (), where: str | None = None) -> list[dict[str, Any]]:
    """Removes the examples with these ids, or those that a filter selects, and returns the metadata that they had."""
    with closing(open_store(place)) as store:
        names = chosen(store, ids, where)
        rows = [row["metadata"] for row in store.get(names) if row is not None]
        store.remove(names)
        return rows


def edit(place: str | Path, changes: Mapping[str, str], ids: Sequence[str] = (), where: str | None = None) -> int:
    """Sets fields of the metadata of the examples with these ids, or of those that a filter selects, and returns how many there are.

    Arguments:
        changes: the new value of each field, as a person writes it: of the kind that the field holds in the memory, else a number, true
            or false where it reads like one; empty takes the field away.
    """
    with closing(open_store(place)) as store:
        names = chosen(store, ids, where)
        columns = store.scan()
        values = {}
        for field, text in changes.items():
            if not NAME.fullmatch(field) or field.lower() in FIXED:
                raise ValueError(
                    f"a field cannot be called {field!r}; use letters, digits and _, and none of {', '.join(FIXED)} or the words of "
                    "filters."
                )
            values[field] = read_value(field, text, {type(v) for v in columns.get(field, ()) if v is not None})
        rows = [row for row in store.get(names) if row is not None]
        if rows:
            told = [{**row["metadata"], **values} for row in rows]
            kept = [{field: v for field, v in row.items() if v is not None or field == "label"} for row in told]
            store.upsert([row["id"] for row in rows], np.stack([row["vector"] for row in rows]), kept)
        return len(rows)


def read_value(field: str, text: str, kinds: set[type]) -> Any:
    """A value as a person writes it, of the kind that a field holds already; None for nothing."""
    if not text:
        return None
    if kinds == {str}:
        return text
    if kinds == {bool} or (not kinds and text in WORDS):
        if text not in WORDS:
            raise ValueError(f"the field {field!r} holds true or false in this memory, and {text!r} is neither.")
        return WORDS[text]
    try:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else float(text)
        if math.isfinite(number):
            return number
    except ValueError:
        pass
    if kinds <= {int, float} and kinds:
        raise ValueError(f"the field {field!r} holds numbers in this memory, and {text!r} is none.")
    return text
