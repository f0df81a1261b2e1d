"""What a paper compares along depth, width or cost: one line a method, from the measurements of its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ziggurat.report.comparison import PALETTE
from ziggurat.report.figures import pyplot, write

SUFFIXES = (".png", ".svg", ".pdf")


def curve_points(curve: dict[str, Any], record: dict[str, Any]) -> dict[str, list[tuple[float, list[float]]]]:
    """(x, one y a seed) of each line, by rising x.

    Arguments:
        curve: the table `curve` of a row of the catalogue; each line is a list of [x, measurement], where x is a number or the
            name of another measurement (the mean over the seeds is taken).
        record: of the ledger.
    """
    measured = record["measurements"]

    def place(x: float | str) -> float:
        return float(np.mean(measured[x])) if isinstance(x, str) else float(x)

    return {
        name: sorted((place(x), [float(v) for v in measured[y]]) for x, y in points)
        for name, points in curve["lines"].items()
    }


def draw_curve(curve: dict[str, Any], record: dict[str, Any], path: Path) -> Path:
    """Draws the lines, a dot for each seed and the mean as a line, into a PNG, SVG or PDF."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in one of {', '.join(SUFFIXES)}.")
    figure, axis = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for (name, points), colour in zip(curve_points(curve, record).items(), PALETTE, strict=False):
        places = [x for x, _ in points]
        axis.plot(places, [np.mean(values) for _, values in points], "-", color=colour, label=name)
        for x, values in points:
            axis.plot([x] * len(values), values, "o", color=colour, alpha=0.5, markersize=5)
    if curve.get("log"):
        axis.set_xscale("log")
        axis.set_xticks(places, [f"{x:,.0f}" for x in places])
        axis.minorticks_off()
    axis.set_xlabel(curve["x"])
    axis.set_ylabel(curve["y"])
    axis.set_title(record["title"], fontsize=9, wrap=True)
    axis.grid(alpha=0.3)
    axis.legend()
    write(figure, path)
    return path
