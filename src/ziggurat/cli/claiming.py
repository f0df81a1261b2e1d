"""`ziggurat claim`: measure what a paper claims."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ziggurat.cli.options import Device, Json, Quiet, note, resolve_device, say, say_json, table


def claim(
    papers: Annotated[list[str] | None, typer.Argument(help="Ids of papers, such as sgc.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every paper that has no current record.")] = False,
    scale: Annotated[
        str, typer.Option(help="quick: the experiment of the ledger; full: the paper's own size.")
    ] = "quick",
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a paper's central claim again and write it into the ledger. Interrupted runs go on where they were."""
    from ziggurat.catalogue import row, rows
    from ziggurat.claims.measuring import measure
    from ziggurat.claims.record import read
    from ziggurat.claims.sources import stale

    if scale not in ("quick", "full"):
        raise ValueError(f"--scale must be quick or full, got {scale!r}.")
    if not papers and not all_:
        raise ValueError("name at least one paper (`ziggurat list` shows them), or --all.")
    device = resolve_device(device)
    chosen = list(papers or [name for name in rows() if (record := read(name)) is None or stale(record)])
    for name in chosen:
        row(name)
    records = []
    for name in chosen:
        note(f"{name}: {row(name)['title']}", quiet)
        record = measure(name, scale, device, quiet)  # type: ignore[arg-type]
        records.append(record)
        if not json:
            show_record(record)
    if json:
        say_json(records)


def show_record(record: dict[str, Any]) -> None:
    """The clauses of a record as a table, and the verdict."""
    rows = [
        [
            clause["name"],
            f"{clause['mean']:.4g} ± {clause['spread']:.2g} {clause['unit']}".strip(),
            str(len(clause["values"])),
            f"{clause['sense']} {clause['criterion']:g}",
            clause["verdict"],
        ]
        for clause in record["clauses"]
    ]
    table(record["title"], ["measurement", "mean ± spread", "seeds", "criterion", "verdict"], rows)
    for floor in record["floors"]:
        if not floor["met"]:
            say(
                f"The baseline {floor['name']} stayed below its floor of {floor['minimum']:g}: nothing can be concluded."
            )
    why = f" ({record['why']['reason']}: {record['why']['explanation']})" if record["why"] else ""
    say(f"{record['id']}: {record['verdict']}{why}, measured on {record['date']} in {record['minutes']:g} minutes.")
