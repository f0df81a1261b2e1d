"""Readers of sets about single words: what people say of how similar two of them are."""

from __future__ import annotations

import zipfile
from typing import Any, NamedTuple

from ziggurat.data.sources import choose, locate

SIMILARITY_SETS = (
    "MC-30", "MEN-TR-3k", "MTurk-287", "MTurk-771", "RG-65", "RW-STANFORD", "SIMLEX-999", "SimVerb-3500", "VERB-143",
    "WS-353-ALL", "WS-353-REL", "WS-353-SIM", "YP-130",
)  # fmt: skip


class Rated(NamedTuple):
    """Two words, and the mean rating of their similarity on the scale of their set."""

    first: str
    second: str
    rating: float


def word_similarity(name: str, split: Any, root: Any) -> tuple[Rated, ...]:
    """Rated pairs of words in lower case; the parts are the sets (the thirteen of eval-word-vectors), each with its own scale."""
    choose(name, split, SIMILARITY_SETS)
    found = []
    with zipfile.ZipFile(locate(name, root)[0]) as archive:
        for part in (split,) if split else SIMILARITY_SETS:
            lines = archive.read(f"EN-{part}.txt").decode().splitlines()
            found += [
                Rated(a.lower(), b.lower(), float(rating)) for a, b, rating in (line.split() for line in lines if line)
            ]
    return tuple(found)


WORD_READERS = {"word_similarity": word_similarity}
