"""What a reader should know about an experiment besides its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Reason = Literal["data too easy", "scale", "recipe", "criterion", "chance", "implementation limits"]


@dataclass(frozen=True)
class Notes:
    """The prose of a record.

    Arguments:
        scope: on what data and size the claim was looked at, against the paper's.
        methodology: what is compared with what, at which equal budget.
        origin: where each target number comes from.
        easy: what was easy to reproduce.
        hard: what was hard.
        why: for a claim that did not hold, the best reason: one of a closed list, and a sentence.
            The claim's function `support(run)` then measures what speaks for it.
    """

    scope: str
    methodology: str
    origin: str
    easy: str = ""
    hard: str = ""
    why: tuple[Reason, str] | None = None

    def __post_init__(self) -> None:
        if self.why is not None and self.why[0] not in get_args(Reason):
            raise ValueError(f"why begins with one of {', '.join(get_args(Reason))}, got {self.why[0]!r}.")
