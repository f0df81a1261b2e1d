"""Recall of approximate search."""

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.metrics.neighbours import neighbour_recall

INF = np.inf


def test_shares_are_of_those_that_are_there():
    truth = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, INF], [INF, INF, INF]], np.float32)
    found = np.array([[0.0, 2.0, 3.0], [2.0, 5.0, INF], [INF, INF, INF]], np.float32)
    assert neighbour_recall(found, truth) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert neighbour_recall(truth, truth) == 1.0
    assert neighbour_recall(truth[2:], truth[2:]) == 1.0


def test_equally_near_ones_count_alike_and_rounding_is_no_miss():
    truth = np.array([[1.0, 1.0]], np.float32)
    assert neighbour_recall(truth * np.float32(1 + 1e-6), truth) == 1.0
    assert neighbour_recall(truth * np.float32(1 + 1e-4), truth) == 0.0


def test_shapes_must_agree():
    with value_error("found and truth must have the same shape"):
        neighbour_recall(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
