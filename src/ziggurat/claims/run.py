"""What an experiment gets from the command: seeds, data, a device, progress, and a memory of the seeds already measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from ziggurat.data.loading import load
from ziggurat.data.sources import runs_folder, write_atomically

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
        minutes: spent on seeds so far, those of earlier, interrupted runs included.
    """

    id: str
    key: str = "none"
    seeds: tuple[int, ...] = (0, 1, 2)
    scale: Literal["quick", "full"] = "quick"
    device: str = "cpu"
    quiet: bool = False
    minutes: float = 0.0
    plots: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where this run keeps its seeds and plots."""
        return runs_folder() / "claims" / self.id

    def data(self, name: str, split: Any = None) -> Any:
        """A data set by name."""
        return load(name, split)

    def each_seed(self, one_seed: OneSeed) -> dict[str, np.ndarray]:
        """`one_seed(run, seed)` for every seed, as one array a measurement. A finished seed is kept and not measured again."""
        rows = []
        self.minutes = 0.0
        for seed in self.progress(self.seeds, f"{self.id}: seeds"):
            kept = self.folder / self.key / f"seed{seed}.json"
            if kept.is_file():
                record = json.loads(kept.read_text())
            else:
                start = time.perf_counter()
                values = {name: float(value) for name, value in one_seed(self, seed).items()}
                record = {"values": values, "minutes": (time.perf_counter() - start) / 60}
                write_atomically(kept, json.dumps(record).encode())
            rows.append(record["values"])
            self.minutes += record["minutes"]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def progress(self, items: Iterable[Item], description: str = "") -> Iterator[Item]:
        """The items, with a bar and the time left on stderr."""
        if self.quiet or not sys.stderr.isatty():
            yield from items
            return
        from rich.console import Console
        from rich.progress import track

        yield from track(items, description, console=Console(stderr=True), transient=True)

    def plot_path(self, name: str) -> Path:
        """Where the experiment may draw a picture of this name (without ending); it is kept with the record."""
        self.plots.append(f"{name}.png")
        path = self.folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
