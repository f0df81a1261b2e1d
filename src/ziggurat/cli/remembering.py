"""`embed` and `search`: a memory of embeddings in a folder, or on a PostgreSQL server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ziggurat.cli.options import Device, Json, Quiet, Seed, note, resolve_device, say, say_json, table


def embed(
    data: Annotated[str, typer.Argument(help="A data set's name or path.")],
    store: Annotated[
        str, typer.Option(help="Folder of the memory, or postgresql://USER@HOST/DATABASE; made when it is not there.")
    ],
    with_: Annotated[
        Path | None, typer.Option("--with", help="A checkpoint made by train or compare, or efficientnet_lite0.")
    ] = None,
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
    from ziggurat.data.loading import names
    from ziggurat.memory.opening import shown, there_is_store
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.embedding import embed as fill
    from ziggurat.workflows.embedding import embed_by

    if (with_ is None) == (method is None):
        raise ValueError(
            "give either a checkpoint (--with; efficientnet_lite0 needs no training), or for a graph an embedding of nodes (--method)."
        )
    there_is_store(store)  # a server that cannot be reached is a mistake now, and not when everything is embedded
    if method is not None:
        if split is not None:
            raise ValueError("a graph is embedded whole; leave --split out.")
        count, what = embed_by(method, data, store, seed), "nodes"
    else:
        assert with_ is not None
        artifact = load_artifact(with_)
        artifact.learner.to(resolve_device(device))
        count = fill(artifact, data, store, split)
        what = "nodes" if artifact.shape.kind == "graph" else "samples"
    if json:
        say_json({"embedded": count, "store": shown(store)})
        return
    say(f"{count:,} {what} of {data} are in {shown(store)}")
    place = shlex.quote(shown(store))
    note(f"some of them, with what can be filtered: ziggurat search {place}", quiet)
    if what == "samples":
        own = "" if data in names() else f" --images {shlex.quote(data)}"
        note(f"all of them in a browser: ziggurat serve {place} --with {shlex.quote(str(with_))}{own}", quiet)


def search(
    store: Annotated[str, typer.Argument(help="Folder of a memory, or its postgresql:// URL.")],
    query: Annotated[
        str | None,
        typer.Argument(help="The id of a stored sample, or a picture; without one, what the filter selects."),
    ] = None,
    where: Annotated[str | None, typer.Option(help="Filter, such as: label = 'shirt' and year >= 2020.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    with_: Annotated[
        Path | None, typer.Option("--with", help="What embeds a picture: the checkpoint, or efficientnet_lite0.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the filter was searched, and why.")] = False,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the nearest samples in a memory, of those that a filter selects; or without a query, see what it selects."""
    from ziggurat.memory.opening import shown, there_is_store
    from ziggurat.workflows.editing import examples

    device = resolve_device(device)
    if not there_is_store(store):
        raise ValueError(
            f"there is no store at {shown(store)}; `ziggurat embed DATA --with CHECKPOINT --store {shown(store)}` makes one."
        )
    if query is None:
        some, count = examples(store, where, k)
        if json:
            say_json({"count": count, "examples": some})
            return
        fields = ["id", *in_order({field for row in some for field in row} - {"id"})]
        table(shown(store), fields, [[cell(row.get(field)) for field in fields] for row in some])
        note(
            f"{len(some):,} of {count:,}; -k shows more, `ziggurat search {shlex.quote(shown(store))} ID` what is near one",
            quiet,
        )
        return
    from ziggurat.workflows.artifact import load_artifact
    from ziggurat.workflows.embedding import search as find

    artifact = load_artifact(with_) if with_ else None
    if artifact is not None:
        artifact.learner.to(device)
    hits = find(store, query, k, where, artifact)
    if explain:
        note(str(hits.plan), quiet)
    rows = list(zip(hits.ids[0], hits.distances[0].tolist(), hits.metadata[0], strict=True))
    if json:
        say_json([{"id": i, "distance": d, "metadata": m} for i, d, m in rows])
        return
    fields = in_order({key for _, _, m in rows for key in m})
    table(
        shown(store),
        ["id", "distance", *fields],
        [[str(i), f"{d:.4f}", *(cell(m.get(f)) for f in fields)] for i, d, m in rows],
    )


def in_order(fields: set[str]) -> list[str]:
    """The fields of a table: the label matters most, the name of the data set least."""
    return sorted(fields, key=lambda field: ({"label": -1, "data": 1}.get(field, 0), field))


def cell(value: object) -> str:
    """A value of the metadata as a table shows it."""
    return "" if value is None else str(value)
