import pytest
import torch
from torch import nn

from tests.typecheck import value_error
from ziggurat.nn.operators.scheduled_drop_path import ScheduledDropPath, set_progress


@pytest.mark.fact("nasnet", 4)
def test_nothing_is_dropped_at_first_and_p_at_last():
    path = ScheduledDropPath(0.4).train()
    x = torch.ones(4000, 3, 1, 1)
    assert torch.equal(path(x), x)
    for progress in (0.5, 1.0):
        set_progress(path, progress)
        y = path(x)
        rate = 0.4 * progress
        assert path.rate == pytest.approx(rate)
        assert float((y[:, 0] == 0).float().mean()) == pytest.approx(rate, abs=0.03)
        assert float(y.mean()) == pytest.approx(1, abs=0.05), "the expectation must not change"
        torch.testing.assert_close(y[y > 0], torch.full_like(y[y > 0], 1 / (1 - rate)))
        assert (y == y[:, :1]).all(), "a path is dropped whole"
    assert torch.equal(path.eval()(x), x)


def test_mistakes_are_named():
    with value_error("at least 0 and below 1, got 1"):
        ScheduledDropPath(1)
    with value_error("between 0 and 1, got 3"):
        set_progress(nn.Identity(), 3)
