"""Choosing by validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Found = TypeVar("Found", bound=tuple)


def best_on_validation(candidates: Iterable[Found]) -> Found:
    """The candidate with the highest first number, its validation score; of equals the first, so that nothing else has a say.

    `max` of (validation, test) alone would break ties by the test score.
    """
    return max(candidates, key=lambda found: found[0])
