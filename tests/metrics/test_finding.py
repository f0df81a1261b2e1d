import numpy as np
import pytest
from scipy import stats

from tests.typecheck import value_error
from ziggurat.metrics import Finding, at_least, at_most, exactly, floor, seconds_at_most, straddles, verdict


def finding(*clauses, floors=()):
    return Finding(clauses=clauses, floors=floors)


def test_interval_is_the_two_sided_80_percent_t_interval():
    clause = at_least("x", [1.0, 2.0, 4.0], 0.5)
    low, high = stats.t.interval(0.8, 2, loc=np.mean([0.5, 1.5, 3.5]), scale=stats.sem([0.5, 1.5, 3.5]))
    assert clause.interval() == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        (at_least("x", [1.0, 1.1, 0.9], 0.5), "holds"),
        (at_most("x", [1.0, 1.1, 0.9], 0.5), "fails"),
        (at_least("x", [1.0, 1.1, 0.9], 1.02), "straddles"),
        (at_least("x", [1.0, 1.0, 1.0], 1.0), "holds"),
        (at_least("x", [0.9, 0.9, 0.9], 1.0), "fails"),
        (at_most("x", [1.0, 1.0, 1.0], 1.0), "holds"),
        (at_least("x", [0.3 - 0.1] * 3, 0.2), "holds"),
        (at_most("x", [0.1 + 0.2] * 3, 0.3), "holds"),
        (exactly("n", 1e12 + 1, 1e12), "fails"),
        (at_least("x", [1.0], 0.0), "straddles"),
        (at_least("x", [1.0, 1.0], 0.0), "straddles"),
        (at_least("x", [0.0, 0.0], 1.0), "straddles"),
        (at_least("x", [1.0, float("nan"), 1.0], 0.0), "fails"),
        (exactly("n", 10, 10), "holds"),
        (exactly("n", [10, 11, 10], 10), "fails"),
        (exactly("n", [10, 11, 10], 10, ">="), "holds"),
        (seconds_at_most("t", [0.1, 0.1, 0.1], 0.3), "holds"),
    ],
)
def test_clauses(clause, expected):
    assert clause.verdict() == expected


def test_values_that_are_not_finite():
    clause = at_most("x", [1.0, float("inf"), float("inf")], 2.0)
    assert clause.verdict() == "fails" and clause.interval() == (-np.inf, np.inf) and np.isnan(clause.spread)
    assert at_most("x", [0.1, 0.1, 0.1], 2.0).spread == 0.0


def test_finding_is_the_conjunction_of_judged_clauses():
    good, bad, unsure = (
        at_least("a", [1, 1.1, 0.9], 0),
        at_least("b", [1, 1.1, 0.9], 9),
        at_least("c", [1, 1.1, 0.9], 1),
    )
    slow = seconds_at_most("t", [5.0, 5.0, 5.1], 1)
    assert verdict(finding(good)) == "holds"
    assert verdict(finding(good, bad, unsure)) == "fails"
    assert verdict(finding(good, unsure)) == "inconclusive" and straddles(finding(good, unsure))
    assert verdict(finding(good, slow)) == "fails" and verdict(finding(good, slow), judge_seconds=False) == "holds"
    assert verdict(finding(slow), judge_seconds=False) == "inconclusive"
    assert not straddles(finding(bad, unsure))


def test_a_baseline_below_its_floor_makes_everything_inconclusive():
    good = at_least("a", [1, 1.1, 0.9], 0)
    assert verdict(finding(good, floors=(floor("base", [0.4, 0.5], 0.6),))) == "inconclusive"
    assert verdict(finding(good, floors=(floor("base", [0.6, 0.7], 0.6),))) == "holds"


def test_a_floor_says_why_nothing_can_be_concluded():
    assert floor("plain-14", [0.4, 0.5], 0.6).sentence == (
        "plain-14 reached 0.45, below its floor of 0.6: nothing can be concluded."
    )
    assert floor("plain-14", [0.7, 0.5], 0.6).sentence == ""
    assert not floor("plain-14", [float("nan"), 0.9], 0.6).met


def rounds(values, make):
    """The command's rule: three seeds, then five, then eight while the verdict is open."""
    for n in (3, 5, 8):
        result = finding(make(values[:n]))
        if not straddles(result):
            break
    return verdict(result)


CASES = {
    "at least": lambda values: at_least("x", values, 2.0),
    "at most": lambda values: at_most("x", [4.0 - v for v in values], 2.0),
    "seconds": lambda values: seconds_at_most("x", [4.0 - v for v in values], 2.0),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(
    ("shift", "holds", "fails"),
    [
        (-3.0, (0.0, 0.0), (0.95, 1.0)),
        (-0.5, (0.0, 0.05), (0.5, 0.7)),  # half a spread short: at most one in twenty may pass
        (0.0, (0.1, 0.25), (0.1, 0.25)),
        (0.5, (0.5, 0.7), (0.0, 0.05)),
        (3.0, (0.95, 1.0), (0.0, 0.0)),
    ],
)
def test_error_rates_on_a_thousand_synthetic_triples(make, shift, holds, fails):
    draws = np.random.default_rng(7).normal(2.0 + shift, 1.0, (1000, 8))
    verdicts = [rounds(row, make) for row in draws]
    for outcome, (least, most) in (("holds", holds), ("fails", fails)):
        assert least <= verdicts.count(outcome) / 1000 <= most, outcome


def test_more_clauses_make_a_false_holds_rarer():
    draws = np.random.default_rng(8).normal((-0.5, 0.5), 1.0, (1000, 3, 2))
    both = [verdict(finding(at_least("a", x[:, 0], 0.0), at_least("b", x[:, 1], 0.0))) for x in draws]
    assert both.count("holds") / 1000 <= 0.03


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: at_least("x", [], 0.0), "'x' needs one number a seed, got an array of shape"),
        (lambda: at_most("x", np.zeros((3, 2)), 0.0), r"shape \(3, 2\); reduce it first"),
        (lambda: Finding(clauses=()), "at least one clause"),
        (
            lambda: Finding((exactly("n", 1, 1),), measurements={"a": np.ones(3)}, published={"b": 1.0}),
            "published has b, which was not measured; measured are a",
        ),
    ],
)
def test_mistakes_are_named(build, message):
    with value_error(message):
        build()


def test_html_escapes_names_and_shows_floors():
    assert "&lt;b&gt;" in finding(at_least("<b>", [1, 2, 3], 0))._repr_html_()
    page = finding(seconds_at_most("t", [1, 1, 1], 2), floors=(floor("<i>", [0.1], 0.6),))._repr_html_()
    assert "&lt;i&gt; reached 0.1" in page and "unjudged" in page and "<p>inconclusive</p>" in page
