"""Options that every verb has, and how results and mistakes reach a person."""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, mps, or auto.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=lambda value: hush(value), help="No progress and no warnings on stderr."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for what the command writes.")]


def hush(quiet: bool) -> bool:
    """Lets no warning and no bar through, where that was asked for."""
    if quiet:
        from ziggurat.data.progress import hide

        warnings.simplefilter("ignore")
        hide()
    return quiet


def say(text: str) -> None:
    """A line of the result, on stdout."""
    print(text)


def say_json(value: Any) -> None:
    """The result as JSON, on stdout; a number that is not finite is null, since JSON has no word for it."""
    print(json.dumps(finite(value), indent=1, ensure_ascii=False, default=str, allow_nan=False))


def finite(value: Any) -> Any:
    """The same value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def note(text: str, quiet: bool = False) -> None:
    """A remark on stderr."""
    if not quiet:
        print(text, file=sys.stderr)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout: drawn for a terminal, tab-separated for a pipe."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title)
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)


def resolve_device(device: str) -> str:
    """The device meant by `auto`, or a clear refusal."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device must be cpu, cuda, mps or auto, got {device!r}.")
    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise ValueError(f"there is no {device} device here; use --device cpu, or auto.")
    return device
