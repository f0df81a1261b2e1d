"""Rows as Arrow tables: ids and metadata as JSON, vectors as lists of one length."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


def rows_as_stored(keys: list[int], ids: list[str], metadata: list[str]) -> pa.Table:
    """`key`, `id` and `metadata`, the latter two as JSON."""
    columns = {
        "key": pa.array(keys, pa.int64()),
        "id": pa.array(ids, pa.string()),
        "metadata": pa.array(metadata, pa.string()),
    }
    return pa.table(columns)


def with_vectors(rows: pa.Table, vectors: np.ndarray) -> pa.Table:
    """The same rows with their vectors, in the order of the table's columns."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return rows.add_column(2, "vector", values)


def decoded(texts: pa.ChunkedArray) -> list[Any]:
    """The values of a column of JSON."""
    return json.loads("[" + ",".join(texts.to_pylist()) + "]")


def frame(rows: pa.Table) -> pd.DataFrame:
    """`id` and `metadata` as given."""
    return pd.DataFrame({name: pd.Series(decoded(rows[name]), dtype=object) for name in ("id", "metadata")})
