"""`embed` and `search`: a memory of embeddings in a folder, or on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ziggurat.cli.options import Device, Json, Quiet, Seed, note, resolve_device, say, say_json, table


def embed(
    data: Annotated[str, typer.Argument(help="A data set's name or path.")],
    store: Annotated[
        str, typer.Option(help="Folder of the memory, or postgresql://USER@HOST/DATABASE; made when it is not there.")
    ],
    with_: Annotated[Path | None, typer.Option("--with", help="A checkpoint made by train or compare.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Or an embedding of nodes, such as node2vec:dimensions=64.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this published part.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the representation of every sample, or of every node of a graph, into a memory that can be searched."""
    from ziggurat.memory.opening import shown, there_is_store
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.embedding import embed as fill
    from ziggurat.workflows.embedding import embed_by

    if (with_ is None) == (method is None):
        raise ValueError("give either a checkpoint (--with) or an embedding of nodes (--method).")
    there_is_store(store)  # a server that cannot be reached is a mistake now, and not when everything is embedded
    if method is not None:
        if split is not None:
            raise ValueError("a graph is embedded whole; leave --split out.")
        count, what = embed_by(method, data, store, seed), "nodes"
    else:
        assert with_ is not None
        artifact = load_artifact(with_)
        artifact.learner.to(resolve_device(device))
        count, what = fill(artifact, data, store, split), "nodes" if artifact.shape.kind == "graph" else "samples"
    if json:
        say_json({"embedded": count, "store": shown(store)})
        return
    say(f"{count:,} {what} of {data} are in {shown(store)}")
    note(f"search them with: ziggurat search {shown(store)} ID --where \"label = '…'\"", quiet)


def search(
    store: Annotated[str, typer.Argument(help="Folder of a memory, or its postgresql:// URL.")],
    query: Annotated[str, typer.Argument(help="The id of a stored sample, or a picture.")],
    where: Annotated[str | None, typer.Option(help="Filter, such as: label = 'shirt' and year >= 2020.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    with_: Annotated[Path | None, typer.Option("--with", help="The checkpoint that embeds a picture.")] = None,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the nearest samples in a memory, of those that a filter selects."""
    from ziggurat.memory.opening import shown, there_is_store
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.embedding import search as find

    device = resolve_device(device)
    if not there_is_store(store):
        raise ValueError(
            f"there is no store at {shown(store)}; `ziggurat embed DATA --with CHECKPOINT --store {shown(store)}` makes one."
        )
    artifact = load_artifact(with_) if with_ else None
    if artifact is not None:
        artifact.learner.to(device)
    hits = find(store, query, k, where, artifact)
    rows = list(zip(hits.ids[0], hits.distances[0].tolist(), hits.metadata[0], strict=True))
    if json:
        say_json([{"id": i, "distance": d, "metadata": m} for i, d, m in rows])
        return
    fields = sorted({key for _, _, m in rows for key in m})
    table(
        shown(store),
        ["id", "distance", *fields],
        [[str(i), f"{d:.4f}", *(str(m.get(f, "")) for f in fields)] for i, d, m in rows],
    )
