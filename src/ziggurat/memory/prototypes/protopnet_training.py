"""How a ProtoPNet is trained, in rounds of three stages: parts are learned, made real, and weighed.

    1. everything but the last layer:  cross-entropy + 0.8 · min_{own} d_j − 0.08 · min_{other} d_j   (means over images)
    2. push: each prototype becomes the nearest latent patch of a training image of its class
    3. the last layer alone, which is convex:  cross-entropy + 1e-4 · Σ_{other} |w_kj|

The first distance draws a patch of each image to a prototype of its class; the second one keeps all of them away from the others'.

C. Chen et al., 2018, arXiv:1806.10574, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.data.batch import Batch
from ziggurat.data.datasets import Table
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.seeds import derive
from ziggurat.memory.prototypes.protopnet import (
    ProtoPNet,
    PrototypeHead,
    activation_boxes,
    log_similarity,
    patch_distances,
)
from ziggurat.nn.fitting import fit
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe


def own_and_other(
    distances: Float[Tensor, "B m"], owner: Int64[Tensor, " m"], target: Int64[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Least distance of each image to the prototypes of its class, and to those of the other classes."""
    own = target[:, None] == owner
    return distances.masked_fill(~own, math.inf).amin(1), distances.masked_fill(own, math.inf).amin(1)


