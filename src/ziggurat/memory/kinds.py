"""Indexes by name, and from their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ziggurat.memory.graph_index import GraphIndex
from ziggurat.memory.hnsw_index import HNSWIndex
from ziggurat.memory.indexes import ExactIndex

KINDS: dict[str, type[ExactIndex]] = {"exact": ExactIndex, "hnsw": HNSWIndex, "graph": GraphIndex}


def load_index(path: Path) -> tuple[ExactIndex, int]:
    """An index as `save` wrote it, and the version of the store that it reflects; a damaged file is a `ValueError`.

    A file of an earlier release does not say the arguments of its index: that one comes back empty, of version −1, to be built anew.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        about = json.loads(str(state.pop("about")))
        index = KINDS[about["kind"]](state["vectors"].shape[1], about["metric"], **about.get("arguments", {}))
        if "arguments" not in about:
            return index, -1
        index._restore(state)
        return index, int(about["version"])
    except Exception as error:
        raise ValueError(f"the index {path} is damaged ({error}); delete it, it is rebuilt from the store.") from None
