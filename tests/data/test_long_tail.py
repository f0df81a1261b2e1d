import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.long_tail import long_tail_counts, long_tailed


@pytest.mark.parametrize("imbalance", (1.0, 10.0, 100.0))
def test_profile_is_exponential(imbalance):
    counts = long_tail_counts(10, 1_000, imbalance)
    assert counts[0] == 1_000 and counts[-1] == 1_000 / imbalance
    for i, count in enumerate(counts):
        assert count <= 1_000 * imbalance ** (-i / 9) + 1e-6 < count + 1 + 1e-6


def test_rows_are_drawn_from_each_class_by_the_seed():
    labels = torch.arange(4).repeat(50)
    rows = long_tailed(labels, 40, 8.0, seed=1)
    assert torch.bincount(labels[rows]).tolist() == long_tail_counts(4, 40, 8.0) == [40, 20, 10, 5]
    assert torch.equal(rows, rows.unique()) and torch.equal(rows, long_tailed(labels, 40, 8.0, seed=1))
    assert not torch.equal(rows, long_tailed(labels, 40, 8.0, seed=2))
    assert torch.bincount(labels[long_tailed(labels, 40, 8.0, order=[3, 1, 0, 2])]).tolist() == [10, 20, 5, 40]


def test_mistakes_are_named():
    labels = torch.arange(4).repeat(5)
    with value_error("class 0 has 5 samples, fewer than the 9"):
        long_tailed(labels, 9, 2.0)
    with value_error("each of the 4 classes once"):
        long_tailed(labels, 5, 2.0, order=[0, 1, 2])
    with value_error("the rarest class has none"):
        long_tail_counts(3, 5, 10.0)
    with value_error("at least 1, got 0.5"):
        long_tail_counts(3, 5, 0.5)
    with value_error("two classes or more"):
        long_tail_counts(1, 5, 10.0)