class ProtoPNetLearner(Learner):
    """Stage 1. The last layer is fixed, and the backbone too for the first part of the run.

    Arguments:
        network: a `ProtoPNet` of two classes or more.
        cluster, separation: weights of the two distances.
        warm: fraction of the run in which the backbone is fixed.
        backbone_lr: of the backbone; it is divided by 10 at half of the rest of the run.
        lr: of the 1×1 convolutions and the prototypes.
    """

    network: ProtoPNet

    def __init__(
        self,
        network: ProtoPNet,
        cluster: float = 0.8,
        separation: float = 0.08,
        warm: float = 0.5,
        backbone_lr: float = 1e-4,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if not isinstance(network.head.last, nn.Linear) or network.head.last.out_features < 2:
            raise ValueError("ProtoPNet is trained with two classes or more; build it with num_classes.")
        if not 0 <= warm < 1:
            raise ValueError(f"warm is a fraction of the run, at least 0 and below 1, got {warm}.")
        self.cluster, self.separation, self.warm, self.backbone_lr = cluster, separation, warm, backbone_lr
        network.requires_grad_(True)
        network.head.last.requires_grad_(False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        head = self.network.head
        nearest = self.network.distances(*batch.inputs).flatten(2).amin(2)
        own, other = own_and_other(nearest, head.owner, batch.target)
        return {
            "cross_entropy": cross_entropy(head.score(nearest), batch.target, reduction="none"),
            "cluster": self.cluster * own,
            "separation": -self.separation * other,
        }

    def recipe(self) -> Recipe:
        """Adam: 3e-3 for what is new, 1e-4 for the backbone after the warm-up."""
        head = self.network.head
        new = [*head.add_on.parameters(), head.prototypes]
        groups = [
            {"params": self.network.backbone.parameters(), "lr": self.backbone_lr},
            {"params": new, "lr": self.lr or 3e-3},
        ]
        half = (1 + self.warm) / 2
        return Recipe(
            torch.optim.Adam(groups),
            [lambda f: 0.0 if f < self.warm else 0.1 if f >= half else 1.0, lambda f: 1.0],
        )


class LastLayer(Learner):
    """Stage 3, on a table of similarities: they do not change while only the last layer learns.

    Arguments:
        last: the last layer.
        others: weights (K, m) that should become 0: those to the prototypes of other classes.
        l1: how strongly.
    """

    others: Tensor

    def __init__(self, last: nn.Module, others: Tensor, l1: float = 1e-4, lr: float | None = None) -> None:
        super().__init__(last, lr)
        last.requires_grad_(True)
        self.l1 = l1
        self.register_buffer("others", others)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        weight = self.network.weight
        assert isinstance(weight, Tensor)
        return {
            "cross_entropy": cross_entropy(self.network(*batch.inputs), batch.target, reduction="none"),
            "sparsity": self.l1 * (weight * self.others).abs().sum(),
        }

    def recipe(self) -> Recipe:
        """Adam at 1e-4."""
        return Recipe(torch.optim.Adam(self.network.parameters(), lr=self.lr or 1e-4))


@torch.no_grad()
def push(network: ProtoPNet, batches: Iterable[Batch]) -> Float[Tensor, " m"]:
    """Stage 2: prototypes become patches; returns how far (squared) each one moved.

    Arguments:
        batches: of the training images, not augmented, with their classes and ids. A class without an image keeps its prototypes.

    The image and the place of each are written into the head's `source` and `source_box`.
    """
    mode, head = network.training, network.head
    network.eval()
    every = torch.arange(len(head.prototypes), device=head.prototypes.device)
    least = torch.full_like(head.prototypes[:, 0], math.inf)
    patches, source, boxes = head.prototypes.clone(), head.source.clone(), head.source_box.clone()
    for batch in batches:
        z = head.add_on(network.forward_features(*batch.inputs)[-1])
        distances = patch_distances(z, head.prototypes)
        own = (batch.target[:, None] == head.owner)[..., None, None]
        value, place = distances.masked_fill(~own, math.inf).flatten(2).min(2)
        value, row = value.min(0)
        better = value < least
        cell = place[row, every]
        least = torch.where(better, value, least)
        patches = torch.where(better[:, None], z.flatten(2)[row, :, cell], patches)
        source = torch.where(better, batch.index[row], source)
        height, width = batch.inputs[0].shape[-2:]
        found = activation_boxes(log_similarity(distances[row, every], head.eps), (height, width))
        boxes = torch.where(better[:, None], found, boxes)
    head.prototypes.copy_(patches)
    head.source, head.source_box = source, boxes
    network.train(mode)
    return torch.where(least.isfinite(), least, 0.0)


class Nearest(NamedTuple):
    """For each prototype the images with the nearest patches, nearest first: squared distances, ids and classes, (m, k) each."""

    distances: Tensor
    images: Tensor
    labels: Tensor


@torch.no_grad()
def nearest_images(network: ProtoPNet, batches: Iterable[Batch], count: int) -> Nearest:
    """The `count` images nearest to each prototype; each image counts with its nearest patch."""
    mode, head = network.training, network.head
    network.eval()
    found: Nearest | None = None
    for batch in batches:
        distances = network.distances(*batch.inputs).flatten(2).amin(2).T
        new = Nearest(distances, batch.index.expand_as(distances), batch.target.expand_as(distances))
        both = new if found is None else Nearest(*(torch.cat(pair, 1) for pair in zip(found, new, strict=True)))
        order = both.distances.argsort(dim=1, stable=True)[:, :count]
        found = Nearest(*(part.gather(1, order) for part in both))
    network.train(mode)
    if found is None or found.images.shape[1] < count:
        raise ValueError(f"there are fewer than {count} images; give more of them, or ask for fewer neighbours.")
    assert len(found.images) == len(head.prototypes)
    return found


def purity(network: ProtoPNet, batches: Iterable[Batch], count: int = 10) -> Float[Tensor, " m"]:
    """Share of the images nearest to each prototype that are of its class."""
    return (nearest_images(network, batches, count).labels == network.head.owner[:, None]).float().mean(1)


def prune(network: ProtoPNet, batches: Iterable[Batch], neighbours: int = 6, least: int = 3) -> int:
    """Takes out prototypes that stand for no class: fewer than `least` of their nearest images are of their own. Returns how many."""
    labels = nearest_images(network, batches, neighbours).labels
    kept = (labels == network.head.owner[:, None]).sum(1) >= least
    network.head.keep(kept)
    return int((~kept).sum())


@torch.no_grad()
def evidence(network: ProtoPNet, batches: Iterable[Batch], name: str = "evidence") -> Table:
    """Similarities of images to all prototypes, as a table with their classes."""
    mode, classes = network.training, network.head.last.out_features
    network.eval()
    found = [(network.forward_head(network.forward_features(*b.inputs), pre_logits=True), b.target) for b in batches]
    network.train(mode)
    x, labels = (torch.cat(part) for part in zip(*found, strict=True))
    return Table(x, labels, tuple(map(str, range(int(classes)))), name)  # type: ignore[arg-type]


def train_last_layer(
    network: ProtoPNet,
    batches: Iterable[Batch],
    epochs: int = 20,
    l1: float = 1e-4,
    lr: float | None = None,
    batch_size: int = 80,
    seed: int = 0,
) -> None:
    """Stage 3: weighs the similarities of images that are not augmented."""
    head: PrototypeHead = network.head
    table = evidence(network, batches)
    learner = LastLayer(head.last, ~head.owns(), l1, lr)
    fit(learner, feed(table, Labelled(), batch_size, seed), epochs=epochs, seed=seed)


def train_protopnet(
    learner: ProtoPNetLearner,
    batches: Iterable[Batch],
    plain: Iterable[Batch],
    rounds: int = 2,
    epochs: int = 10,
    last_epochs: int = 20,
    last_lr: float | None = None,
    seed: int = 0,
) -> ProtoPNet:
    """The three stages, several times over; the warm-up is in the first round only.

    Arguments:
        batches: for stage 1; may be augmented.
        plain: the same images without augmentation, for stages 2 and 3.
        epochs: of stage 1 in each round.
        last_epochs, last_lr: of stage 3.
    """
    network = learner.network
    for turn in range(rounds):
        last = network.head.last
        last.requires_grad_(False)
        fit(learner, batches, epochs=epochs, seed=derive(seed, "protopnet", turn))
        push(network, plain)
        train_last_layer(network, plain, last_epochs, lr=last_lr, seed=derive(seed, "last", turn))
        learner.warm = 0.0
    return network.eval()
