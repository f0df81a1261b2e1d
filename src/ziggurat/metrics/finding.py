"""What an experiment found, and the rule by which it is judged.

A clause compares one value a seed with a criterion that was fixed before. Its margins are paired by seed; the two-sided
80 % t interval of their mean decides: the clause holds when the whole interval is on the right side, fails when it is on
the wrong one, and else straddles. Fewer than three seeds settle nothing. Counts, equalities and bytes are decided exactly.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["holds", "fails", "inconclusive"]
ClauseVerdict = Literal["holds", "fails", "straddles", "unjudged"]
CONFIDENCE = 0.80
FEWEST_SEEDS = 3
ROUNDING = 1e-12
Values = Sequence[float] | np.ndarray


def _numbers(name: str, values: Values | float) -> tuple[float, ...]:
    array = np.atleast_1d(np.asarray(values, dtype=float))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name!r} needs one number a seed, got an array of shape {array.shape}; reduce it first.")
    return tuple(float(v) for v in array)


@dataclass(frozen=True)
class Clause:
    """One condition of a claim.

    Arguments:
        name: what is compared, for people.
        values: one number a seed.
        sense: ">=", "<=" or "==".
        criterion: what the values are compared with.
        kind: "paired" is judged by the interval; "exact" at every seed; "seconds" by the interval, and only on a quiet machine.
        unit: of the values.
    """

    name: str
    values: tuple[float, ...]
    sense: Literal[">=", "<=", "=="]
    criterion: float
    kind: Literal["paired", "exact", "seconds"] = "paired"
    unit: str = ""

    @property
    def margins(self) -> np.ndarray:
        """How far each value lies on the right side of the criterion; where intervals decide, rounding is no distance."""
        values = np.asarray(self.values)
        difference = values - self.criterion
        if self.kind != "exact":
            difference[np.abs(difference) <= ROUNDING * np.maximum(np.abs(values), abs(self.criterion))] = 0.0
        return -difference if self.sense == "<=" else difference

    @property
    def finite(self) -> bool:
        return all(math.isfinite(value) for value in self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; 0 for one seed, not a number where a value is not finite."""
        if not self.finite:
            return math.nan
        return float(np.std(self.values, ddof=1)) if len(set(self.values)) > 1 else 0.0

    def interval(self) -> tuple[float, float]:
        """Two-sided 80 % t interval of the mean margin; a point where all margins are equal.

        It is the whole line for one seed, and where a value is not finite.
        """
        margins = self.margins
        n = len(margins)
        if n < 2 or not self.finite:
            return (-math.inf, math.inf)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * margins.std(ddof=1) / math.sqrt(n)
        return (float(margins.mean() - half), float(margins.mean() + half))

    def verdict(self, judge_seconds: bool = True) -> ClauseVerdict:
        """Whether the clause holds, fails, straddles, or could not be judged."""
        if not self.finite:
            return "fails"
        if self.kind == "seconds" and not judge_seconds:
            return "unjudged"
        if self.kind == "exact":
            right = (self.margins == 0) if self.sense == "==" else (self.margins >= 0)
            return "holds" if right.all() else "fails"
        if len(self.values) < FEWEST_SEEDS:
            return "straddles"
        low, high = self.interval()
        return "holds" if low >= 0 else "fails" if high < 0 else "straddles"


def at_least(name: str, values: Values, criterion: float, unit: str = "") -> Clause:
    """The mean of the values is at least the criterion, judged by the interval."""
    return Clause(name, _numbers(name, values), ">=", criterion, unit=unit)


def at_most(name: str, values: Values, criterion: float, unit: str = "") -> Clause:
    """The mean of the values is at most the criterion, judged by the interval."""
    return Clause(name, _numbers(name, values), "<=", criterion, unit=unit)


