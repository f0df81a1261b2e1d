"""`ziggurat list` and `ziggurat show`: what is in the catalogue."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from ziggurat.cli.options import Json, say, say_json, table

HAS = ("staged", "sequential", "strides", "exportable", "claim", "learner", "embedding")


def entry(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What `list --json` says of one paper or baseline."""
    from ziggurat.claims.record import read
    from ziggurat.claims.sources import stale

    record = read(name)
    contracts = {short: table["contract"] for short, table in row["contracts"].items()}
    return {
        "id": name,
        "title": row["title"],
        "family": row.get("family", "baseline"),
        "symbols": row["symbols"],
        "variants": sorted(row.get("variants", {})),
        "contract": sorted(set(contracts.values())),
        "verdict": record["verdict"] if record else None,
        "stale": stale(record) if record else None,
    }


def has(row: dict[str, Any], key: str, name: str) -> bool:
    """Whether a row has a capability."""
    from ziggurat.claims.record import read

    tables = list(row["contracts"].values())
    if key == "claim":
        return read(name) is not None
    if key == "exportable":
        return any(t.get("export") in ("onnx", "torch.export") for t in tables)
    if key in ("sequential", "strides"):
        from ziggurat.catalogue import symbol

        classes = [
            symbol(path) for path in row["symbols"] if row["contracts"][path.rpartition(".")[2]]["contract"] == "staged"
        ]
        wanted = [c for c in classes if c.sequential and (key == "sequential" or c.input == "image")]
        return bool(wanted)
    return any(t["contract"] == key for t in tables)


def ranked(rows: dict[str, dict[str, Any]], query: str) -> list[str]:
    """Ids by TF-IDF similarity of title and idea to the query, the best first; those without any similarity left out."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [f"{name} {row['title']} {row['title']} {row.get('idea', '')}" for name, row in rows.items()]
    vectorizer = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), sublinear_tf=True)
    scores = (vectorizer.fit_transform(texts) @ vectorizer.transform([query]).T).toarray()[:, 0]
    return [name for score, name in sorted(zip(-scores, rows, strict=True)) if score < 0]


def list_(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    search: Annotated[str | None, typer.Option(help="Words to look for in titles and ideas.")] = None,
    has_: Annotated[str | None, typer.Option("--has", help=f"Only what has: {', '.join(HAS)}.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="The baselines instead of the papers.")] = False,
    json: Json = False,
) -> None:
    """List the papers: id, family, verdict of the measured claim, title."""
    from ziggurat import catalogue

    rows = catalogue.baselines() if baselines else catalogue.rows()
    if family is not None:
        families = sorted({row.get("family", "baseline") for row in rows.values()})
        if family not in families:
            raise ValueError(f"there is no family {family!r}; the families are {', '.join(families)}.")
        rows = {name: row for name, row in rows.items() if row.get("family") == family}
    if has_ is not None:
        if has_ not in HAS:
            raise ValueError(f"--has takes one of {', '.join(HAS)}, got {has_!r}.")
        rows = {name: row for name, row in rows.items() if has(row, has_, name)}
    if search is not None:
        rows = {name: rows[name] for name in ranked(rows, search)}
    entries = [entry(name, row) for name, row in rows.items()]
    if json:
        say_json(entries)
        return
    lines = [
        [e["id"], e["family"], (e["verdict"] or "not measured") + (" (stale)" if e["stale"] else ""), e["title"]]
        for e in entries
    ]
    table("ziggurat", ["id", "family", "claim", "title"], lines)


def bibtex(name: str, row: dict[str, Any]) -> str:
    """The paper as a BibTeX entry."""
    authors = " and ".join(row["authors"])
    return (
        f"@article{{{name}{row['year']},\n  title = {{{row['title']}}},\n  author = {{{authors}}},\n"
        f"  year = {{{row['year']}}},\n  journal = {{arXiv:{row['arxiv']}}}\n}}"
    )


def show(
    name: Annotated[str, typer.Argument(help="A paper, a baseline, or one of their variants.")],
    bibtex_: Annotated[bool, typer.Option("--bibtex", help="Only the BibTeX entry.")] = False,
    json: Json = False,
) -> None:
    """Show a paper: its idea, how it is called here, what was measured, and where the code is."""
    from ziggurat import catalogue
    from ziggurat.claims.record import read

    key = catalogue.owner(name)
    row = catalogue.row(name)
    if bibtex_:
        if "authors" not in row:
            raise ValueError(f"{name} is a baseline without an entry of its own; its source stands in its docstring.")
        say(bibtex(key, row))
        return
    record = read(key)
    if json:
        say_json({**entry(key, row), "idea": row.get("idea"), "record": record})
        return
    say(f"{row['title']}\n")
    if "authors" in row:
        say(f"{', '.join(row['authors'])}, {row['year']}, arXiv:{row['arxiv']}\n")
    say(textwrap.fill(row.get("idea", ""), 100) + "\n")
    for path in row["symbols"]:
        module, _, short = path.rpartition(".")
        say(f"  {short:28} {row['contracts'][short]['contract']:10} {module}")
    variants = row.get("variants", {})
    if variants:
        say(f"\n  by name: {', '.join(variants)}")
        say(f'  example: ziggurat.build("{next(iter(variants))}")')
    say("")
    if record:
        from ziggurat.cli.claiming import show_record

        show_record(record)
    elif key in catalogue.rows():
        say(f"Not measured yet: ziggurat claim {key}")
