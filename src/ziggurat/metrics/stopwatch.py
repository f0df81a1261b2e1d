"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def least_milliseconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of several calls without gradient: what disturbs a machine only makes a call longer."""
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}.")
    times = []
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
    return min(times)
