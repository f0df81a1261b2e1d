"""The data sets that fit in memory: images with labels, boxes or masks, and tables. Graphs are torch_geometric's `Data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Index = Tensor | np.ndarray | Sequence[int] | slice


def as_index(index: Index, length: int) -> Int64[Tensor, " n"]:
    """Any usual way to name rows as an int64 tensor; a boolean mask names the rows where it is true."""
    if isinstance(index, slice):
        return torch.arange(length)[index]
    tensor = torch.as_tensor(np.asarray(index)) if not isinstance(index, Tensor) else index
    return tensor.nonzero().flatten() if tensor.dtype == torch.bool else tensor.to(torch.int64)


@dataclass(frozen=True)
class Images:
    """Images of one size with one class each.

    Arguments:
        images: (N, C, H, W) uint8, C = 1 or 3.
        labels: (N,) int64 in 0 … K − 1; all −1 where there are none.
        classes: names of the K classes.
        name: what people call the data set.
        ids: a name for each image (its path, say); empty means its number.
        groups: a group of each class (Omniglot's alphabets), where there is one.
        notes: what was skipped or changed while reading, for people.
        metadata: what else is known of each image, such as its day or the columns of a csv; empty means nothing.
    """

    images: UInt8[Tensor, "N C H W"]
    labels: Int64[Tensor, " N"]
    classes: tuple[str, ...]
    name: str
    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: tuple[Mapping[str, Any], ...] = ()
    kind: str = "image"
    task: str = "classification"

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{self.name}: {len(self.images)} images but {len(self.labels)} labels; give one label an image."
            )
        if len(self.labels) and int(self.labels.max()) >= len(self.classes):
            raise ValueError(
                f"{self.name}: label {int(self.labels.max())} has no class name; there are {len(self.classes)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, index: Index) -> Float[Tensor, "B C H W"]:
        """Images as floats in [0, 1]."""
        return self.images[as_index(index, len(self))].float() / 255

    def subset(self, index: Index, name: str | None = None) -> Images:
        """The named rows as a data set of their own, with the same classes."""
        rows = as_index(index, len(self))
        ids = tuple(self.ids[i] for i in rows.tolist()) if self.ids else ()
        told = tuple(self.metadata[i] for i in rows.tolist()) if self.metadata else ()
        return replace(
            self, images=self.images[rows], labels=self.labels[rows], ids=ids, metadata=told, name=name or self.name
        )

    def describe(self) -> str:
        """One line: images, size, classes, what was skipped."""
        n, c, h, w = self.images.shape
        if len(self.classes):
            counts = torch.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
            text = f"{len(self.classes)} classes ({int(counts.min())} to {int(counts.max())} images each)"
        else:
            text = "no labels"
        line = f"{self.name}: {n:,} images of {h}x{w} ({'grey' if c == 1 else 'colour'}), {text}"
        return "; ".join([line, *self.notes])


@dataclass(frozen=True)
class Boxes:
    """Images of any size with objects: what detectors train on.

    Arguments:
        images: uint8 tensors (3, H, W).
        targets: a dict for each image: `boxes` (n, 4) xyxy pixels float32, `labels` (n,) int64
            in 0 … K − 1, optional `masks` (n, H, W) bool.
        classes: names of the K classes.
    """

    images: tuple[Tensor, ...]
    targets: tuple[dict[str, Tensor], ...]
    classes: tuple[str, ...]
    name: str
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "image"
    task: str = "detection"

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, index: Index) -> list[Tensor]:
        """A list of (3, H, W) floats in [0, 1]."""
        return [self.images[i].float() / 255 for i in as_index(index, len(self)).tolist()]

    def subset(self, index: Index, name: str | None = None) -> Boxes:
        rows = as_index(index, len(self)).tolist()
        return replace(
            self,
            images=tuple(self.images[i] for i in rows),
            targets=tuple(self.targets[i] for i in rows),
            ids=tuple(self.ids[i] for i in rows) if self.ids else (),
            name=name or self.name,
        )

    def describe(self) -> str:
        boxes = sum(len(t["boxes"]) for t in self.targets)
        return "; ".join(
            [f"{self.name}: {len(self):,} images, {boxes:,} boxes, {len(self.classes)} classes", *self.notes]
        )


@dataclass(frozen=True)
class Segments:
    """Images of one size with a class for every pixel.

    Arguments:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) uint8 class of each pixel; `ignore` marks pixels without one.
        groups: a group of each image (a video, say), where there is one.
    """

    images: UInt8[Tensor, "N C H W"]
    masks: UInt8[Tensor, "N H W"]
    classes: tuple[str, ...]
    name: str
    ignore: int = 255
    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "image"
    task: str = "segmentation"

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, index: Index) -> Float[Tensor, "B C H W"]:
        """Images as floats in [0, 1]."""
        return self.images[as_index(index, len(self))].float() / 255

    def subset(self, index: Index, name: str | None = None) -> Segments:
        rows = as_index(index, len(self))
        ids = tuple(self.ids[i] for i in rows.tolist()) if self.ids else ()
        groups = tuple(self.groups[i] for i in rows.tolist()) if self.groups else ()
        return replace(
            self, images=self.images[rows], masks=self.masks[rows], ids=ids, groups=groups, name=name or self.name
        )

    def describe(self) -> str:
        n, _, h, w = self.images.shape
        return "; ".join(
            [f"{self.name}: {n:,} images of {h}x{w} with a class a pixel, {len(self.classes)} classes", *self.notes]
        )


@dataclass(frozen=True)
class Table:
    """Rows of numbers (categories already coded) with a class or a value each.

    Arguments:
        x: (N, F) float32.
        labels: (N,) int64 classes, or float32 values when `task` is "regression".
    """

    x: Float[Tensor, "N F"]
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    columns: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "table"
    task: str = "classification"

    def __len__(self) -> int:
        return len(self.x)

    def inputs(self, index: Index) -> Float[Tensor, "B F"]:
        return self.x[as_index(index, len(self))]

    def subset(self, index: Index, name: str | None = None) -> Table:
        rows = as_index(index, len(self))
        ids = tuple(self.ids[i] for i in rows.tolist()) if self.ids else ()
        return replace(self, x=self.x[rows], labels=self.labels[rows], ids=ids, name=name or self.name)

    def describe(self) -> str:
        text = f"{len(self.classes)} classes" if self.classes else "a value each"
        return "; ".join([f"{self.name}: {len(self):,} rows of {self.x.shape[1]} columns, {text}", *self.notes])


@dataclass(frozen=True)
class Clouds:
    """Clouds of equally many points with a class each.

    Arguments:
        points: (N, n, 3) float32.
        labels: (N,) int64.
    """

    points: Float[Tensor, "N n 3"]
    labels: Int64[Tensor, " N"]
    classes: tuple[str, ...]
    name: str
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "points"
    task: str = "classification"

    def __len__(self) -> int:
        return len(self.points)

    def inputs(self, index: Index) -> Float[Tensor, "B n 3"]:
        return self.points[as_index(index, len(self))]

    def subset(self, index: Index, name: str | None = None) -> Clouds:
        rows = as_index(index, len(self))
        ids = tuple(self.ids[i] for i in rows.tolist()) if self.ids else ()
        return replace(self, points=self.points[rows], labels=self.labels[rows], ids=ids, name=name or self.name)

    def describe(self) -> str:
        n, count, _ = self.points.shape
        return "; ".join([f"{self.name}: {n:,} clouds of {count} points, {len(self.classes)} classes", *self.notes])


@dataclass(frozen=True)
class Graphs:
    """Many graphs with a class or a value each; also a sequence of `torch_geometric` graphs.

    Arguments:
        graphs: each with x, edge_index, its class or value y (1,), and whatever else it brings (`fold`, edge_weight, …).
        labels: (N,) int64 classes, or float32 values when `task` is "regression".
    """

    graphs: tuple[Any, ...]
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "graphs"
    task: str = "classification"

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, i: int) -> Any:
        return self.graphs[i]

    def inputs(self, index: Index) -> tuple[Any, ...]:
        """Several graphs as one: x, edge_index, edge_weight (None where there is none), and the graph of each node."""
        from torch_geometric.data import Batch

        many = Batch.from_data_list([self.graphs[i] for i in as_index(index, len(self)).tolist()])
        return (many.x, many.edge_index, many.edge_weight if "edge_weight" in many else None, many.batch)

    def subset(self, index: Index, name: str | None = None) -> Graphs:
        rows = as_index(index, len(self))
        ids = tuple(self.ids[i] for i in rows.tolist()) if self.ids else ()
        graphs = tuple(self.graphs[i] for i in rows.tolist())
        return replace(self, graphs=graphs, labels=self.labels[rows], ids=ids, name=name or self.name)

    def describe(self) -> str:
        nodes = sum(graph.num_nodes for graph in self.graphs) / max(len(self), 1)
        text = f"{len(self.classes)} classes" if self.classes else "a value each"
        return "; ".join([f"{self.name}: {len(self):,} graphs of {nodes:.1f} nodes on average, {text}", *self.notes])


@dataclass(frozen=True)
class Taxonomy:
    """A hierarchy of names: `edges` (2, E) int64 child -> parent over 0 … n − 1."""

    names: tuple[str, ...]
    edges: Int64[Tensor, "2 E"]
    name: str
    extra: dict[str, Any] = field(default_factory=dict)
    kind: str = "taxonomy"
    task: str = "hierarchy"

    def __len__(self) -> int:
        return len(self.names)

    def describe(self) -> str:
        return f"{self.name}: {len(self):,} names, {self.edges.shape[1]:,} edges"
