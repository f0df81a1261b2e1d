"""Hierarchies over the classes of known data sets: names of each class on every level above it, the most general first."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.label_tree import LabelTree

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


def ways_of(data: Any) -> list[tuple[str, ...]]:
    """The names above each class of a data set that is known here or has groups of its own; a `ValueError` for others."""
    known = {"fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10}.get(data.name)
    if known is not None:
        return [known[name] for name in data.classes]
    groups = getattr(data, "groups", ())
    if len(groups) == len(data.classes):
        return [(group,) for group in groups]
    raise ValueError(
        f"what stands above the classes of {data.name} is not known; say it in a csv with a line for each class, such as dog,animal,pet."
    )


def read_ways(path: Path, classes: Sequence[str]) -> list[tuple[str, ...]]:
    """The names above each class from a csv: the class, and behind it what stands above it, the most general first."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no csv that can be read ({error}).") from None
    rows = [row for row in rows if any(row)]
    found = {row[0]: tuple(row[1:]) for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{path} names a class twice.")
    missing = [name for name in classes if name not in found]
    if missing:
        raise ValueError(
            f"{path} has no line for {', '.join(missing[:5])}; each class needs one, such as dog,animal,pet."
        )
    empty = [name for name in classes if not found[name] or not all(found[name])]
    if empty:
        raise ValueError(
            f"{path} names nothing, or an empty name, above {empty[0]}; write for instance dog,animal,pet."
        )
    return [found[name] for name in classes]


def label_tree(ways: Sequence[Sequence[str]], classes: Sequence[str]) -> LabelTree:
    """The tree of classes, which are its first nodes, under the names of `ways`; the last node is the root."""
    paths = dict.fromkeys(tuple(way[: i + 1]) for way in ways for i in range(len(way)))
    node = {path: len(classes) + i for i, path in enumerate(paths)}
    node[()] = len(classes) + len(paths)
    parent = [node[tuple(way)] for way in ways] + [node[path[:-1]] for path in paths] + [-1]
    names = (*classes, *(path[-1] for path in paths), "all")
    return LabelTree(torch.tensor(parent), torch.arange(len(classes)), names)
