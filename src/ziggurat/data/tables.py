"""Tables of the UCI repository: numbers as they are, categories as one column for each of their values."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pandas as pd
import torch

from ziggurat.data.datasets import Table
from ziggurat.data.sources import choose, locate


def tabular_uci(name: str, split: Any, root: Any) -> Table:
    """One of the classification tables by its name (`split`). Missing numbers are the column's median, missing categories zeros only."""
    with zipfile.ZipFile(locate(name, root)[0]) as archive:
        known = tuple(sorted(member[:-4] for member in archive.namelist() if member.endswith(".csv")))
        if split is None:
            raise ValueError(f"{name} holds several tables; name one of {', '.join(known)}.")
        choose(name, split, known)
        frame = pd.read_csv(io.BytesIO(archive.read(f"{split}.csv")), skipinitialspace=True)
    target = frame.pop("y")
    names, labels = np.unique(target.astype(str), return_inverse=True)
    if len(names) > 50:
        raise ValueError(f"{split} has a value a row, not classes; it cannot be read as a table of classes.")
    columns = list(map(str, frame.columns))
    numbers = [column for column in columns if column.startswith("x")]
    frame = frame.fillna(frame[numbers].median())
    frame = pd.get_dummies(frame, columns=[column for column in columns if column not in numbers], prefix_sep="=")
    return Table(
        torch.from_numpy(frame.to_numpy(np.float32)), torch.from_numpy(labels), tuple(names), f"{name}_{split}",
        tuple(map(str, frame.columns)),
    )  # fmt: skip
