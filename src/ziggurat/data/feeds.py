"""Feeds: how a data set becomes batches. A learner names its kind of feed; a new kind of batch is added here, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ziggurat.data.batch import Batch, Episode, GraphBatch, Triplets, Views
from ziggurat.data.protocols import Kind, Order
from ziggurat.data.seeds import derive, generator


def _chunks(order: Tensor, batch_size: int) -> Iterator[Tensor]:
    return iter(order.split(batch_size))


@dataclass(frozen=True)
class Labelled:
    """Samples with their labels: `Batch((x,), labels)`; `augment` is applied to training batches of floats in [0, 1]."""

    augment: nn.Module | Callable[[Tensor], Tensor] | None = None

    def order(
        self, dataset: Any, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        return _chunks(torch.randperm(len(dataset), generator=generator) if order is None else order, batch_size)

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Batch:
        x = dataset.inputs(index)
        return Batch((x if self.augment is None else self.augment(x),), dataset.labels[index], index)


@dataclass(frozen=True)
class TwoViews:
    """Two independent random views of each image: `Views((x,), labels, views=(x1, x2))`. Labels are there for monitoring only."""

    view: nn.Module | Callable[[Tensor], Tensor]

    order = Labelled.order

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Views:
        x = dataset.inputs(index)
        return Views((x,), dataset.labels[index], index, views=(self.view(x), self.view(x)))


class ClassMembers:
    """Draws members of classes, vectorised: rows sorted by class, and where each class begins."""

    def __init__(self, labels: Tensor) -> None:
        self.rows = labels.argsort(stable=True)
        self.counts = torch.bincount(labels)
        self.starts = self.counts.cumsum(0) - self.counts
        self.present = (self.counts > 0).nonzero().flatten()

    def draw(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """One uniform member of each of `classes`, any shape."""
        places = (torch.rand(classes.shape, generator=generator) * self.counts[classes]).long()
        return self.rows[self.starts[classes] + places.minimum(self.counts[classes] - 1)]

    def some(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """`count` different members of a class, or as many as it has and then some again."""
        own = int(self.counts[label])
        order = torch.cat([torch.randperm(own, generator=generator) for _ in range(-(-count // own))])
        return self.rows[self.starts[label] + order[:count]]


@dataclass(frozen=True)
class TripletFeed:
    """Anchor, another draw of its class, a draw of another class: `Triplets((anchor,), labels, positive=…, negative=…)`."""

    order = Labelled.order

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Triplets:
        members = ClassMembers(dataset.labels)
        if len(members.present) < 2:
            raise ValueError(f"{dataset.name} has one class; triplets need a second one for their negatives.")
        own = dataset.labels[index]
        other = members.present[torch.randint(len(members.present) - 1, own.shape, generator=generator)]
        other = torch.where(other >= own, self._next(members.present, other), other)
        x = dataset.inputs(torch.cat([index, members.draw(own, generator), members.draw(other, generator)]))
        anchor, positive, negative = x.chunk(3)
        return Triplets((anchor,), own, index, positive=positive, negative=negative)

    @staticmethod
    def _next(present: Tensor, classes: Tensor) -> Tensor:
        """The class after each one, among those present: skipping one's own class keeps the draw uniform."""
        return present[torch.searchsorted(present, classes) + 1]


