import numpy as np
import pytest
from scipy import stats

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
        (at_least("x", [1.0], 0.0), "straddles"),
        (at_least("x", [1.0, float("nan"), 1.0], 0.0), "fails"),
        (exactly("n", 10, 10), "holds"),
        (exactly("n", [10, 11, 10], 10), "fails"),
        (exactly("n", [10, 11, 10], 10, ">="), "holds"),
        (seconds_at_most("t", [0.1, 0.1, 0.1], 0.3), "holds"),
    ],
)
def test_clauses(clause, expected):
    assert clause.verdict() == expected


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


def sequential(draw, criterion=0.0):
    """The command's rule: three seeds, then five, then eight while the interval straddles."""
    values = []
    for n in (3, 5, 8):
        while len(values) < n:
            values.append(draw())
        result = finding(at_least("x", values, criterion))
        if not straddles(result):
            break
    return verdict(result)


@pytest.mark.parametrize(
    ("shift", "most_holds", "most_fails"), [(-0.5, 0.05, 1.0), (0.0, 0.25, 0.25), (0.5, 1.0, 0.05)]
)
def test_error_rates_on_a_thousand_synthetic_triples(shift, most_holds, most_fails):
    rng = np.random.default_rng(0)
    verdicts = [sequential(lambda: rng.normal(shift, 1.0)) for _ in range(1000)]
    assert verdicts.count("holds") / 1000 <= most_holds
    assert verdicts.count("fails") / 1000 <= most_fails


def test_clear_effects_are_found():
    rng = np.random.default_rng(0)
    assert [sequential(lambda: rng.normal(3, 1.0)) for _ in range(300)].count("holds") >= 280


def test_html_escapes_names():
    assert "&lt;b&gt;" in finding(at_least("<b>", [1, 2, 3], 0))._repr_html_()
