"""A comparison as one self-contained HTML page: table, picture, learning curves, and what to do next."""

from __future__ import annotations

import base64
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from ziggurat.data.sources import write_atomically
from ziggurat.report.figures import as_bytes, pyplot
from ziggurat.workflows.comparing import Comparison

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def picture(figure: Any) -> str:
    """A matplotlib figure as the address of an inline PNG."""
    return "data:image/png;base64," + base64.b64encode(as_bytes(figure)).decode()


def accuracy_figure(result: Comparison) -> Any:
    """Accuracy of every training, methods below each other, the best on top."""
    methods = list(result.table["method"])[::-1]
    figure, axis = pyplot().subplots(figsize=(7, 1.2 + 0.45 * len(methods)), layout="constrained")
    for row, method in enumerate(methods):
        values = [o.accuracy for o in result.outcomes if o.method == method and not o.error]
        colour = PALETTE[(len(methods) - 1 - row) % len(PALETTE)]
        axis.plot(values, [row] * len(values), "o", color=colour, alpha=0.6)
        if values:
            axis.plot([sum(values) / len(values)], [row], "|", color=colour, markersize=22, markeredgewidth=3)
    axis.set_yticks(range(len(methods)), methods)
    axis.set_ylim(-0.6, len(methods) - 0.4)
    axis.set_xlabel(f"{result.measures[0]} on the test part")
    axis.grid(axis="x", alpha=0.3)
    return figure


def curves_figure(result: Comparison) -> Any:
    """Training loss of every method by the fraction of its run, one line a seed."""
    figure, axis = pyplot().subplots(figsize=(7, 3.2), layout="constrained")
    for i, method in enumerate(result.table["method"]):
        for k, outcome in enumerate(o for o in result.outcomes if o.method == method and o.curve):
            points = [(step / outcome.steps, loss) for step, loss in outcome.curve]
            label = method if k == 0 else None
            axis.plot(*zip(*points, strict=True), color=PALETTE[i % len(PALETTE)], alpha=0.7, lw=1.2, label=label)
    axis.set_xlabel("fraction of the run")
    axis.set_ylabel("training loss")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def number(value: float, digits: int = 1) -> str:
    """A number for people; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == ' k' else size):.{digits}f}{unit}"
    return f"{value:.{digits}f}" if value != int(value) else f"{int(value)}"


def write_page(result: Comparison) -> Path:
    """Writes `index.html` into the folder of the comparison and returns its path."""
    template = jinja2.Environment(autoescape=True).from_string(
        files("ziggurat.report").joinpath("comparison.html").read_text(encoding="utf-8")
    )
    rows = [
        {
            "method": row["method"],
            "accuracy": "–"
            if math.isnan(row["accuracy_mean"])
            else f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}",
            "f1": "–" if math.isnan(row["macro_f1_mean"]) else f"{100 * row['macro_f1_mean']:.1f}",
            "parameters": number(row["parameters"]),
            "macs": number(row["macs"]),
            "seconds": number(row["train_seconds"]),
            "memory": number(row["peak_memory_mb"], 0),
            "speed": number(row["inference_per_second"], 0),
            "steps": number(row["steps"], 0),
            "score": row["score"],
            "error": row["error"],
        }
        for row in result.table.to_dict("records")
    ]
    page = template.render(
        data=result.data,
        budget=str(result.budget),
        seeds=max((sum(o.method == row["method"] for o in result.outcomes) for row in rows), default=0),
        rows=rows,
        notes=result.notes,
        warnings=result.warnings,
        measures=result.measures,
        best=result.best,
        accuracy=picture(accuracy_figure(result)),
        curves=picture(curves_figure(result)),
    )
    path = result.folder / "index.html"
    write_atomically(path, page.encode())
    return path
