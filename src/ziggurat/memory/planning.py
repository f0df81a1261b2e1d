"""How a search goes about its filter, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strategy = Literal["scan", "walk", "walk, then filter", "walk inside the filter", "windows"]


@dataclass(frozen=True)
class Plan:
    """What a search did.

    Attributes:
        strategy: "scan" looks at every selected row; "walk" goes through a graph, without a filter; "walk, then filter" goes through a
            graph of all rows and drops what the filter does not select; "walk inside the filter" goes from selected row to selected
            row; "windows" goes through graphs over ranges of one field.
        selected, rows: how many rows the filter selects, of how many.
        why: a sentence.
    """

    strategy: Strategy
    selected: int
    rows: int
    why: str

    @property
    def share(self) -> float:
        """Of the rows that are selected."""
        return self.selected / max(self.rows, 1)

    def __str__(self) -> str:
        return f"{self.strategy}: {self.why} ({self.selected:,} of {self.rows:,} rows are selected)"
