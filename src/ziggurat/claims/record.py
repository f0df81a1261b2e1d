"""The ledger: one JSON file for each measured claim, made by the command and never edited by hand."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.claims.sources import sources
from ziggurat.data.sources import write_atomically
from ziggurat.metrics.finding import Clause, Finding, verdict


def ledger_folder() -> Path:
    """$ZIGGURAT_LEDGER, else the `ledger` folder of the checkout this package is installed from, else ./ledger."""
    if os.environ.get("ZIGGURAT_LEDGER"):
        return Path(os.environ["ZIGGURAT_LEDGER"])
    checkout = Path(__file__).resolve().parents[3] / "ledger"
    return checkout if checkout.is_dir() else Path("ledger")


def environment() -> dict[str, Any]:
    """What the numbers may depend on, and nothing that names a person or a machine."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def clause_record(clause: Clause, judge_seconds: bool) -> dict[str, Any]:
    """A clause as it stands in the record."""
    low, high = clause.interval()
    exact = clause.kind == "exact"
    return {
        "name": clause.name,
        "kind": clause.kind,
        "values": list(clause.values),
        "mean": clause.mean,
        "spread": clause.spread,
        "sense": clause.sense,
        "criterion": clause.criterion,
        "unit": clause.unit,
        "margin_interval_80": None if exact or len(clause.values) < 2 else [low, high],
        "verdict": clause.verdict(judge_seconds),
    }


def make_record(
    run: Run,
    title: str,
    finding: Finding,
    notes: Notes,
    published: dict[int, Any],
    load: str | None,
    support: dict[str, float],
) -> dict[str, Any]:
    """Everything that the ledger keeps of one measurement."""
    judge_seconds = load is None
    outcome = verdict(finding, judge_seconds)
    return {
        "id": run.id,
        "title": title,
        "verdict": outcome,
        "clauses": [clause_record(clause, judge_seconds) for clause in finding.clauses],
        "floors": [
            {"name": f.name, "values": list(f.values), "minimum": f.minimum, "met": f.met} for f in finding.floors
        ],
        "seeds": list(run.seeds),
        "scale": run.scale,
        "measurements": {name: [float(v) for v in values] for name, values in finding.measurements.items()},
        "extra": dict(finding.extra),
        "published": {str(position): value for position, value in published.items()},
        "scope": notes.scope,
        "methodology": notes.methodology,
        "origin": notes.origin,
        "easy": notes.easy,
        "hard": notes.hard,
        "why": None
        if outcome == "holds" or notes.why is None
        else {"reason": notes.why[0], "explanation": notes.why[1]},
        "support": support,
        "load": load or "quiet",
        "date": datetime.date.today().isoformat(),
        "minutes": round(run.minutes, 2),
        "environment": environment(),
        "sources": sources(run.id),
    }


def write(record: dict[str, Any]) -> Path:
    """Puts a record into the ledger."""
    path = ledger_folder() / f"{record['id']}.json"
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def read(name: str) -> dict[str, Any] | None:
    """The record of a claim, or None where it was not measured."""
    path = ledger_folder() / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None
