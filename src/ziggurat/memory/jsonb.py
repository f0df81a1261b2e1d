"""What PostgreSQL takes and hands out as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd


def framed(rows: list[tuple]) -> pd.DataFrame:
    """`key`, `id` and `metadata` of rows as the server hands them out."""
    keys, ids, metadata = zip(*rows, strict=True) if rows else ((), (), ())
    return pd.DataFrame(
        {
            "key": np.array(keys, np.int64),
            "id": pd.Series(ids, dtype=object),
            "metadata": pd.Series(metadata, dtype=object),
        }
    )


def decimals(text: str) -> str:
    """The same JSON with floats of 1e16 and more written out, since jsonb hands 1e+16 back as a whole number."""
    return _written(json.loads(text)) if "e+" in text else text


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_written(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    large = isinstance(value, float) and value.is_integer()
    return f"{int(value)}.0" if large else json.dumps(value)
