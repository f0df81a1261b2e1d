"""Looking at the examples of a memory, changing what it knows of them, and forgetting them. Nothing here needs a network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from ziggurat.memory.opening import open_store
from ziggurat.memory.stores import Id, Store

RESERVED = ("id", "key", "data", "label", "thumbnail")
"""Words of a memory itself: what else is known of a sample is called otherwise."""
NAME = re.compile(r"(?!(?:and|or|not|in|is|null|true|false)\Z)[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
"""What a filter can call a field."""
BLOCK = 10_000
"""Examples that are changed at a time."""
FIXED = tuple(word for word in RESERVED if word != "label")
WORDS = {"true": True, "false": False}


def examples(store: str | Path, where: str | None = None, k: int = 10) -> tuple[list[dict[str, Any]], int]:
    """The first examples that a filter selects, by id, each with its `id` and its metadata, and how many it selects in all."""
    with closing(open_store(store)) as opened:
        rows = opened.look(where)
        ids = rows["id"].tolist()
        first = sorted(range(len(ids)), key=lambda i: (isinstance(ids[i], str), ids[i]))[:k]
        return [{"id": ids[i], **rows["metadata"][i]} for i in first], len(ids)


def chosen(store: Store, ids: Sequence[str], where: str | None) -> pd.DataFrame:
    """`key`, `id` and `metadata` of the examples that are named, or of those that a filter selects.

    An id that is not there is a `ValueError`.
    """
    if bool(ids) == (where is not None):
        raise ValueError("say which examples are meant, either by their ids or by a filter (--where).")
    if where is not None:
        return store.look(where)
    rows = store.look(ids=[name for text in ids for name in meant(text)])
    places = {name: i for i, name in enumerate(rows["id"])}
    found = []
    for text in ids:
        there = [name for name in meant(text) if name in places]
        if not there:
            raise ValueError(
                f"there is no example {text!r} in {store.name}; `ziggurat search {store.name}` shows some ids."
            )
        found.append(places[there[0]])
    return rows.iloc[list(dict.fromkeys(found))].reset_index(drop=True)


def meant(text: str) -> list[Id]:
    """The ids that a person may mean: the text, or else the number that it is."""
    return [text, int(text)] if re.fullmatch(r"-?[0-9]{1,4000}", text) else [text]


def forget(place: str | Path, ids: Sequence[str] = (), where: str | None = None) -> list[dict[str, Any]]:
    """Removes the examples with these ids, or those that a filter selects, and returns the metadata that they had.

    One that another process has changed meanwhile is removed as well, unless the filter selects it no longer.
    """
    with closing(open_store(place)) as store:
        rows, gone = chosen(store, ids, where), []
        while len(rows):
            there = store.discard(rows["key"].to_numpy())
            gone += rows["metadata"][there].tolist()
            late = rows["id"][~there].tolist()
            rows = store.look(where, late) if late else rows[:0]
        return gone


def edit(place: str | Path, changes: Mapping[str, str], ids: Sequence[str] = (), where: str | None = None) -> int:
    """Sets fields of the metadata of the examples with these ids, or of those that a filter selects, and returns how many were changed.

    What another process changes or removes meanwhile is not undone. Many examples are changed a block at a time.

    Arguments:
        changes: the new value of each field, as a person writes it: of the kind that the field holds in the memory, else a number, true
            or false where it reads like one; empty takes the field away.
    """
    with closing(open_store(place)) as store:
        rows, kinds = chosen(store, ids, where), store.kinds()
        values = {}
        for field, text in changes.items():
            if not NAME.fullmatch(field) or field.lower() in FIXED:
                raise ValueError(
                    f"a field cannot be called {field!r}; use letters, digits and _, and none of {', '.join(FIXED)} or the words of "
                    "filters."
                )
            values[field] = read_value(field, text, kinds.get(field, set()))
        blocks = [rows.iloc[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        return sum(change(store, block, values, where) for block in blocks)


def change(store: Store, rows: pd.DataFrame, values: Mapping[str, Any], where: str | None) -> int:
    """Sets values in rows as they were read, and returns in how many.

    A row that another process has replaced is read again, and left alone when the filter selects it no longer; one that was removed
    stays removed.
    """
    count = 0
    while len(rows):
        told = [{**metadata, **values} for metadata in rows["metadata"]]
        kept = [{field: v for field, v in row.items() if v is not None or field == "label"} for row in told]
        there = store.replace(rows["key"].to_numpy(), kept)
        count += int(there.sum())
        late = rows["id"][~there].tolist()
        rows = store.look(where, late) if late else rows[:0]
    return count


def read_value(field: str, text: str, kinds: set[str]) -> Any:
    """A value as a person writes it, of the kind that a field holds already; None for nothing."""
    if not text:
        return None
    if kinds == {"text"}:
        return text
    if kinds == {"true or false"} or (not kinds and text in WORDS):
        if text not in WORDS:
            raise ValueError(f"the field {field!r} holds true or false in this memory, and {text!r} is neither.")
        return WORDS[text]
    try:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else float(text)
        if math.isfinite(number):
            return number
    except ValueError:
        pass
    if kinds == {"numbers"}:
        raise ValueError(f"the field {field!r} holds numbers in this memory, and {text!r} is none.")
    return text
