"""The ledger: one JSON file for each measured claim, made by the command and never edited by hand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ziggurat.data.sources import write_atomically


def ledger_folder() -> Path:
    """$ZIGGURAT_LEDGER, else the `ledger` folder of the checkout this package is installed from, else ./ledger."""
    if os.environ.get("ZIGGURAT_LEDGER"):
        return Path(os.environ["ZIGGURAT_LEDGER"])
    checkout = Path(__file__).resolve().parents[3] / "ledger"
    return checkout if checkout.is_dir() else Path("ledger")


def plain(value: Any) -> Any:
    """The value as JSON knows it: no number that is not finite, no path, no array."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return value.name
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(record: dict[str, Any], folder: Path | None = None) -> Path:
    """Puts a record into the ledger, or another folder, whole or not at all."""
    path = (folder or ledger_folder()) / f"{record['id']}.json"
    write_atomically(path, (json.dumps(plain(record), indent=1, ensure_ascii=False) + "\n").encode())
    return path


def read(name: str) -> dict[str, Any] | None:
    """The record of a claim, or None where it was not measured."""
    path = ledger_folder() / f"{name}.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is not a whole record; remove it and measure again: ziggurat claim {name}.") from None
