"""Feature identification: levels that look at their own coordinates give better representations at all levels than one shared loss.

Measured on Fashion-MNIST (2, 6 and 10 classes; six of ten classes are clothes; 3,000 training images) and on Tiny-ImageNet's 60 classes
in 12 groups at 32 pixels (64 training images a class, and 21 in three of the groups). Arms: HMLC without masks, once as published and once
with levels that weigh their classes alike, the supervised contrastive loss on leaves, and, all with such levels, HMLC with random masks
that share the 64 coordinates out evenly, G-HMLC with masks fitted after the third and the sixth epoch, A-HMLC with learned ones; 8 epochs
of 128 images in two views, AdamW, a residual network of widths 16, 32, 64. Each takes its rate from {1e-3, 4e-3} by the linear probe on
validation images, averaged over the levels; so is chosen which HMLC is the baseline, and which of G and A is the paper's. The probes of the
table look at all coordinates. Specificity: the probe of a level on m ⊙ z, less that on (1 − m) ⊙ z.

Changed from the specification: crops and flips are the views, because stronger ones take longer than the network. Changed after a first
measurement: only the published HMLC was there, so that masks and balance were added at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.taxonomies import FASHION_MNIST, numbered
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.features import encode
from ziggurat.learning.hierarchy.hmlc_features import (
    AHMLC,
    GHMLC,
    HMLC,
    FixedMasks,
    HMLCLoss,
    class_moments,
    fisher_ratios,
)
from ziggurat.learning.probes import linear_probe, probe_accuracy
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.resnet import ResNet

EPOCHS, BATCH, WIDTHS, RATES, REFIT = 8, 128, (16, 32, 64), (1e-3, 4e-3), 3
TRAIN, VALID, TEST = 3_000, 1_000, 2_000  # of Fashion-MNIST
CUT, CUT_TO = 3, 1 / 3  # how many groups of Tiny-ImageNet keep which share of their images
ARMS = ("hmlc", "hmlc_balanced", "supcon", "random", "gaussian", "attention")

published = {
    5: "about 2 points over earlier hierarchical contrastive losses in linear evaluation (CIFAR-100, ModelNet40; abstract)"
}
notes = Notes(
    scope="Two small sets and a small network for 8 epochs; the paper trains on CIFAR-100 and ModelNet40.",
    methodology="Same images, views, epochs and network for all arms, the rate of each chosen on validation images.",
    origin="Half a point over both baselines and a specificity above 0 are the specification's.",
    easy="The base loss is published code; a mask is one multiplication.",
    hard="What the paper's mixture is fitted to could not be read: here it is the variance between classes over that within them.",
    why=(
        "implementation limits",
        "On Tiny-ImageNet 1.2 of the 1.8 points are lost by levels that weigh their classes alike, without a mask (22.7 against 23.9 %). "
        "Masks add nothing to that: coordinates that tell the groups apart tell their classes apart too, so that the ratios that our "
        "mixture is fitted to go together on both levels (0.96), neither mask gains half a point, and no specificity is further from 0 "
        "than its spread (support).",
    ),
)


class Task(NamedTuple):
    """Images to train on, to choose by and to test, and the labels of every class."""

    train: Images
    valid: Images
    test: Images
    levels: Tensor


def fashion(run: Run, seed: int) -> Task:
    """Fashion-MNIST with its three levels."""
    whole, test = run.data("fashion_mnist", "train"), run.data("fashion_mnist", "test")
    both = whole.subset(stratified(whole.labels, (TRAIN + VALID) / len(whole), seed)[1])
    keep, held = stratified(both.labels, VALID / len(both), seed)
    test = test.subset(stratified(test.labels, TEST / len(test), seed)[1])
    return Task(both.subset(keep), both.subset(held), test, numbered([FASHION_MNIST[name] for name in whole.classes]))


def tiny_imagenet(run: Run, seed: int) -> Task:
    """Tiny-ImageNet with two levels at 32 pixels; some of its groups are small."""
    parts = []
    for split in ("train", "test"):
        data = run.data("tiny_imagenet_60", split)
        halved = avg_pool2d(data.images.float(), 2).round().to(torch.uint8)
        parts.append(Images(halved, data.labels, data.classes, data.name, groups=data.groups))
    whole, test = parts
    levels = numbered([(group,) for group in whole.groups])
    keep, held = stratified(whole.labels, 1 / 5, seed)
    train = whole.subset(keep)
    small = torch.isin(levels[train.labels, 0], torch.arange(CUT) + seed % (12 - CUT))
    rows = small.nonzero().flatten()
    fewer = rows[stratified(train.labels[rows], CUT_TO, seed)[1]]
    return Task(train.subset(torch.cat([(~small).nonzero().flatten(), fewer])), whole.subset(held), test, levels)


def make(arm: str, rate: float, task: Task, seed: int) -> HMLC:
    """The learner of an arm."""
    torch.manual_seed(seed)
    _, channels, _, size = task.train.images.shape
    network, view = ResNet("basic", (1, 1, 1), 0, channels, WIDTHS), standard_augment(size)
    many, width = task.levels.shape[1], WIDTHS[-1]
    if arm == "gaussian":
        return GHMLC(network, task.levels, view, every=REFIT, lr=rate)
    if arm == "attention":
        return AHMLC(network, task.levels, view, lr=rate)
    if arm == "random":
        owner = torch.arange(width)[torch.randperm(width)] % many
        return FixedMasks(network, task.levels, torch.nn.functional.one_hot(owner, many).T.float(), view, lr=rate)
    used = task.levels[:, -1:] if arm == "supcon" else task.levels
    return HMLC(network, used, view, HMLCLoss(balanced=arm == "hmlc_balanced"), rate)


class Trained(NamedTuple):
    """Mean accuracy of the probes on validation images, accuracies of each level on test images, and what the masks need."""

    chosen: float
    test: list[float]
    learner: HMLC
    vectors: list[Tensor]


def trained(arm: str, rate: float, task: Task, seed: int) -> Trained:
    """An arm at a rate, and its probes."""
    learner, stats = make(arm, rate, task, seed), channel_stats(task.train)
    fit(learner, feed(task.train, learner.feed, BATCH, seed, stats), epochs=EPOCHS, seed=seed)
    vectors = [encode(learner, part, normalize=stats) for part in task[:3]]
    valid, test = [], []
    for level in range(task.levels.shape[1]):
        probe, labels = linear_probe(), [task.levels[part.labels, level] for part in task[:3]]
        valid.append(probe_accuracy(probe, (vectors[0], labels[0]), (vectors[1], labels[1])))
        test.append(float((torch.from_numpy(probe.predict(vectors[2].numpy())) == labels[2]).float().mean()))
    return Trained(sum(valid) / len(valid), test, learner, vectors)


@torch.no_grad()
def specificity(found: Trained, task: Task) -> list[float]:
    """Of each level the probe on its own coordinates, less that on the others."""
    train, test = found.vectors[0], found.vectors[2]
    masks = [found.learner.masks(z[:, None]) for z in (train, test)]
    values = []
    for level in range(task.levels.shape[1]):
        own, rest = [], []
        for z, m, part in zip((train, test), masks, (task.train, task.test), strict=True):
            assert m is not None
            mask, labels = m[..., level, :].reshape(-1, z.shape[1]), task.levels[part.labels, level]
            own.append((mask * z, labels))
            rest.append(((1 - mask) * z, labels))
        values.append(probe_accuracy(linear_probe(), *own) - probe_accuracy(linear_probe(), *rest))
    return values


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Mean accuracy over the levels of every arm on both data sets, and the specificities of the better of G and A.

    `no_masks` is the better of the two HMLC, `ours` that of G and A, both by validation.
    """
    values = {}
    for name, prepare in (("fashion", fashion), ("tiny", tiny_imagenet)):
        task, best = prepare(run, seed), {}
        for arm in run.progress(ARMS, name):
            best[arm] = best_on_validation([trained(arm, rate, task, seed) for rate in RATES])
            values[f"{name}_{arm}"] = sum(best[arm].test) / len(best[arm].test)
            values |= {f"{name}_{arm}_level{n}": value for n, value in enumerate(best[arm].test)}
        plain = best_on_validation([best["hmlc"], best["hmlc_balanced"]])
        ours = best_on_validation([best["gaussian"], best["attention"]])
        for what, chosen in (("no_masks", plain), ("ours", ours)):
            values[f"{name}_{what}"] = sum(chosen.test) / len(chosen.test)
        values |= {f"{name}_specificity_level{n}": value for n, value in enumerate(specificity(ours, task))}
    return values


