"""Classes of a hierarchy as columns of labels, one for each level, the coarsest first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.label_tree import LabelTree


def label_levels(tree: LabelTree) -> Int64[Tensor, "K L"]:
    """Of each class its ancestor on every level below the root, on each level numbered from 0 in the order of the nodes.

    A class that is nearer to the root than others stands for itself on the levels below it, so that the last column tells all classes
    apart.
    """
    return torch.stack([tree.level(depth) for depth in range(1, int(tree.depth[tree.leaves].max()) + 1)], 1)


def path_ids(labels: Int64[Tensor, "B L"]) -> Int64[Tensor, "B L"]:
    """Numbers of the whole way down to each level: two rows have one in common only if they agree on all levels above, too."""
    columns = [torch.unique(labels[:, : i + 1], dim=0, return_inverse=True)[1] for i in range(labels.shape[1])]
    return torch.stack(columns, 1)


def as_levels(levels: Sequence[Sequence[int]] | Tensor) -> Int64[Tensor, "K L"]:
    """A table of the labels of each class as a tensor, checked: the finest level must tell the classes apart."""
    table = torch.as_tensor(levels, dtype=torch.int64)
    if table.ndim != 2:
        raise ValueError(
            f"levels need a row for each class and a column for each level, got the shape {tuple(table.shape)}."
        )
    if len(torch.unique(table, dim=0)) < len(table):
        raise ValueError("two classes have the same labels on all levels; the last level must tell every class apart.")
    return table
