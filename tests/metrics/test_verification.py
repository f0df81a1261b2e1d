import pytest
import torch

from tests.typecheck import value_error
from ziggurat.metrics.verification import best_threshold, fold_accuracy, verify


def pairs(seed=0, count=400):
    g = torch.Generator().manual_seed(seed)
    same = torch.rand(count, generator=g) < 0.5
    return torch.randn(count, generator=g) + 2 * (~same), same


@pytest.mark.parametrize("far", [0.0, 0.01, 0.1])
def test_val_and_far_by_counting(far):
    distance, same = pairs()
    result = verify(distance, same, far)
    best = -1.0
    for t in distance.tolist():
        if sum(d <= t for d in distance[~same].tolist()) <= far * int((~same).sum()):
            best = max(best, sum(d <= t for d in distance[same].tolist()) / int(same.sum()))
    assert result.val == pytest.approx(best)
    assert result.far <= far
    assert result.val == pytest.approx(float((distance[same] <= result.threshold).double().mean()))


def test_ties_are_accepted_or_refused_together():
    distance = torch.tensor([0.0] * 10 + [1.0] * 10 + [1.0] * 10 + [2.0] * 10)
    same = torch.arange(40) < 20
    assert verify(distance, same, 0.4)[:3] == (0.5, 0.0, 0.0)
    assert verify(distance, same, 0.5)[:3] == (1.0, 0.5, 1.0)


def test_best_threshold_against_trying_all():
    distance, same = pairs(1, 60)
    distance = distance.round(decimals=1)
    right = [float(((distance <= t) == same).double().mean()) for t in distance]
    found = best_threshold(distance, same)
    assert float(((distance <= found) == same).double().mean()) == pytest.approx(max(right))


def test_perfect_and_useless_distances():
    same = torch.arange(100) < 50
    assert verify((~same).float(), same, 0.01) == (1.0, 0.0, 0.0, 1.0)
    assert fold_accuracy(torch.zeros(100), same) == 0.5
    nothing = verify(torch.zeros(100), same, 0.01)
    assert (nothing.val, nothing.far, nothing.threshold) == (0.0, 0.0, -torch.inf)


def test_mistakes_are_named():
    with value_error("below 1"):
        verify(*pairs(), far=1.0)
    with value_error("too few"):
        verify(torch.zeros(12), torch.arange(12) < 3)
