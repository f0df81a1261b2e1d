"""Times of two or more functions, interleaved, with a verdict only when the machine was quiet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from ziggurat.metrics.load import busy

REPEATS = 9
UNSTEADY = 1.3


@dataclass(frozen=True)
class Times:
    """Seconds of one function: the least and the median of all repeats."""

    name: str
    least: float
    median: float

    @property
    def steady(self) -> bool:
        """Whether median and least agree within 30 percent."""
        return self.median <= UNSTEADY * self.least


def interleaved(functions: dict[str, Callable[[], object]], repeats: int = REPEATS) -> list[Times]:
    """Runs the functions in turn, so that whatever disturbs the machine disturbs all of them."""
    if repeats < 7:
        raise ValueError(f"a comparison needs 7 repeats or more, got {repeats}.")
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats):
        order = list(functions.items())
        for name, function in (
            reversed(order) if repeat % 2 else order
        ):  # whoever comes first finds other things in the caches
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return [Times(name, min(values), statistics.median(values)) for name, values in seconds.items()]


def show(title: str, functions: dict[str, Callable[[], object]], repeats: int = REPEATS) -> list[Times]:
    """Prints a table of ratios to the last function, the peer; says so when nothing can be judged."""
    before = busy()
    times = interleaved(functions, repeats)
    peer = times[-1]
    print(f"\n{title}")
    for one in times:
        print(
            f"  {one.name:34} least {1e3 * one.least:9.2f} ms   median {1e3 * one.median:9.2f} ms"
            f"   ratio to {peer.name} {one.least / peer.least:6.3f}"
        )
    if reason := before or busy():
        print(f"  not judged: {reason}")
    elif not all(one.steady for one in times):
        print("  not judged: least and median differ by more than 30 percent.")
    return times
