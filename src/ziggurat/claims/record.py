"""What the ledger keeps of one measurement."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from ziggurat.claims.ledger import plain
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.metrics.finding import Clause, Finding, verdict


def processor() -> str:
    """The model of the processor, as the system names it."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment(device: str = "cpu") -> dict[str, Any]:
    """What the numbers may depend on, and nothing that names a person or a machine."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
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


def beside(finding: Finding) -> list[dict[str, Any]]:
    """The paper's values beside ours."""
    rows = []
    for name, value in finding.published.items():
        ours = np.asarray(finding.measurements[name])
        spread = float(ours.std(ddof=1)) if len(ours) > 1 else 0.0
        rows.append({"measurement": name, "published": value, "ours": float(ours.mean()), "spread": spread})
    return rows


def make_record(
    run: Run,
    title: str,
    finding: Finding,
    notes: Notes,
    published: dict[int, Any],
    support: dict[str, float],
    sources: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """Everything that the ledger keeps of one measurement, as plain JSON values."""
    judge_seconds = run.load is None
    outcome = verdict(finding, judge_seconds)
    why = notes.why if outcome != "holds" else None
    return plain(
        {
            "id": run.id,
            "title": title,
            "verdict": outcome,
            "clauses": [clause_record(clause, judge_seconds) for clause in finding.clauses],
            "floors": [
                {"name": f.name, "values": f.values, "minimum": f.minimum, "met": f.met, "sentence": f.sentence}
                for f in finding.floors
            ],
            "seeds": run.seeds,
            "scale": run.scale,
            "measurements": finding.measurements,
            "extra": finding.extra,
            "published": published,
            "beside": beside(finding),
            "scope": notes.scope,
            "methodology": notes.methodology,
            "origin": notes.origin,
            "easy": notes.easy,
            "hard": notes.hard,
            "why": None if why is None else {"reason": why[0], "explanation": why[1]},
            "support": support,
            "plots": {**run.plots, **finding.plots},
            "load": run.load or "quiet",
            "date": datetime.date.today().isoformat(),
            "minutes": round(run.minutes, 2),
            "environment": environment(run.device),
            "sources": sources,
        }
    )
