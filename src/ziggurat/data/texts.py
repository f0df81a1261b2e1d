"""Readers of texts known by name: WordNet's glosses and SHROOM's generations."""

from __future__ import annotations

import json
import zipfile
from typing import Any, NamedTuple

from ziggurat.data.sources import choose, locate

SHROOM_PARTS = ("trial", "dev_aware", "dev_agnostic", "test_aware", "test_agnostic")


class Synset(NamedTuple):
    """A noun of WordNet.

    Arguments:
        offset: its name in the file.
        word: the first lemma.
        gloss: the definition, without the examples.
        lexicographer: number of the lexicographer's file, 3 (tops) to 28.
        hypernyms: offsets of what it is a kind or an instance of.
    """

    offset: int
    word: str
    gloss: str
    lexicographer: int
    hypernyms: tuple[int, ...]


def wordnet_glosses(name: str, split: Any, root: Any) -> tuple[Synset, ...]:
    """All nouns of WordNet with their definitions."""
    choose(name, split, ("noun",))
    lines = locate(name, root)[0].read_text(encoding="utf-8").splitlines()
    return tuple(synset(line) for line in lines if not line.startswith("  "))


def synset(line: str) -> Synset:
    """One line of WordNet's data file; its format is that of wndb(5WN)."""
    data, _, gloss = line.partition("|")
    parts = data.split()
    words = int(parts[3], 16)
    pointers = parts[4 + 2 * words :]
    above = [int(pointers[i + 1]) for i in range(1, 1 + 4 * int(pointers[0]), 4) if pointers[i] in ("@", "@i")]
    definition = gloss.split('; "')[0].strip().rstrip(";")
    return Synset(int(parts[0]), parts[4].replace("_", " "), definition, int(parts[1]), tuple(above))


def shroom(name: str, split: Any, root: Any) -> tuple[dict[str, Any], ...]:
    """Generations with their votes, as dicts: src, tgt, hyp, task, labels (one a vote), label, p(Hallucination), …"""
    choose(name, split, SHROOM_PARTS)
    found: list[dict[str, Any]] = []
    with zipfile.ZipFile(locate(name, root)[0]) as archive:
        for part in (split,) if split else SHROOM_PARTS:
            found += json.loads(archive.read(f"{part}.json"))
    return tuple(found)


TEXT_READERS = {"wordnet_glosses": wordnet_glosses, "shroom": shroom}
