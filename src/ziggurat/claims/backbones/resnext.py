"""ResNeXt: at equal cost, more branches lower the training loss and the test error.

Measured on CIFAR-10 (8,000 training images and all 10,000 for the test): a 3×3 stem of stride 2 and 64 channels, a max pool, then three
units with outputs of 64, 128 and 256 channels. One, two and eight branches a unit, their widths chosen so that the convolutions of all
units together have 81,152, 78,760 and 81,808 weights. 5 epochs of the paper's recipe (SGD at 0.1, momentum 0.9, weight decay 5e-4,
batch 128, divided by 10 at half and three quarters). The training loss is taken over the whole training set at the end, in evaluation mode
and without augmentation. Of the specification's 10,000 training images, its wider net that is only reported, and its 2,000 test images the
first two were cut and the max pool added for time; the test grew because half a point is less than the chance of 2,000 images.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.features import logits
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import count_parameters
from ziggurat.nn.recipe import Recipe, steps
from ziggurat.nn.staged import Classifier
from ziggurat.vision.backbones.resnet import Bottleneck
from ziggurat.vision.backbones.resnext import aggregate

TRAIN, EPOCHS, BATCH, STEM, WIDTHS = 8_000, 5, 128, 64, (16, 32, 64)
ARMS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "one": (1, (16, 32, 64)),
    "two": (2, (10, 20, 40)),
    "eight": (8, (4, 7, 15)),
}
"""Cardinality, and the width of a branch in each unit."""

published = {6: "ImageNet top-1 error 23.9 (ResNet-50), 22.2 (32x4d); 22.0 (ResNet-101), 21.2 (32x4d) (table 3)"}
notes = Notes(
    scope="Three units on 8,000 small images; the paper trains 50 and 101 layers on ImageNet.",
    methodology="Equal weights in the units, images, steps and recipe; only number and width of the branches differ.",
    origin="Half a point and the order of the losses are the specification's.",
    easy="A grouped convolution is the whole change.",
    hard="Widths of branches are whole numbers, so the weights agree to three percent only.",
)


class Paper(Supervised):
    """The paper's optimiser and schedule."""

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.SGD(self.parameters(), 0.1, 0.9, weight_decay=5e-4), steps(0.5, 0.75))


def make(cardinality: int, branches: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network of an arm."""
    parts: list[nn.Module] = [ConvNormAct(3, STEM, 3, 2), nn.MaxPool2d(3, 2, 1)]
    channels = STEM
    for i, (width, branch) in enumerate(zip(WIDTHS, branches, strict=True)):
        unit = Bottleneck(channels, width, 2 if i else 1)
        aggregate(unit, cardinality, branch)
        parts.append(unit)
        channels = 4 * width
    network = nn.Sequential(*parts, Classifier(channels, classes))
    init_relu_network(network)
    return network


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Training loss, accuracy and parameters of every arm."""
    train, test = run.data("cifar10", "train"), run.data("cifar10", "test")
    train = train.subset(stratified(train.labels, TRAIN / len(train), seed)[1])
    stats = channel_stats(train)
    values: dict[str, float] = {}
    for arm, (cardinality, branches) in run.progress(ARMS.items(), "arms"):
        torch.manual_seed(seed)
        learner = Paper(make(cardinality, branches, len(train.classes)))
        values[f"{arm}_parameters"] = count_parameters(learner.network)
        fit(learner, feed(train, Labelled(standard_augment(32)), BATCH, seed, stats), epochs=EPOCHS, seed=seed)
        values[f"{arm}_loss"] = float(cross_entropy(logits(learner, train, normalize=stats), train.labels))
        values[arm] = accuracy(learner, test, stats)
    return values


def measure(run: Run) -> Finding:
    """Losses by cardinality, and the accuracy of eight branches against one."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("training loss, one branch − two", rows["one_loss"] - rows["two_loss"], 0.0),
            at_least("training loss, two branches − eight", rows["two_loss"] - rows["eight_loss"], 0.0),
            at_least("accuracy, eight branches − one", 100 * (rows["eight"] - rows["one"]), 0.5, "points"),
            exactly("parameters, eight branches / one", rows["eight_parameters"] / rows["one_parameters"], 1.03, "<="),
        ),
        floors=(floor("one branch", rows["one"], 0.47),),
        measurements=rows,
    )
