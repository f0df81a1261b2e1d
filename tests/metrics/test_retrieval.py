"""Measures of what is found first."""

import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.metrics.retrieval import (
    map_at_r,
    mean_average_precision,
    mean_reciprocal_rank,
    nearest_labels,
    precision_at,
    recall_at,
)

FOUND = torch.tensor([[1, 0, 0, 2], [1, 1, 1, 1], [0, 1, 2, 2]])
LABELS = torch.tensor([0, 1, 3])
RELEVANT = torch.tensor([2, 4, 0])


def test_against_sums_by_hand():
    assert recall_at(FOUND, LABELS, 1) == pytest.approx(1 / 3) and recall_at(FOUND, LABELS, 2) == pytest.approx(2 / 3)
    assert precision_at(FOUND, LABELS, 4) == pytest.approx((2 + 4 + 0) / 12)
    assert mean_reciprocal_rank(FOUND, LABELS) == pytest.approx((1 / 2 + 1 + 0) / 3)
    # the first query: R = 2, of its first two the second is right at precision 1/2
    assert map_at_r(FOUND, LABELS, RELEVANT) == pytest.approx(((1 / 2) / 2 + 1) / 2)
    assert mean_average_precision(FOUND, LABELS, RELEVANT) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)


@pytest.mark.parametrize("block", [3, 100])
def test_the_nearest_are_those_of_a_full_matrix(block):
    g = torch.Generator().manual_seed(0)
    gallery, labels = torch.randn(20, 4, generator=g), torch.randint(3, (20,), generator=g)
    unit = torch.nn.functional.normalize(gallery, dim=1)
    scores = (unit @ unit.T).fill_diagonal_(-2)
    want = labels[scores.argsort(1, descending=True)[:, :5]]
    assert torch.equal(nearest_labels(gallery, gallery, labels, 5, itself=True, block=block), want)
    first = nearest_labels(gallery, gallery, labels, 1)
    assert torch.equal(first[:, 0], labels)


def test_average_precision_is_that_of_torchmetrics():
    from torchmetrics.functional.retrieval import retrieval_average_precision

    rng = np.random.default_rng(0)
    found, labels = torch.from_numpy(rng.integers(3, size=(6, 8))), torch.from_numpy(rng.integers(3, size=6))
    relevant = (found == labels[:, None]).sum(1)
    order = torch.arange(8, 0, -1).float()
    each = [
        retrieval_average_precision(order, row == label)
        for row, label in zip(found, labels, strict=True)
        if (row == label).any()
    ]
    assert mean_average_precision(found, labels, relevant) == pytest.approx(float(torch.stack(each).mean()), abs=1e-6)


def test_mistakes_are_named():
    with value_error("k must be between 1 and the 4"):
        recall_at(FOUND, LABELS, 5)
    with value_error("only 4 were looked for"):
        map_at_r(FOUND, LABELS, torch.tensor([5, 1, 1]))
    with value_error("between 1 and the 2 samples"):
        nearest_labels(torch.rand(3, 2), torch.rand(3, 2), torch.arange(3), 3, itself=True)
    with value_error("as many queries"):
        nearest_labels(torch.rand(2, 2), torch.rand(3, 2), torch.arange(3), 1, itself=True)
