"""Hierarchies over the classes of known data sets: names of each class on every level above it, the most general first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

FASHION_MNIST = {  # 2, 6 and 10 classes
    "t-shirt": ("clothes", "tops"), "pullover": ("clothes", "tops"), "shirt": ("clothes", "tops"),
    "trouser": ("clothes", "bottoms"), "dress": ("clothes", "dresses"), "coat": ("clothes", "outers"),
    "bag": ("goods", "accessories"),
    "sandal": ("goods", "shoes"), "sneaker": ("goods", "shoes"), "boot": ("goods", "shoes"),
}  # fmt: skip
CIFAR10 = {  # 2, 7 and 10 classes
    "airplane": ("vehicle", "sky"), "ship": ("vehicle", "water"),
    "automobile": ("vehicle", "road"), "truck": ("vehicle", "road"),
    "bird": ("animal", "bird"), "frog": ("animal", "reptile"), "cat": ("animal", "pet"), "dog": ("animal", "pet"),
    "deer": ("animal", "medium"), "horse": ("animal", "medium"),
}  # fmt: skip


def numbered(ways: Sequence[Sequence[str]]) -> Int64[Tensor, "K L"]:
    """Names of each class on the levels above it, as numbers in the order of the alphabet; the class's own number comes last.

    `numbered([FASHION_MNIST[name] for name in data.classes])` are the levels of a data set.
    """
    columns = [sorted(set(column)) for column in zip(*ways, strict=True)]
    above = [[column.index(name) for column, name in zip(columns, way, strict=True)] for way in ways]
    return torch.tensor([[*row, k] for k, row in enumerate(above)])