def measure(run: Run) -> Finding:
    """The better of G and A against no masks and random ones."""
    rows = run.each_seed(one_seed)
    clauses = []
    for name in ("fashion", "tiny"):
        for arm in ("no_masks", "random"):
            gain = 100 * (rows[f"{name}_ours"] - rows[f"{name}_{arm}"])
            what = "no masks" if arm == "no_masks" else "random masks"
            clauses.append(at_least(f"{name}, mean over levels, identified features − {what}", gain, 0.5, "points"))
    clauses += [at_least(key.replace("_", " "), 100 * rows[key], 0, "points") for key in rows if "specificity" in key]
    return Finding(
        clauses=tuple(clauses),
        floors=(
            floor("HMLC on Fashion-MNIST", rows["fashion_no_masks"], 0.75),
            floor("HMLC on Tiny-ImageNet, where chance is 0.05", rows["tiny_no_masks"], 0.15),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Tiny-ImageNet at the lower rate, mean and spread over seeds 100 to 104, in points but for the first.

    Without masks, on balanced levels: Spearman's ρ, over the coordinates, of what the two levels' Gaussian mixture is fitted to, the ratios
    of variances between and within classes. G-HMLC and A-HMLC: mean over the levels, less that without masks; specificity of each level.
    """
    rows = []
    for seed in run.progress(range(100, 105), "seeds"):
        task = tiny_imagenet(run, seed)
        arms = {arm: trained(arm, RATES[0], task, seed) for arm in ("hmlc_balanced", "gaussian", "attention")}
        plain = arms.pop("hmlc_balanced")
        ratios = fisher_ratios(class_moments(plain.vectors[0], task.train.labels, len(task.levels)), task.levels)
        row = {"correlation_of_the_levels_ratios": spearmanr(*ratios.numpy()).statistic}
        for arm, found in arms.items():
            row[f"{arm}_gain"] = 100 * (np.mean(found.test) - np.mean(plain.test))
            row |= {f"{arm}_specificity_level{n}": 100 * value for n, value in enumerate(specificity(found, task))}
        rows.append(row)
    each = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {f"{name}{end}": of for name, x in each.items() for end, of in (("", x.mean()), ("_spread", x.std(ddof=1)))}
