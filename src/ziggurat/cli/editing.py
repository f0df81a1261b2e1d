"""`edit` and `forget`: changing a memory, and taking from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ziggurat.cli.options import Json, Quiet, say, say_json

Place = Annotated[str, typer.Argument(help="Folder of a memory, or its postgresql:// URL.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of examples.")]
Where = Annotated[str | None, typer.Option(help="Or a filter that selects them, such as: label = 'shirt'.")]


def edit(
    store: Place,
    set_: Annotated[list[str], typer.Option("--set", help="FIELD=VALUE, as often as needed; FIELD= takes it away.")],
    ids: Ids = None,
    where: Where = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Change what a memory knows of some examples, such as their label."""
    from ziggurat.memory.opening import shown
    from ziggurat.workflows.editing import edit as change

    changes = {}
    for pair in set_:
        field, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, such as label=shirt, got {pair!r}.")
        changes[field.strip()] = value.strip()
    check(store)
    count = change(store, changes, ids or (), where)
    if json:
        say_json({"changed": count, "store": shown(store)})
    else:
        say(f"{count:,} {'example' if count == 1 else 'examples'} changed in {shown(store)}")


def forget(store: Place, ids: Ids = None, where: Where = None, json: Json = False, quiet: Quiet = False) -> None:
    """Take examples out of a memory; afterwards it is as if they had never been there."""
    from ziggurat.memory.opening import on_server, shown
    from ziggurat.workflows.editing import forget as remove

    check(store)
    gone = remove(store, ids or (), where)
    if not on_server(store) and any("thumbnail" in metadata for metadata in gone):
        from ziggurat.report.album import Album

        album = Album(Path(store) / "thumbnails")
        for metadata in gone:
            album.forget(metadata)
    if json:
        say_json({"forgotten": len(gone), "store": shown(store)})
    else:
        say(f"{len(gone):,} {'example' if len(gone) == 1 else 'examples'} forgotten in {shown(store)}")


def check(store: str) -> None:
    """A `ValueError` where there is no memory."""
    from ziggurat.memory.opening import shown, there_is_store

    if not there_is_store(store):
        raise ValueError(
            f"there is no store at {shown(store)}; `ziggurat embed DATA --with CHECKPOINT --store {shown(store)}` makes one."
        )
