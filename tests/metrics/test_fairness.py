import pytest
import torch

from tests.typecheck import value_error
from ziggurat.metrics.fairness import demographic_disparity, disparate_impact

POSITIVE = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0, 0]).bool()
PROTECTED = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1]).bool()


def test_rates_of_two_groups():
    assert demographic_disparity(POSITIVE, PROTECTED) == pytest.approx(3 / 4 - 1 / 6)
    assert disparate_impact(POSITIVE, PROTECTED) == pytest.approx((1 / 6) / (3 / 4))
    assert disparate_impact(POSITIVE, ~PROTECTED) == disparate_impact(POSITIVE, PROTECTED)
    assert disparate_impact(torch.zeros(10).bool(), PROTECTED) == 1
    assert demographic_disparity(PROTECTED, PROTECTED) == 1


def test_one_group_is_refused():
    with value_error("one group only"):
        demographic_disparity(POSITIVE, torch.ones(10).bool())
