"""Measuring a claim: seeds 0 to 2, then two more and three more while the verdict is open; then the record and its picture."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

from ziggurat.catalogue import row
from ziggurat.claims import record
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.claims.sources import claim_module, own_key
from ziggurat.metrics.finding import Finding, straddles, verdict
from ziggurat.metrics.load import busy

ROUNDS = ((0, 1, 2), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5, 6, 7))
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def experiment(name: str) -> Any:
    """The module of a paper's experiment."""
    try:
        return importlib.import_module(claim_module(name))
    except ModuleNotFoundError as error:
        if error.name == claim_module(name) or str(error.name).startswith("ziggurat.claims."):
            raise ValueError(
                f"{name} has no experiment; `ziggurat list --has claim` lists those that have one."
            ) from None
        raise


def measure(
    name: str, scale: Literal["quick", "full"] = "quick", device: str = "cpu", quiet: bool = False
) -> dict[str, Any]:
    """Runs the experiment of a paper and writes its record; a run that was interrupted goes on where it was.

    Returns the record.
    """
    module = experiment(name)
    run = Run(name, own_key(name, scale), scale=scale, device=device, quiet=quiet)
    load = busy()
    for seeds in ROUNDS:
        run.seeds, run.plots = seeds, []
        finding: Finding = module.measure(run)
        if not straddles(finding, load is None):
            break
    load = load or busy()
    notes: Notes = module.notes
    support: dict[str, float] = {}
    if verdict(finding, load is None) != "holds" and hasattr(module, "support"):
        support = {key: float(value) for key, value in module.support(run).items()}
    title = row(name)["title"]
    made = record.make_record(run, title, finding, notes, module.published, load, support)
    draw(finding, title, run.folder / "clauses.png")
    record.write(made)
    return made


def draw(finding: Finding, title: str, path: Path) -> None:
    """Each clause as its values (dots), their mean margin's interval (bar) and the criterion (line)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = len(finding.clauses)
    figure, axes = pyplot.subplots(count, 1, figsize=(7, 1 + 0.9 * count), squeeze=False, layout="constrained")
    for axis, clause in zip(axes[:, 0], finding.clauses, strict=True):
        colour = BLUE if clause.verdict() == "holds" else ORANGE
        low, high = clause.interval()
        if clause.kind != "exact" and len(clause.values) > 1:
            sign = -1 if clause.sense == "<=" else 1
            axis.plot(
                [clause.criterion + sign * low, clause.criterion + sign * high], [0, 0], color=colour, lw=5, alpha=0.4
            )
        axis.plot(clause.values, [0] * len(clause.values), "o", color=colour)
        axis.axvline(clause.criterion, color=GREY, ls="--")
        axis.set_yticks([])
        unit = f" ({clause.unit})" if clause.unit else ""
        axis.set_title(
            f"{clause.name}{unit}, {clause.sense} {clause.criterion:g}: {clause.verdict()}", fontsize=9, loc="left"
        )
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
