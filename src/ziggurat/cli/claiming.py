"""`ziggurat claim`: measure what a paper claims."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ziggurat.cli.options import Device, Json, Out, Quiet, note, resolve_device, say, say_json, table


def claim(
    papers: Annotated[list[str] | None, typer.Argument(help="Ids of papers, such as sgc.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every experiment that has no current record.")] = False,
    scale: Annotated[
        str, typer.Option(help="quick: the experiment of the ledger; full: the paper's own size.")
    ] = "quick",
    seeds: Annotated[
        str | None, typer.Option(help="A trial on these seeds, such as 100,101,102; the ledger stays as it is.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure seeds again that an earlier run has kept.")] = False,
    device: Device = "cpu",
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a paper's central claim again and write it into the ledger. Interrupted runs go on where they were."""
    from ziggurat.catalogue import row
    from ziggurat.claims.ledger import ledger_folder
    from ziggurat.claims.measuring import experiment, measure

    if scale not in ("quick", "full"):
        raise ValueError(f"--scale must be quick or full, got {scale!r}.")
    if bool(papers) == all_:
        raise ValueError("name at least one paper (`ziggurat list --has claim` shows them), or --all.")
    trial = None if seeds is None else parse_seeds(seeds)
    device = resolve_device(device)
    chosen = unmeasured() if all_ else [identifier(name) for name in papers or ()]
    for name in chosen:
        experiment(name)  # a mistake in the last name is named before the first is measured
    records, failures = [], []
    for name in chosen:
        note(f"{name}: {row(name)['title']}", quiet)
        try:
            record = measure(name, scale, device, trial, quiet, out, fresh)  # type: ignore[arg-type]
        except (ValueError, FileNotFoundError) as error:
            if len(chosen) == 1:
                raise
            note(f"{name}: {error}")
            failures.append(name)
            continue
        records.append(record)
        if not json:
            show_record(record)
            if trial is None:
                say(f"record: {(out or ledger_folder()) / f'{name}.json'}")
        advise(record, trial is not None, quiet)
    if json:
        say_json(records)
    elif not chosen:
        say("Every experiment has a current record.")
    if failures:
        raise ValueError(f"{len(failures)} of {len(chosen)} claims could not be measured: {', '.join(failures)}.")


def identifier(name: str) -> str:
    """The id of the paper that a name belongs to."""
    from ziggurat.catalogue import owner

    return owner(name)


def unmeasured() -> list[str]:
    """Papers with an experiment whose record is missing or stale."""
    from ziggurat.catalogue import rows
    from ziggurat.claims.ledger import read
    from ziggurat.claims.sources import has_experiment, stale

    return [name for name in rows() if has_experiment(name) and ((record := read(name)) is None or stale(record))]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds written with commas between them."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 0 or len(set(found)) < len(found):
        raise ValueError(
            f"--seeds takes different numbers with commas between them, such as 100,101,102; got {text!r}."
        )
    return found


def show_record(record: dict[str, Any]) -> None:
    """The clauses of a record as a table, the paper's numbers beside ours, and the verdict."""
    rows = [
        [
            clause["name"],
            f"{number(clause['mean'])} ± {number(clause['spread'], 2)} {clause['unit']}".strip(),
            str(len(clause["values"])),
            f"{clause['sense']} {clause['criterion']:g}",
            clause["verdict"],
        ]
        for clause in record["clauses"]
    ]
    table(record["title"], ["measurement", "mean ± spread", "seeds", "criterion", "verdict"], rows)
    for line in record.get("beside", ()):
        say(
            f"{line['measurement']}: published {line['published']:g}, here {number(line['ours'])} ± {number(line['spread'], 2)}"
        )
    for floor in record["floors"]:
        if not floor["met"]:
            say(f"{floor['name']} is below its floor of {floor['minimum']:g}: nothing can be concluded.")
    why = f" ({record['why']['reason']}: {record['why']['explanation']})" if record["why"] else ""
    for name, value in record["support"].items():
        say(f"in support of the reason: {name} = {number(value)}")
    say(f"{record['id']}: {record['verdict']}{why}, measured on {record['date']} in {record['minutes']:g} minutes.")


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, as far as it means something; a value that was not finite is kept as null."""
    return "not finite" if value is None else f"{value:.{digits}g}"


def advise(record: dict[str, Any], trial: bool, quiet: bool) -> None:
    """What remains to be done, on stderr."""
    if any(clause["verdict"] == "unjudged" for clause in record["clauses"]):
        note(f"Seconds are unjudged: {record['load']} Measure again with --fresh when the machine is quiet.", quiet)
    if not trial and record["verdict"] != "holds" and record["why"] is None:
        note(
            "The claim did not hold: set `why` in its notes, let `support(run)` measure what speaks for that reason, and run this "
            "again; the seeds are kept.",
            quiet,
        )