@dataclass(frozen=True)
class PerClass:
    """P classes and K samples of each in every batch, `Batch((x,), labels, index)`: what losses of pairs and triplets need.

    An epoch takes the classes in random order, each once, P at a time; the last few make no batch. A class of fewer than K samples gives
    some of them twice.

    Arguments:
        samples: K; the batch size of the loader is P · K.
    """

    samples: int = 4
    augment: nn.Module | Callable[[Tensor], Tensor] | None = None

    def order(
        self, dataset: Any, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        if batch_size % self.samples:
            raise ValueError(
                f"a batch of {batch_size} cannot hold {self.samples} samples of each class; give a multiple."
            )
        members = ClassMembers(dataset.labels)
        many = batch_size // self.samples
        if len(members.present) < many:
            raise ValueError(
                f"{dataset.name} has {len(members.present)} classes, and a batch of {batch_size} needs {many}; make it smaller."
            )
        classes = members.present[torch.randperm(len(members.present), generator=generator)]
        for chosen in classes[: len(classes) // many * many].split(many):
            yield torch.cat([members.some(c, self.samples, generator) for c in chosen.tolist()])

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Batch:
        return Labelled(self.augment).batch(dataset, index, generator)


@dataclass(frozen=True)
class Episodes:
    """Few-shot tasks: `ways` classes, `shots` supports and `queries` queries each; `count` episodes make an epoch."""

    ways: int = 5
    shots: int = 1
    queries: int = 15
    count: int = 100

    def order(
        self, dataset: Any, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        counts = torch.bincount(dataset.labels)
        rich = (counts >= self.shots + self.queries).nonzero().flatten()
        if len(rich) < self.ways:
            raise ValueError(
                f"{dataset.name} has {len(rich)} classes of at least {self.shots + self.queries} samples, "
                f"fewer than the {self.ways} of an episode; ask for fewer ways, shots or queries."
            )
        rows, starts = dataset.labels.argsort(stable=True), counts.cumsum(0) - counts
        for _ in range(self.count):
            classes = rich[torch.randperm(len(rich), generator=generator)[: self.ways]]
            members = [
                rows[starts[c] + torch.randperm(int(counts[c]), generator=generator)[: self.shots + self.queries]]
                for c in classes.tolist()
            ]
            yield torch.stack(members).flatten()

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Episode:
        rows = index.view(-1, self.shots + self.queries)
        support, query = rows[:, : self.shots], rows[:, self.shots :]
        x = dataset.inputs(torch.cat([support.flatten(), query.flatten()]))
        supports, queries = x[: support.numel()], x[support.numel() :]
        target = torch.arange(len(rows)).repeat_interleave(self.queries)
        return Episode((queries,), target, query.flatten(), support=supports.view(len(rows), self.shots, *x.shape[1:]))


@dataclass(frozen=True)
class Objects:
    """Images with boxes: `Batch((list of images,), list of targets, index)`.

    Arguments:
        flip: turns half of the training images over, with their boxes and masks.
    """

    flip: bool = True

    order = Labelled.order

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Batch:
        images, targets = dataset.inputs(index), [dataset.targets[i] for i in index.tolist()]
        if self.flip:
            turn = torch.rand(len(images), generator=generator) < 0.5
            pairs = [_turned(i, t) if now else (i, t) for i, t, now in zip(images, targets, turn.tolist(), strict=True)]
            images, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return Batch((images,), targets, index)


@dataclass(frozen=True)
class Pixels:
    """Images with a class for every pixel: `Batch((x,), classes (B, H, W) int64, index)`; 255 marks pixels without one.

    Arguments:
        flip: turns half of the training images over, with their classes.
    """

    flip: bool = True

    order = Labelled.order

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Batch:
        x, classes = dataset.inputs(index), dataset.masks[index].long()
        classes = classes.masked_fill(classes == dataset.ignore, 255)
        if self.flip:
            turn = torch.rand(len(index), generator=generator) < 0.5
            x = torch.where(turn[:, None, None, None], x.flip(3), x)
            classes = torch.where(turn[:, None, None], classes.flip(2), classes)
        return Batch((x,), classes, index)


def _turned(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """An image and its objects, left and right exchanged."""
    left, top, right, bottom = target["boxes"].unbind(1)
    width = image.shape[2]
    turned = {**target, "boxes": torch.stack([width - right, top, width - left, bottom], 1)}
    if "masks" in target:
        turned["masks"] = target["masks"].flip(2)
    return image.flip(2), turned


@dataclass(frozen=True)
class ManyGraphs:
    """Several of `Graphs` as one: `Batch((x, edge_index, edge_weight, batch), labels)`, where `batch` names each node's graph."""

    order = Labelled.order

    def batch(self, dataset: Any, index: Tensor, generator: torch.Generator) -> Batch:
        return Batch(dataset.inputs(index), dataset.labels[index], index)


@dataclass(frozen=True)
class WholeGraph:
    """A whole graph in every step, its loss on the rows of one mask: `GraphBatch(inputs, target, index, mask=…)`.

    A hypergraph gives (x, hyperedge_index, hyperedge_weight).

    `precompute(data) -> inputs` of a decoupled network is called once, when the loader is made, not once a step.
    """

    precompute: Callable[[Any], tuple] | None = None
    mask: str = "train_mask"

    def prepare(self, data: Any) -> GraphBatch:
        """The one batch of this graph."""
        if self.precompute is not None:
            inputs = self.precompute(data)
        elif "hyperedge_index" in data:
            inputs = (data.x, data.hyperedge_index, getattr(data, "hyperedge_weight", None))
        else:
            inputs = (data.x, data.edge_index, data.edge_weight)
        mask = getattr(data, self.mask)
        index = mask.nonzero().flatten()
        return GraphBatch(inputs, data.y[index], index, mask=mask)


class Loader:
    """Batches of a data set, in an order that is a pure function of (seed, epoch, rank).

    Arguments:
        dataset: what to draw from.
        kind: how (see the classes above).
        batch_size: samples a step on each process; the last, smaller batch is kept unless `drop_last`.
        seed: of the order and of the augmentation.
        normalize: (mean, std) a channel, applied last to every image of a batch.
        order: the samples of an epoch instead of a random permutation (a curriculum, a pruning sampler).
        rank, world: this process among `world` many; each takes every world-th sample of every step.
    """

    def __init__(
        self,
        dataset: Any,
        kind: Kind,
        batch_size: int,
        seed: int = 0,
        normalize: tuple[Tensor, Tensor] | None = None,
        order: Order | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.dataset, self.kind, self.batch_size, self.seed = dataset, kind, batch_size, seed
        self.normalize, self.order, self.drop_last, self.rank, self.world = normalize, order, drop_last, rank, world
        self.epoch, self.consumed, self._resume = 0, 0, 0

    def __len__(self) -> int:
        if isinstance(self.kind, Episodes):
            return self.kind.count
        if isinstance(self.kind, PerClass):
            return int(self.dataset.labels.unique().numel() // (self.batch_size * self.world // self.kind.samples))
        total = len(self.dataset) if self.order is None else len(self.order(self.epoch))
        steps = total / (self.batch_size * self.world)
        return math.floor(steps) if self.drop_last else math.ceil(steps)

    @property
    def sampler(self) -> Loader:
        """Itself: Lightning tells `loader.sampler.set_epoch` the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """How far this epoch is: enough to go on exactly, since the order is a function of the seed and the epoch."""
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self._resume = state["epoch"], state["consumed"]

    def __iter__(self) -> Iterator[Batch]:
        start, self._resume = self._resume, 0
        order = None if self.order is None else self.order(self.epoch)
        indices = self.kind.order(
            self.dataset, self.batch_size * self.world, generator(self.seed, "order", self.epoch), order
        )
        for step, index in enumerate(indices):
            if step < start:
                continue
            if self.drop_last and len(index) < self.batch_size * self.world and not isinstance(self.kind, Episodes):
                break
            self.consumed = step + 1
            yield self._batch(index, step)
        self.consumed = 0

    def _batch(self, index: Tensor, step: int) -> Batch:
        """Random augmentation takes torch's global generator, so it is seeded here and put back afterwards."""
        own = index if isinstance(self.kind, Episodes) else index[self.rank :: self.world]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "batch", self.epoch, step, self.rank))
            batch = self.kind.batch(self.dataset, own, generator(self.seed, "draw", self.epoch, step, self.rank))
        return batch if self.normalize is None else _normalized(batch, *self.normalize)


def _normalized(batch: Batch, mean: Tensor, std: Tensor) -> Batch:
    """Every image of the batch minus `mean`, over `std`."""

    def apply(x: Tensor) -> Tensor:
        return (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    batch.inputs = tuple(apply(x) for x in batch.inputs)
    if isinstance(batch, Views):
        batch.views = tuple(apply(x) for x in batch.views)
    for name in ("positive", "negative", "support"):
        if getattr(batch, name, None) is not None:
            setattr(batch, name, apply(getattr(batch, name)))
    return batch


class GraphLoader:
    """One batch, the whole graph, `steps` times an epoch: an epoch of a graph trained whole is one step."""

    def __init__(self, batch: GraphBatch, steps: int = 1) -> None:
        self.one, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[GraphBatch]:
        for _ in range(self.steps):
            yield self.one

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore: every step is the same batch."""


def feed(
    dataset: Any,
    kind: Kind | WholeGraph,
    batch_size: int = 128,
    seed: int = 0,
    normalize: tuple[Tensor, Tensor] | None = None,
    order: Order | None = None,
    drop_last: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Loader | GraphLoader:
    """The loader of one kind of batches over a data set; see `Loader` for the arguments.

    Raises a `ValueError` when the data set cannot give such batches.
    """
    is_graph = hasattr(dataset, "edge_index")
    if isinstance(kind, WholeGraph):
        if not is_graph:
            raise ValueError(
                f"{getattr(dataset, 'name', 'the data')} is not a graph, and a graph network was to be fed."
            )
        return GraphLoader(kind.prepare(dataset))
    if is_graph:
        raise ValueError(
            f"a graph cannot be fed as {type(kind).__name__}; use a graph network, or `mlp` on its node features."
        )
    return Loader(dataset, kind, batch_size, seed, normalize, order, drop_last, rank, world)
