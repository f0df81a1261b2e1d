"""How long each method may train: seconds, optimiser steps, or epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Budget:
    """An amount of training, the same for every method: `amount` of `unit`."""

    amount: float
    unit: Literal["seconds", "steps", "epochs"]

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


def parse_budget(text: str) -> Budget:
    """ "60s", "5m", "2h", "400steps" or "10epochs" as a `Budget`; anything else is a `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|steps?|epochs?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(
            f"the budget {text!r} is not understood; write for instance 60s, 5m, 2h, 400steps or 10epochs."
        )
    number, unit = float(match[1]), match[2]
    if unit in UNITS:
        return Budget(number * UNITS[unit], "seconds")
    if number != int(number):
        raise ValueError(f"the budget {text!r} asks for a part of a step or epoch; give a whole number.")
    return Budget(number, "steps" if unit.startswith("step") else "epochs")
