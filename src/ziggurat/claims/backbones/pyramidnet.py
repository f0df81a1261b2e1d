"""PyramidNet: widening a little at every unit is more accurate than doubling where the map shrinks, and spreads importance over units.

Measured on CIFAR-10 reduced to 16 × 16 pixels (6,000 training and 2,000 test images): a PyramidNet of 20 layers whose widths grow from 8 by
24 to 32 (half the paper's smallest, for the time), against a pre-activation residual network of 20 layers that doubles twice, with the
same shortcuts without parameters and a first width that makes the parameters equal within 3 percent. Twelve epochs at batch 64 with the
paper's optimiser (SGD with Nesterov momentum 0.9 at 0.1, weight decay 1e-4, a tenth at half and three quarters), padded crops and flips.
Lesions: the test accuracy lost when a unit passes on its shortcut alone; D is the mean loss of the two units that halve the map over the
mean loss of the other seven.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, exactly, floor
from ziggurat.nn.conv import init_relu_network
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import count_parameters
from ziggurat.nn.recipe import Recipe, steps
from ziggurat.nn.staged import Staged
from ziggurat.vision.backbones.pyramidnet import PyramidNet, PyramidUnit
from ziggurat.vision.backbones.wide_resnet import PreactHead

TRAIN, TEST, EPOCHS, BATCH, SIDE = 6_000, 2_000, 12, 64, 16
UNITS, START, ALPHA = 3, 8, 24

published: dict[int, str] = {}
notes = Notes(
    scope="20 layers of up to 32 channels on 16-pixel images; the paper has 110 and more layers and 300 epochs.",
    methodology="Equal depth, parameters within 3 percent, shortcuts, images, steps and optimiser; the same lesions for both.",
    origin="Both signs are the specification's; the paper reports that deleting a downsampling unit hurts a ResNet most (section 3).",
    easy="A lesion is a unit without its branch.",
    hard="The paper's pre-activation network has another unit; the shortcuts are made equal so that widening and unit are what differs.",
)


class Abrupt(PyramidNet):
    """A pre-activation residual network of three groups: its width doubles where the map shrinks."""

    def __init__(self, units: int, width: float, num_classes: int) -> None:
        Staged.__init__(self)
        widths = [round(width * factor) for factor in (1, 2, 4)]
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        stages, channels = [], widths[0]
        for group, out in enumerate(widths):
            blocks: list[nn.Module] = []
            for i in range(units):
                stride = 2 if group and not i else 1
                blocks.append(PyramidUnit(preactivated(channels, out, stride), channels, out, stride))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides, self.num_features = tuple(widths), (1, 2, 4), channels
        self.head = PreactHead(channels, num_classes)
        init_relu_network(self)


def preactivated(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """BN – ReLU – 3×3 (stride) – BN – ReLU – 3×3."""
    first = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
    second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), first, nn.BatchNorm2d(width), nn.ReLU(), second)


def matched(count: int) -> float:
    """The first width whose network has a number of parameters closest to `count`."""
    return min(np.arange(START, 2 * START, 0.05), key=lambda w: abs(count_parameters(Abrupt(UNITS, w, 10)) - count))


class Paper(Supervised):
    """The paper's optimiser and schedule."""

    def recipe(self) -> Recipe:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        return Recipe(optimizer, steps(0.5, 0.75))


def small(data: Images, count: int, seed: int) -> Images:
    """A stratified part of the images, at 16 × 16 pixels."""
    part = data.subset(stratified(data.labels, count / len(data), seed)[1])
    return Images(avg_pool2d(part.images.float(), 2).round().to(torch.uint8), part.labels, part.classes, part.name)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Parameters, accuracy, and the accuracy lost with each unit, of both networks."""
    train, test = small(run.data("cifar10", "train"), TRAIN, seed), small(run.data("cifar10", "test"), TEST, seed)
    stats = channel_stats(train)
    values: dict[str, float] = {}
    pyramid = PyramidNet((UNITS,) * 3, ALPHA, start=START)
    width = matched(count_parameters(pyramid))
    for name in run.progress(("pyramid", "abrupt"), "networks"):
        torch.manual_seed(seed)
        network = PyramidNet((UNITS,) * 3, ALPHA, start=START) if name == "pyramid" else Abrupt(UNITS, width, 10)
        learner = Paper(network)
        batches = feed(train, Labelled(standard_augment(SIDE, pad=2)), BATCH, seed, stats)
        fit(learner, batches, epochs=EPOCHS, seed=seed)
        values[name] = accuracy(learner, test, stats)
        values[f"{name}_parameters"] = count_parameters(network)
        for k in range(1, 3 * UNITS + 1):
            values[f"{name}_lost{k}"] = values[name] - accuracy(Paper(network.delete_unit(k)), test, stats)
    return values


def ratio(rows: dict[str, np.ndarray], name: str) -> np.ndarray:
    """D: mean loss of the units that halve the map over the mean loss of the others."""
    lost = np.stack([rows[f"{name}_lost{k}"] for k in range(1, 3 * UNITS + 1)])
    halving = [UNITS, 2 * UNITS]
    return lost[halving].mean(0) / np.delete(lost, halving, 0).mean(0)


def measure(run: Run) -> Finding:
    """Accuracy and the spread of importance."""
    rows = run.each_seed(one_seed)
    difference = 100 * abs(rows["abrupt_parameters"] / rows["pyramid_parameters"] - 1)
    return Finding(
        clauses=(
            at_least("accuracy, PyramidNet − abrupt", 100 * (rows["pyramid"] - rows["abrupt"]), 0.0, "points"),
            at_most("D, PyramidNet − abrupt", ratio(rows, "pyramid") - ratio(rows, "abrupt"), 0.0),
            exactly("difference of parameters", difference, 3.0, "<=", "percent"),
        ),
        floors=(floor("abrupt network", rows["abrupt"], 0.47),),
        measurements={**rows, "pyramid_d": ratio(rows, "pyramid"), "abrupt_d": ratio(rows, "abrupt")},
    )
