"""ML-CapsNet: a capsule layer for each level and a loss that goes from coarse to fine beat one flat capsule network at all levels.

Measured on Fashion-MNIST with 2, 6 and 10 classes (12,000 training images, 4,000 of the test). Arms: ML-CapsNet; ML-CapsNet with constant
weights of the levels; CapsNet, the same with the finest level only, whose prediction gives the coarse ones; a branch CNN with a head for
each level and about as many parameters. 4 epochs of 64 images, Adam at 3e-3. CapsNet is consistent by construction, so that consistency,
the share of images whose predictions lie on one way, is compared between the two ML-CapsNets only.

Changed from the specification: a first convolution of 32 channels instead of 64 and a smaller decoder. The rate was the better of 1e-3 and
3e-3 for each of the three capsule networks on 1,000 validation images of seed 100. With 3,000 images all of them were still far from
trained there, and the flat one, whose whole loss is on the finest level, was 2 and 5 points ahead.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import Batch
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import feed
from ziggurat.data.label_tree import LabelTree
from ziggurat.data.loading import stratified
from ziggurat.data.taxonomies import FASHION_MNIST, numbered
from ziggurat.learning.hierarchy.ml_capsnet import MLCapsNet, MLCapsNetLearner
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.metrics.hierarchy import consistency, hierarchical_scores
from ziggurat.nn.fitting import fit
from ziggurat.nn.learner import Learner
from ziggurat.nn.profile import count_parameters

EPOCHS, BATCH, RATE, TRAIN, TEST = 4, 64, 3e-3, 12_000, 4_000
WIDTH, TYPES, DECODER = 32, 8, (128, 256)
ARMS = ("adaptive", "constant", "capsnet", "branch_cnn")

published: dict[int, str] = {}
notes = Notes(
    scope="12,000 images of one of the paper's six sets, small capsules, 4 epochs.",
    methodology="Same images, epochs, optimiser and rate for all arms.",
    origin="0.3, −0.3, −0.1 and 0.5 points are the specification's.",
    easy="A level is one more capsule layer on the same primary capsules.",
    hard="The paper's formula for the weights of the levels could not be read; ours starts with 1 / |K| and follows what is still wrong.",
    why=(
        "scale",
        "Four epochs of 12,000 images are a hundredth of the paper's training. The flat network spends all of it on the finest level, "
        "whose prediction gives the others; the one with levels is behind by less the longer both train (support).",
    ),
)


class BranchCNN(nn.Module):
    """The rival: three convolutions, and behind each of them the head of a level. X. Zhu, M. Bain, 2017, arXiv:1709.09890."""

    def __init__(self, sizes: tuple[int, ...], hidden: int = 285) -> None:
        super().__init__()
        widths = (1, 32, 64, 128)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in pairwise(widths)
        )
        inner = [hidden * widths[-1] // w for w in widths[1:]]  # heads of equal size
        self.heads = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * w, h), nn.ReLU(), nn.Linear(h, k))
            for w, h, k in zip(widths[1:], inner, sizes, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        logits = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            x = stage(x)
            logits.append(head(x))
        return logits


class Branches(Learner):
    """Trains it by the mean of the cross-entropies of its levels."""

    levels: Tensor

    def __init__(self, network: nn.Module, levels: Tensor, lr: float | None = None) -> None:
        super().__init__(network, lr)
        self.register_buffer("levels", levels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        labels = self.levels[batch.target]
        terms = [cross_entropy(z, labels[:, n], reduction="none") for n, z in enumerate(self.network(*batch.inputs))]
        return {f"level{n}": term / len(terms) for n, term in enumerate(terms)}


def part(images: Images, count: int, seed: int) -> Images:
    """Some of the images, with equal shares of all classes."""
    return images.subset(stratified(images.labels, count / len(images), seed)[1])


def tree_of(levels: Tensor) -> LabelTree:
    """The classes, then the nodes of the levels above, then the root."""
    coarse, middle, fine = (int(column.max()) + 1 for column in levels.T)
    parent = torch.full((fine + middle + coarse + 1,), fine + middle + coarse)
    parent[:fine] = fine + levels[:, 1]
    parent[fine + levels[:, 1]] = fine + middle + levels[:, 0]
    parent[-1] = -1
    return LabelTree(parent, torch.arange(fine))


@torch.no_grad()
def predictions(learner: Learner, images: Images, levels: Tensor) -> list[Tensor]:
    """Of each level; a network of one level gives the others what lies above its prediction."""
    parts = [learner.network(images.inputs(index)) for index in torch.arange(len(images)).split(250)]
    said = [torch.cat(scores).argmax(1) for scores in zip(*parts, strict=True)]
    return [levels[said[0], n] for n in range(levels.shape[1])] if len(said) == 1 else said


def accuracies(said: list[Tensor], labels: Tensor, levels: Tensor) -> list[float]:
    """Share of right predictions on each level."""
    return [float((p == levels[labels, n]).float().mean()) for n, p in enumerate(said)]


def make(arm: str, levels: Tensor) -> Learner:
    """The learner of an arm."""
    sizes = tuple(int(column.max()) + 1 for column in levels.T)
    if arm == "branch_cnn":
        return Branches(BranchCNN(sizes), levels, RATE)
    used = levels[:, -1:] if arm == "capsnet" else levels
    network = MLCapsNet(sizes[-used.shape[1] :], width=WIDTH, types=TYPES)
    return MLCapsNetLearner(network, used, adaptive=arm == "adaptive", decoder=DECODER, lr=RATE)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracies, consistency and hierarchical F1 of every arm."""
    train, test = (part(run.data("fashion_mnist", name), n, seed) for name, n in (("train", TRAIN), ("test", TEST)))
    levels = numbered([FASHION_MNIST[name] for name in train.classes])
    tree, values = tree_of(levels), dict[str, float]()
    parents = [torch.zeros(6, dtype=torch.int64).scatter(0, levels[:, 1], levels[:, 0]), levels[:, 1]]
    for arm in run.progress(ARMS, "arms"):
        torch.manual_seed(seed)
        learner = make(arm, levels)
        fit(learner, feed(train, learner.feed, BATCH, seed), epochs=EPOCHS, seed=seed)
        said = predictions(learner, test, levels)
        each = accuracies(said, test.labels, levels)
        values |= {f"{arm}_level{n}": value for n, value in enumerate(each)}
        values[f"{arm}_mean"] = sum(each) / len(each)
        values[f"{arm}_consistency"] = consistency(said, parents)
        values[f"{arm}_f1"] = hierarchical_scores(said[-1], test.labels, tree).f1
        values[f"{arm}_parameters"] = count_parameters(learner)
    return values


