import math

import pytest

from tests.typecheck import value_error
from ziggurat.architect.coordinate_expansion import enlarge, expand

AXES = {"a": lambda p, by: (p[0] * by, p[1]), "b": lambda p, by: (p[0], p[1] * by)}


def area(point):
    return point[0] * point[1] ** 2


def test_each_step_goes_along_the_best_axis_and_multiplies_the_cost():
    trained = []

    def score(point):
        trained.append(point)
        return -abs(math.log(point[0] / 4)) - abs(math.log(point[1] / 2))

    steps = expand((1.0, 1.0), AXES, score, area, target=16.0)
    assert [step.best.axis for step in steps] == ["a", "a", "b", "b"] and len(trained) == 8
    assert steps[-1].best.point == pytest.approx((4.0, 2.0))
    for i, step in enumerate(steps):
        assert all(c.cost == pytest.approx(2.0 ** (i + 1)) for c in step.candidates)
        assert step.best.score == max(c.score for c in step.candidates)


def test_only_one_axis_differs_between_a_step_and_the_next():
    steps = expand((1.0, 1.0), AXES, lambda p: p[1] - p[0], area, target=8.0)
    before = (1.0, 1.0)
    for step in steps:
        for candidate in step.candidates:
            assert sum(x != y for x, y in zip(before, candidate.point, strict=True)) == 1
        before = step.best.point


def test_the_last_step_is_taken_back_to_the_target():
    steps = expand((1.0, 1.0), AXES, lambda p: p[0], area, target=6.0)
    assert steps[-1].best.point == pytest.approx((6.0, 1.0), rel=1e-4) and steps[-1].best.cost <= 6.0
    assert max(c.cost for c in steps[-1].candidates) == pytest.approx(8.0)


def test_rounded_axes_take_the_nearest_cost():
    def cost(point):
        return float(round(point))

    def grow(point, by):
        return point * by

    assert cost(enlarge(3.0, grow, cost, 7.4)) == 7
    assert cost(enlarge(3.0, grow, cost, 7.6)) == 8
    assert cost(enlarge(3.0, grow, cost, 7.6, below=True)) == 7


def test_an_axis_that_cannot_move_is_left_out_of_a_step():
    axes = {**AXES, "coarse": lambda p, by: (p[0] * (64 if by >= 64 else 1), p[1])}
    steps = expand((1.0, 1.0), axes, lambda p: p[0], area, target=2.0)
    assert [c.axis for c in steps[0].candidates] == ["a", "b"]


def test_mistakes_are_named():
    def same(point, by):
        return point

    with value_error("leave the axis out"):
        expand((1.0, 1.0), {"none": same}, area, area, target=4.0)
    with value_error("the start already costs 1"):
        expand((1.0, 1.0), AXES, area, area, target=1.0)
    with value_error("growth must be above 1"):
        expand((1.0, 1.0), AXES, area, area, target=4.0, growth=1.0)
    with value_error("at least one axis"):
        expand((1.0, 1.0), {}, area, area, target=4.0)
    with value_error("no axis can be enlarged"):
        expand((1.0, 1.0), {"coarse": lambda p, by: (p[0] * (64 if by >= 64 else 1), p[1])}, area, area, target=4.0)
