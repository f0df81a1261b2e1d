"""What an experiment gets from the command: seeds, data, a device, progress, and a memory of the seeds already measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from ziggurat.data.loading import load
from ziggurat.data.sources import runs_folder, write_atomically
from ziggurat.metrics.load import busy

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")
OneSeed = Callable[["Run", int], dict[str, float]]


@dataclass
class Run:
    """One measurement of a claim.

    Arguments:
        id: of the paper.
        key: what the kept seeds depend on (a hash of the sources); seeds kept under another key are not used.
        seeds: to be measured; grows while the verdict is open.
        scale: "quick" is the experiment of the ledger, "full" the paper's own size where the claim has one.
        device: where to train.
        quiet: no progress on stderr.
        load: why times of some seed do not count; None when the machine was quiet at all of them.
        plots: pictures of the experiment, by name.
    """

    id: str
    key: str = "none"
    seeds: tuple[int, ...] = (0, 1, 2)
    scale: Literal["quick", "full"] = "quick"
    device: str = "cpu"
    quiet: bool = False
    load: str | None = None
    plots: dict[str, Path] = field(default_factory=dict)
    _bars: Progress | None = field(default=None, repr=False)
    _spent: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)

    @property
    def minutes(self) -> float:
        """Spent on the seeds, those of earlier, interrupted runs included; each counts once, however often it is asked for."""
        return sum(self._spent.values())

    @property
    def folder(self) -> Path:
        """Where this run keeps its seeds and plots."""
        return runs_folder() / "claims" / self.id

    def data(self, name: str, split: Any = None) -> Any:
        """A data set by name."""
        return load(name, split)

    def each_seed(self, one_seed: OneSeed) -> dict[str, np.ndarray]:
        """`one_seed(run, seed)` for every seed, as one array a measurement. A finished seed is kept and not measured again."""
        rows = [self._kept_or_measured(one_seed, seed) for seed in self.progress(self.seeds, f"{self.id}: seeds")]
        names = list(rows[0]["values"])
        for seed, row in zip(self.seeds, rows):
            if set(row["values"]) != set(names):
                other = sorted(set(row["values"]) ^ set(names))
                raise ValueError(f"seed {seed} of {self.id} measured other things than the first: {', '.join(other)}.")
        self._spent |= {(one_seed.__name__, s): row["minutes"] for s, row in zip(self.seeds, rows, strict=True)}
        self.load = self.load or next((row["load"] for row in rows if row["load"]), None)
        return {name: np.array([row["values"][name] for row in rows]) for name in names}

    def _kept_or_measured(self, one_seed: OneSeed, seed: int) -> dict[str, Any]:
        path = self.folder / self.key / f"seed{seed}.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        name = one_seed.__name__  # one file a seed, whatever number of functions an experiment has
        if name not in kept:
            start, before = time.perf_counter(), busy()
            values = {key: float(value) for key, value in one_seed(self, seed).items()}
            minutes = (time.perf_counter() - start) / 60
            kept[name] = {"values": values, "minutes": minutes, "load": before or busy()}
            write_atomically(path, json.dumps(kept).encode())
            self.note(f"{self.id}: seed {seed} measured in {minutes:.1f} minutes")
        return kept[name]

    def note(self, text: str) -> None:
        """A line on stderr, above the bars."""
        if self.quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def progress(self, items: Iterable[Item], description: str = "") -> Iterator[Item]:
        """The items, with a bar and the time left on stderr where that is a terminal; bars may be nested."""
        items = list(items)
        if self.quiet or not sys.stderr.isatty():
            yield from items
            return
        with self._display() as bars:
            task = bars.add_task(description, total=len(items))
            try:
                for item in items:
                    yield item
                    bars.advance(task)
            finally:
                bars.remove_task(task)

    @contextmanager
    def _display(self) -> Iterator[Progress]:
        """The one display that all bars of this run share: a terminal can have only one at a time."""
        if self._bars is not None:
            yield self._bars
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None

    def plot_path(self, name: str) -> Path:
        """Where the experiment may draw a picture of this name (without ending); it is kept with the record."""
        path = self.plots[name] = self.folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
