"""Embedding a whole data set into a memory, and searching it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ziggurat.data.loading import load
from ziggurat.data.pictures import PICTURES, open_image
from ziggurat.memory.memory import Hits, Memory
from ziggurat.workflows.artifact import Artifact

BATCH = 256


def represent(artifact: Artifact, images: torch.Tensor) -> np.ndarray:
    """Representations (n, D) of images (n, C, H, W) in [0, 1]."""
    with torch.inference_mode():
        parts = [
            artifact.learner.represent(artifact.prepare(part).to(artifact.learner.device)).flatten(1).cpu()
            for part in images.split(BATCH)
        ]
    return torch.cat(parts).numpy().astype(np.float32)


def embed(artifact: Artifact, data: str | Path, store: str | Path, split: str | None = None) -> int:
    """Puts the representation of every sample into the memory at `store`, with its label; ids are paths or numbers.

    Samples that are there already are replaced. Returns how many were embedded.
    """
    samples = load(data, split)
    if getattr(samples, "kind", "") != artifact.shape.kind or artifact.shape.kind != "image":
        raise ValueError(
            f"{artifact.method} was trained on {artifact.shape.kind} data, and {data} is not of that kind."
        )
    vectors = np.concatenate([represent(artifact, samples.inputs(i)) for i in torch.arange(len(samples)).split(BATCH)])
    ids = list(samples.ids) if samples.ids else [f"{samples.name}/{i}" for i in range(len(samples))]
    names = [samples.classes[label] if label >= 0 else None for label in samples.labels.tolist()]
    fresh = not Path(store).exists()
    try:
        memory = Memory.open(store, vectors.shape[1])
        memory.upsert(ids, vectors, [{"label": name, "data": samples.name} for name in names])
    except BaseException:
        if fresh:  # a store that was never filled is not left behind
            shutil.rmtree(store, ignore_errors=True)
        raise
    return len(ids)


def search(
    store: str | Path, query: str, k: int = 10, where: str | None = None, artifact: Artifact | None = None
) -> Hits:
    """The nearest stored samples to a stored id, or to a picture that `artifact` embeds."""
    memory = Memory.open(store)
    found: list[dict[str, Any] | None] = memory.get([query])
    if found[0] is None and query.lstrip("-").isdigit():
        found = memory.get([int(query)])
    if found[0] is not None:
        return memory.search(found[0]["vector"], k, where)
    path = Path(query)
    if path.suffix.lower() in PICTURES and path.is_file():
        if artifact is None:
            raise ValueError(f"{query} is a picture; say with which checkpoint it is to be embedded (--with).")
        image = torch.from_numpy(open_image(path).transpose(2, 0, 1).copy()).float()[None] / 255
        return memory.search(represent(artifact, image), k, where)
    raise ValueError(f"{query!r} is neither an id of the store {store} nor a picture.")
