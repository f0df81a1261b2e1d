"""A bar with the time left, for what takes longer than two seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_hidden = _open = False


def hide() -> None:
    """No bars from now on in this process: `--quiet` asks for it."""
    global _hidden
    _hidden = True


def counted(items: Sequence[Item], description: str) -> Iterator[Item]:
    """The items, with a bar on stderr where that is a terminal and there are several."""
    if len(items) < 2:
        yield from items
        return
    with measured(len(items), description) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def measured(total: int, description: str) -> Iterator[Callable[[int], object]]:
    """A function that says how much more is done, with a bar on stderr where that is a terminal. Within another one there is none."""
    global _open
    if _hidden or _open or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    _open = True
    try:
        with Progress(console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(description, total=total)
            yield lambda done: bars.advance(task, done)
    finally:
        _open = False
