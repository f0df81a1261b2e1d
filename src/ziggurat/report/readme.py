"""The ledger in README.md and on the page of taxonomies, made from catalogue and records: `python -m ziggurat.report.readme`."""

from __future__ import annotations

from pathlib import Path

from ziggurat import catalogue
from ziggurat.claims.ledger import ledger_folder, read
from ziggurat.claims.sources import stale
from ziggurat.report import taxonomies

BEGIN = "<!-- ledger: made by `python -m ziggurat.report.readme` -->"
END = "<!-- /ledger -->"


def ledger_table() -> str:
    """One row a paper: what it is called here, where its code is, and whether its claim holds."""
    lines = ["| paper | code | claim | measured |", "|---|---|---|---|"]
    for name, row in catalogue.rows().items():
        module = row["symbols"][0].rpartition(".")[0]
        record = read(name)
        verdict = "not measured" if record is None else record["verdict"] + (" (stale)" if stale(record) else "")
        file = f"src/{module.replace('.', '/')}.py"
        lines.append(
            f"| [{name}](https://arxiv.org/abs/{row['arxiv']}) {row['title']} | `{file}` | {verdict} | {record['date'] if record else ''} |"
        )
    return "\n".join(lines)


def updated(text: str) -> str:
    """The README with a fresh table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{ledger_table()}\n{END}{after}"


def main() -> None:
    """Rewrites the table in the checkout's README, and `docs/taxonomies.md`."""
    path = Path(ledger_folder().parent, "README.md")
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
    taxonomies.main()


if __name__ == "__main__":
    main()
