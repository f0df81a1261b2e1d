"""`ziggurat list`: what is in the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ziggurat.catalogue import CONTRACTS
from ziggurat.cli.options import Json, Quiet, note, say_json, table

HAS = ("sequential", "strides", "exportable", "claim", "record", *CONTRACTS)


def entry(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What `list --json` says of one paper or baseline."""
    from ziggurat.claims.ledger import read
    from ziggurat.claims.sources import stale

    record = read(name)
    return {
        "id": name,
        "title": row["title"],
        "family": row.get("family", "baseline"),
        "symbols": row["symbols"],
        "variants": sorted(row.get("variants", {})),
        "contract": sorted({table["contract"] for table in row["contracts"].values()}),
        "verdict": record["verdict"] if record else None,
        "stale": stale(record) if record else None,
    }


def has(row: dict[str, Any], key: str, name: str) -> bool:
    """Whether a paper or baseline has a capability; only `sequential` needs to import the networks."""
    from ziggurat.claims.ledger import read
    from ziggurat.claims.sources import has_experiment

    tables = row["contracts"]
    if key == "claim":
        return has_experiment(name)
    if key == "record":
        return read(name) is not None
    if key == "exportable":
        return any(t.get("export") in ("onnx", "torch.export") for t in tables.values())
    if key == "strides":
        return any(t["contract"] == "staged" and t.get("input") == "image" for t in tables.values())
    if key == "sequential":
        from ziggurat.catalogue import symbol

        staged = (path for path in row["symbols"] if tables[path.rpartition(".")[2]]["contract"] == "staged")
        return any(symbol(path).sequential for path in staged)
    return any(t["contract"] == key for t in tables.values())


def words(name: str, row: dict[str, Any]) -> str:
    """The text that a search looks at: the title twice, the idea, and what the experiment says of the claim."""
    import ast

    from ziggurat.claims.ledger import read
    from ziggurat.claims.sources import claim_module, path_of

    path, record = path_of(claim_module(name)), read(name)
    claim = ast.get_docstring(ast.parse(path.read_text())) if path else ""
    clauses = [clause["name"] for clause in record["clauses"]] if record else []
    return " ".join(
        [name, *row.get("variants", {}), row["title"], row["title"], row.get("idea", ""), claim or "", *clauses]
    )


def ranked(rows: dict[str, dict[str, Any]], query: str) -> list[str]:
    """Ids by TF-IDF similarity of titles, ideas and claims to the query, the best first; those without any left out."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", ngram_range=(1, 2), sublinear_tf=True)
    matrix = vectorizer.fit_transform([words(name, row) for name, row in rows.items()])
    scores = (matrix @ vectorizer.transform([query]).T).toarray()[:, 0]
    return [name for score, name in sorted(zip(-scores, rows, strict=True)) if score < 0]


def list_(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    search: Annotated[str | None, typer.Option(help="Words to look for in titles, ideas and claims.")] = None,
    has_: Annotated[str | None, typer.Option("--has", help=f"Only what has: {', '.join(HAS)}.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="The baselines instead of the papers.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the papers: id, family, verdict of the measured claim, title."""
    from ziggurat import catalogue

    rows = catalogue.baselines() if baselines else catalogue.rows()
    if family is not None:
        families = sorted({row.get("family", "baseline") for row in rows.values()})
        if family not in families:
            raise ValueError(f"there is no family {family!r}; the families are {', '.join(families)}.")
        rows = {name: row for name, row in rows.items() if row.get("family", "baseline") == family}
    if has_ is not None:
        if has_ not in HAS:
            raise ValueError(f"--has takes one of {', '.join(HAS)}, got {has_!r}.")
        rows = {name: row for name, row in rows.items() if has(row, has_, name)}
    if search is not None and rows:
        rows = {name: rows[name] for name in ranked(rows, search)}
    entries = [entry(name, row) for name, row in rows.items()]
    if not entries:
        note("Nothing in the catalogue is like that.", quiet)
    if json:
        say_json(entries)
        return
    lines = [
        [e["id"], e["family"], (e["verdict"] or "not measured") + (" (stale)" if e["stale"] else ""), e["title"]]
        for e in entries
    ]
    table("ziggurat", ["id", "family", "claim", "title"], lines)