def measure(run: Run) -> Finding:
    """All levels against one, and moving weights against constant ones."""
    rows = run.each_seed(one_seed)
    mean, fine = rows["adaptive_mean"], rows["adaptive_level2"]
    consistent = rows["adaptive_consistency"] - rows["constant_consistency"]
    return Finding(
        clauses=(
            at_least("mean over levels, ML-CapsNet − CapsNet", 100 * (mean - rows["capsnet_mean"]), 0.3, "points"),
            at_least("finest level, ML-CapsNet − CapsNet", 100 * (fine - rows["capsnet_level2"]), -0.3, "points"),
            at_least(
                "mean over levels, moving − constant weights", 100 * (mean - rows["constant_mean"]), -0.1, "points"
            ),
            at_least("consistency, moving − constant weights", 100 * consistent, 0.5, "points"),
        ),
        floors=(floor("CapsNet at the finest level", rows["capsnet_level2"], 0.7),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Mean accuracy over the levels, ML-CapsNet − CapsNet, after one and two epochs, seed 100."""
    train, test = (part(run.data("fashion_mnist", name), n, 100) for name, n in (("train", TRAIN), ("test", TEST)))
    levels, found = numbered([FASHION_MNIST[name] for name in train.classes]), dict[str, float]()
    for epochs in run.progress((1, 2), "epochs"):
        means = []
        for arm in ("adaptive", "capsnet"):
            torch.manual_seed(100)
            learner = make(arm, levels)
            fit(learner, feed(train, learner.feed, BATCH, 100), epochs=epochs, seed=100)
            means.append(sum(accuracies(predictions(learner, test, levels), test.labels, levels)) / 3)
        found[f"gain_after_{epochs}_epochs"] = 100 * (means[0] - means[1])
    return found
