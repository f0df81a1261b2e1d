"""Coordinate expansion: a small network grows step by step, each time along the one axis that helps most for its cost.

At each step every axis alone is enlarged until the cost is about γ times what it was; all these candidates are trained, and the best
one is where the next step begins: of six axes and n steps 6n networks are trained, not all their products. A last step that went
beyond the target is taken back along its own axis until the cost fits.

C. Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, 2020, arXiv:2004.04730.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Point = TypeVar("Point")
Grow = Callable[[Point, float], Point]
"""(point, factor above 1) -> the point enlarged by that factor along one axis."""

HALVINGS, LIMIT = 16, 1024.0


@dataclass(frozen=True)
class Candidate(Generic[Point]):
    """A point that was trained: along which axis it was reached, its cost, and its score."""

    axis: str
    point: Point
    cost: float
    score: float


@dataclass(frozen=True)
class Step(Generic[Point]):
    """One step of the expansion: all candidates, and the best one."""

    best: Candidate[Point]
    candidates: tuple[Candidate[Point], ...] = field(repr=False)


def enlarge(point: Point, grow: Grow, cost: Callable[[Point], float], goal: float, below: bool = False) -> Point:
    """The point along one axis whose cost is nearest to `goal`, in proportion; found by bisection of the factor.

    Arguments:
        cost: must not fall along the axis. It may jump, where sizes are rounded.
        below: take the largest cost that is not above the goal instead.
    """
    low, high = 1.0, 2.0
    while cost(grow(point, high)) < goal:
        low, high = high, 2 * high
        if high > LIMIT:
            raise ValueError(
                f"the cost of {point} stays below {goal:g} however far this axis is enlarged; leave the axis out."
            )
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if cost(grow(point, middle)) <= goal else (low, middle)
    under, over = grow(point, low), grow(point, high)
    if below or goal / cost(under) <= cost(over) / goal:
        return under
    return over


def expand(
    start: Point,
    axes: Mapping[str, Grow],
    evaluate: Callable[[Point], float],
    cost: Callable[[Point], float],
    target: float,
    growth: float = 2.0,
    tolerance: float = 0.1,
) -> list[Step[Point]]:
    """Enlarges one axis at a time until the target cost is reached. The last step's `best.point` is the result.

    Arguments:
        start: any description of a small network and its input.
        axes: name -> how a point is enlarged along it.
        evaluate: trains a point and returns its score on validation data, larger is better. Equal scores go to the earlier axis.
        cost: of a point, such as its multiply-accumulates.
        target: cost of the result.
        growth: γ, how many times the cost grows at each step.
        tolerance: how far in proportion the result may lie from the target; a last step that lies above is taken back.
    """
    if growth <= 1:
        raise ValueError(f"growth must be above 1, got {growth:g}.")
    if not axes:
        raise ValueError("axes must name at least one axis to expand along.")
    if cost(start) >= target:
        raise ValueError(f"the start already costs {cost(start):g}, and the target is {target:g}; begin smaller.")
    steps: list[Step[Point]] = []
    point = start
    while cost(point) < target * (1 - tolerance):
        goal = growth * cost(point)
        candidates = []
        for name, grow in axes.items():
            reached = enlarge(point, grow, cost, goal)
            if cost(reached) > cost(point):
                candidates.append(Candidate(name, reached, cost(reached), evaluate(reached)))
        if not candidates:
            raise ValueError(f"no axis can be enlarged to a cost near {goal:g}; take a larger growth than {growth:g}.")
        best = max(candidates, key=lambda candidate: candidate.score)
        if best.cost > target * (1 + tolerance):
            back = enlarge(point, axes[best.axis], cost, target, below=True)
            best = Candidate(best.axis, back, cost(back), evaluate(back))
            steps.append(Step(best, tuple(candidates)))
            break
        steps.append(Step(best, tuple(candidates)))
        point = best.point
    return steps
