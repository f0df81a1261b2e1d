"""Windows and the adversarial set."""

import numpy as np
import pytest

from tests.typecheck import value_error
from ziggurat.data.windows import adversarial_windows, windows_of_share


def test_windows_hold_their_share_and_reach_both_ends():
    labels = np.random.default_rng(0).normal(size=64)
    low, high = windows_of_share(labels, 1 / 8, 4000, seed=1)
    held = ((labels >= low[:, None]) & (labels <= high[:, None])).sum(1)
    assert (held == 8).all()
    assert low.min() == labels.min() and high.max() == labels.max()
    assert np.bincount(np.searchsorted(np.sort(labels), low), minlength=57) == pytest.approx(4000 / 57, rel=0.5)
    low, high = windows_of_share(labels, 1e-9, 3)
    assert (low == high).all()


def test_the_neighbours_of_an_adversarial_query_lie_outside_its_window():
    vectors, labels, queries, low, high = adversarial_windows(5, 40, 30, 16, seed=2)
    assert vectors.shape == (200, 16) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    inside = (labels >= low[:, None]) & (labels <= high[:, None])
    assert (inside.sum(1) == 40).all()
    nearest = ((queries[:, None] - vectors) ** 2).sum(2).argsort(1)[:, :40]
    assert not np.take_along_axis(inside, nearest, 1).any()
    again = adversarial_windows(5, 40, 30, 16, seed=2)
    assert all((a == b).all() for a, b in zip(again, (vectors, labels, queries, low, high), strict=True))


def test_mistakes_are_said():
    with value_error("share must be above 0 and at most 1, got 0."):
        windows_of_share(np.zeros(3), 0.0, 1)
    with value_error("clusters must be 2 or more and each 1 or more, got 1 and 5."):
        adversarial_windows(1, 5)