def exactly(
    name: str, value: Values | float, expected: float, sense: Literal[">=", "<=", "=="] = "==", unit: str = ""
) -> Clause:
    """A count, an equality, bytes or multiply-accumulates, decided without statistics at every seed."""
    return Clause(name, _numbers(name, value), sense, expected, "exact", unit)


def seconds_at_most(name: str, values: Values, criterion: float, unit: str = "s") -> Clause:
    """A time, or a ratio of times, of at most the criterion; counts only when the machine was quiet."""
    return Clause(name, _numbers(name, values), "<=", criterion, "seconds", unit)


@dataclass(frozen=True)
class Floor:
    """What a baseline must reach on its own before a claim over it means anything."""

    name: str
    values: tuple[float, ...]
    minimum: float

    @property
    def met(self) -> bool:
        return float(np.mean(self.values)) >= self.minimum

    @property
    def sentence(self) -> str:
        """Why nothing can be concluded; empty for a floor that was reached."""
        if self.met:
            return ""
        mean = float(np.mean(self.values))
        return f"{self.name} reached {mean:.4g}, below its floor of {self.minimum:g}: nothing can be concluded."


def floor(name: str, values: Values, minimum: float) -> Floor:
    """The mean of the baseline's values reaches `minimum`, a constant fixed from the pilot."""
    return Floor(name, _numbers(name, values), minimum)


@dataclass(frozen=True)
class Finding:
    """The result of an experiment.

    Arguments:
        clauses: all must hold for the claim to hold.
        floors: what the baselines had to reach.
        measurements: everything that was measured, one number a seed, by name.
        published: the paper's value of a measurement, by the measurement's name; shown beside ours.
        plots: pictures that the experiment drew at `run.plot_path(name)`, by name.
        extra: further results that are not numbers by seed (curves, tables).
    """

    clauses: tuple[Clause, ...]
    floors: tuple[Floor, ...] = ()
    measurements: Mapping[str, np.ndarray] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    plots: Mapping[str, Path] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.clauses:
            raise ValueError("a finding needs at least one clause; write what must be true for the claim to hold.")
        unknown = sorted(set(self.published) - set(self.measurements))
        if unknown:
            raise ValueError(
                f"published has {', '.join(unknown)}, which was not measured; measured are {', '.join(self.measurements)}."
            )

    def _repr_html_(self) -> str:
        # no load guard has watched these numbers, so seconds stay unjudged here
        rows = "".join(
            f"<tr><td>{html.escape(c.name)}</td><td>{c.mean:.4g} ± {c.spread:.2g} {html.escape(c.unit)}</td>"
            f"<td>{len(c.values)}</td><td>{html.escape(c.sense)} {c.criterion:.4g}</td>"
            f"<td>{c.verdict(judge_seconds=False)}</td></tr>"
            for c in self.clauses
        )
        titles = ("measurement", "mean ± spread", "seeds", "criterion", "verdict")
        head = "".join(f"<th>{title}</th>" for title in titles)
        below = "".join(f"<p>{html.escape(f.sentence)}</p>" for f in self.floors if not f.met)
        return f"<table><tr>{head}</tr>{rows}</table>{below}<p>{verdict(self, judge_seconds=False)}</p>"


def verdict(finding: Finding, judge_seconds: bool = True) -> Verdict:
    """`holds` when every judged clause holds, `fails` when one fails, else `inconclusive`; so is a baseline below its floor."""
    if not all(f.met for f in finding.floors):
        return "inconclusive"
    verdicts = [clause.verdict(judge_seconds) for clause in finding.clauses]
    if "fails" in verdicts:
        return "fails"
    judged = [v for v in verdicts if v != "unjudged"]
    return "holds" if judged and set(judged) == {"holds"} else "inconclusive"


def straddles(finding: Finding, judge_seconds: bool = True) -> bool:
    """Whether more seeds could settle it: no clause fails and at least one straddles."""
    verdicts = [clause.verdict(judge_seconds) for clause in finding.clauses]
    return "fails" not in verdicts and "straddles" in verdicts
