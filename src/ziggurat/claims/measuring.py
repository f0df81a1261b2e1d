"""Measuring a claim: seeds 0 to 2, then two more and three more while the verdict is open; then the record and its picture."""

from __future__ import annotations

import importlib
import io
import shutil
from pathlib import Path
from typing import Any, Literal

from ziggurat.catalogue import row
from ziggurat.claims import ledger
from ziggurat.claims.notes import Notes
from ziggurat.claims.record import make_record
from ziggurat.claims.run import Run
from ziggurat.claims.sources import claim_module, has_experiment, own_key, sources
from ziggurat.data.sources import write_atomically
from ziggurat.metrics.finding import Finding, straddles, verdict

ROUNDS = ((0, 1, 2), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5, 6, 7))
# blue, orange, pink and grey that colour-blind people tell apart
COLOURS = {"holds": "#0072B2", "fails": "#D55E00", "straddles": "#CC79A7", "unjudged": "#666666"}


def experiment(name: str) -> Any:
    """The module of a paper's experiment."""
    if not has_experiment(name):
        raise ValueError(f"{name} has no experiment; `ziggurat list --has claim` lists those that have one.")
    return importlib.import_module(claim_module(name))


def measure(
    name: str,
    scale: Literal["quick", "full"] = "quick",
    device: str = "cpu",
    seeds: tuple[int, ...] | None = None,
    quiet: bool = False,
    out: Path | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Runs the experiment of a paper and writes its record; a run that was interrupted goes on where it was.

    Arguments:
        name: id of the paper.
        scale: "quick" is the experiment of the ledger, "full" the paper's own size where the claim has one.
        device: where to train.
        seeds: None is the rule of the ledger. Given seeds (a pilot takes some from 100 on) are measured as they are, without
            more of them, and do not go into the ledger.
        quiet: no progress on stderr.
        out: a folder for the record and its pictures instead of the ledger.
        fresh: measure kept seeds again, for instance because the machine was busy when they were.

    Returns the record.
    """
    if seeds is not None and not seeds:
        raise ValueError("seeds must name at least one seed.")
    module = experiment(name)
    before = sources(name)
    run = Run(name, own_key(name, scale, device), scale=scale, device=device, quiet=quiet)
    if fresh:
        shutil.rmtree(run.folder / run.key, ignore_errors=True)
    for chosen in ROUNDS if seeds is None else (seeds,):
        run.seeds, run.load, run.plots = chosen, None, {}
        finding: Finding = module.measure(run)
        if not straddles(finding, run.load is None):
            break
    notes: Notes = module.notes
    support: dict[str, float] = {}
    if verdict(finding, run.load is None) != "holds" and hasattr(module, "support"):
        support = {key: float(value) for key, value in module.support(run).items()}
    title = row(name)["title"]
    draw(finding, title, run.plot_path("clauses"), run.load is None)
    record = make_record(run, title, finding, notes, module.published, support, before)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for picture in run.plots.values():
            shutil.copy(picture, out / f"{name}-{picture.name}")
    if out is not None or seeds is None:
        ledger.write(record, out)
    return record


def draw(finding: Finding, title: str, path: Path, judge_seconds: bool = True) -> None:
    """Each clause as its values by seed (dots), the interval of their mean (bar) and the criterion (dashed line)."""
    from matplotlib.figure import Figure

    count = len(finding.clauses)
    figure = Figure(figsize=(7, 1 + 0.9 * count), layout="constrained")
    for axis, clause in zip(figure.subplots(count, 1, squeeze=False)[:, 0], finding.clauses, strict=True):
        outcome = clause.verdict(judge_seconds)
        colour = COLOURS[outcome]
        if clause.kind != "exact" and len(clause.values) > 1:
            sign = -1 if clause.sense == "<=" else 1
            ends = [clause.criterion + sign * end for end in clause.interval()]
            axis.plot(ends, [0, 0], color=colour, lw=6, alpha=0.4, solid_capstyle="butt")
        axis.plot(clause.values, [0] * len(clause.values), "o", color=colour)
        axis.axvline(clause.criterion, color="#666666", ls="--")
        axis.set_yticks([])
        unit = f" ({clause.unit})" if clause.unit else ""
        axis.set_title(f"{clause.name}{unit}, {clause.sense} {clause.criterion:g}: {outcome}", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=10, wrap=True)
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    write_atomically(path, content.getvalue())
