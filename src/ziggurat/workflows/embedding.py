"""Embedding a whole data set into a memory, and searching it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.data.datasets import Images, Segments
from ziggurat.data.files import choose_size
from ziggurat.data.loading import load
from ziggurat.data.pictures import PICTURES, open_image, resize
from ziggurat.data.progress import counted
from ziggurat.memory.memory import Hits, Memory
from ziggurat.memory.opening import discard_unfilled, on_server, open_store
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.editing import RESERVED, meant
from ziggurat.workflows.methods import make_embedding, parse_method
from ziggurat.workflows.training import loader_for, prepare

BATCH = 256


def represent(artifact: Artifact, images: Tensor) -> np.ndarray:
    """Representations (n, D) of images (n, C, H, W) in [0, 1]."""
    with torch.inference_mode():
        parts = [
            artifact.learner.represent(artifact.prepare(part).to(artifact.learner.device)).flatten(1).cpu()
            for part in images.split(BATCH)
        ]
    return torch.cat(parts).numpy().astype(np.float32)


def names_of(samples: Images | Segments) -> list[str]:
    """What a memory calls each sample: the name of its data set, and its path or number there."""
    return [f"{samples.name}/{name}" for name in samples.ids or range(len(samples))]


def metadata_of(samples: Images | Segments) -> list[dict[str, Any]]:
    """What a memory holds of each sample beside its vector: its label, its data set, and what else is known of it."""
    if isinstance(samples, Segments):
        labels: list[str | None] = [None] * len(samples)
        told: Sequence[Mapping[str, Any]] = [{"group": group} for group in samples.groups]
    else:
        labels = [samples.classes[label] if label >= 0 else None for label in samples.labels.tolist()]
        told = samples.metadata
    told = told or [{}] * len(samples)
    wrong = sorted({field for row in told for field in row} & set(RESERVED))
    if wrong:
        raise ValueError(
            f"{samples.name} has a column {wrong[0]!r}, which is a word of the memory itself; call it otherwise."
        )
    return [{"label": label, "data": samples.name, **row} for label, row in zip(labels, told, strict=True)]


def fill(store: str | Path, ids: list[str], vectors: np.ndarray, metadata: list[dict[str, Any]]) -> int:
    """Puts vectors into the store, a folder or a postgresql:// URL, replacing those that are there.

    A store that was never filled is not left behind.
    """
    fresh = not on_server(store) and not Path(store).exists()  # a server makes and fills a store in one transaction
    try:
        with closing(open_store(store)) as opened:
            opened.upsert(ids, vectors, metadata)
    except BaseException:
        if fresh:
            discard_unfilled(Path(store))
        raise
    return len(ids)


def fill_with_nodes(store: str | Path, graph: Any, vectors: np.ndarray) -> int:
    """Puts one vector a node into the memory at `store`; ids are `name/number`."""
    labels: list[str | None] = [None] * len(vectors)
    if getattr(graph, "y", None) is not None and graph.y.ndim == 1 and not graph.y.is_floating_point():
        labels = [graph.classes[y] if y >= 0 else None for y in graph.y.tolist()]
    metadata = [{"label": label, "data": graph.name} for label in labels]
    return fill(store, [f"{graph.name}/{i}" for i in range(len(vectors))], vectors, metadata)


def embed(artifact: Artifact, data: str | Path, store: str | Path, split: str | None = None) -> int:
    """Puts the representation of every sample, or of every node of a graph, into the memory at `store`, with what is known of it.

    Ids are paths or numbers behind the name of the data. Samples that are there already are replaced. Returns how many were embedded.
    """
    samples = load(data, split)
    kind = getattr(samples, "kind", "")
    if kind != artifact.shape.kind or kind not in ("image", "graph"):
        raise ValueError(
            f"{artifact.method} was trained on {artifact.shape.kind} data, and {data} is not of that kind."
        )
    if kind == "graph":
        prepared = prepare(str(data))
        if prepared.shape.features != artifact.shape.features:
            raise ValueError(
                f"{artifact.method} was trained on {artifact.shape.features} features a node, and {data} has "
                f"{prepared.shape.features}; train it on this graph."
            )
        batch = loader_for(artifact.learner, prepared, artifact.batch_size, artifact.seed).one
        with torch.inference_mode():
            vectors = artifact.learner.represent(*batch.to(artifact.learner.device).inputs).cpu().numpy()
        return fill_with_nodes(store, samples, vectors.astype(np.float32))
    if not isinstance(samples, Images | Segments):
        raise ValueError(f"{data} has pictures of different sizes, for {samples.task}; embed a folder of them instead.")
    metadata = metadata_of(samples)
    parts = counted(torch.arange(len(samples)).split(BATCH), f"embedding {samples.name}")
    vectors = np.concatenate([represent(artifact, centre(samples.inputs(part))) for part in parts])
    return fill(store, names_of(samples), vectors, metadata)


def centre(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C S S"]:
    """The middle square of images, as of the pictures of a folder."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def embed_by(method: str, data: str | Path, store: str | Path, seed: int = 0) -> int:
    """Fits an embedding of nodes, such as `node2vec:dimensions=64`, to a graph and puts every node into the memory at `store`.

    Returns how many nodes were embedded.
    """
    parsed = parse_method(method)
    if parsed.contract != "embedding":
        raise ValueError(
            f"{method} must be trained first; give its checkpoint (--with), or an embedding of nodes such as node2vec "
            "(`ziggurat list --has embedding`)."
        )
    graph = load(data)
    if getattr(graph, "kind", "") != "graph":
        raise ValueError(f"{method} embeds the nodes of a graph, and {data} is none.")
    vectors = np.asarray(make_embedding(parsed, seed).fit(graph).embedding_, np.float32)
    return fill_with_nodes(store, graph, vectors)


def search(
    store: str | Path, query: str, k: int = 10, where: str | None = None, artifact: Artifact | None = None
) -> Hits:
    """The nearest stored samples to a stored id, or to a picture that `artifact` embeds."""
    return find(Memory.open(store), query, k, where, artifact)


def find(memory: Memory, query: str, k: int = 10, where: str | None = None, artifact: Artifact | None = None) -> Hits:
    """The same in a memory that is open."""
    found = [row for row in memory.get(meant(query)) if row is not None]
    if found:
        return memory.search(found[0]["vector"], k, where)
    path = Path(query)
    if path.suffix.lower() in PICTURES and path.is_file():
        if artifact is None:
            raise ValueError(f"{query} is a picture; say with which checkpoint it is to be embedded (--with).")
        picture = open_image(path)
        side = min(choose_size([path]), *picture.shape[:2])  # as in a folder of pictures like this one
        square = resize(picture, side)
        image = torch.from_numpy(square.transpose(2, 0, 1).copy()).float()[None] / 255
        return memory.search(represent(artifact, image), k, where)
    raise ValueError(
        f"{query!r} is neither an id of the store {memory.store.name} nor a picture; `ziggurat search {memory.store.name}` shows "
        "some ids."
    )
