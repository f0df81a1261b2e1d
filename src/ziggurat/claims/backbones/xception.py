"""Xception: at equal parameters the more the channels are filtered apart the better, and nothing should stand between the two steps.

Measured on CIFAR-10 (8,000 training and all 10,000 test images): two ordinary convolutions of stride 2, three blocks of width
48, one that strides, two of width 96, a last convolution, and the classifier; two convolutions a block. Arms: separable convolutions; a 1×1
and then four towers, or one, their widths set so that the parameters agree within 3 %; a ReLU, or an ELU, between the two steps of the
separable ones. 3 epochs of AdamW at 3e-3, which on validation images of seed 100 was better than 1e-2 or as good for the separable
convolutions and for one tower.

Changed from the specification: 3 epochs in place of 6, which keeps five arms and three seeds affordable, and 10,000 test images in place
of 2,000, because differences of 0.2 points are asked for. The floor is what one tower reached in the pilot (45.0), less 4 points.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import count_parameters
from ziggurat.nn.recipe import Recipe, warmup_cosine
from ziggurat.nn.separable import SeparableConv2d
from ziggurat.nn.staged import Classifier
from ziggurat.vision.backbones.xception import ActivatedSeparable, Convolution, InceptionSpectrum, Unit, XceptionBlock

TRAIN, EPOCHS, BATCH, RATE = 8_000, 3, 64, 3e-3
ARMS: dict[str, tuple[Convolution, tuple[int, int]]] = {
    "separable": (SeparableConv2d, (48, 96)),
    "four_towers": (partial(InceptionSpectrum, towers=4), (32, 56)),
    "one_tower": (partial(InceptionSpectrum, towers=1), (16, 34)),
    "relu": (ActivatedSeparable, (48, 96)),
    "elu": (partial(ActivatedSeparable, act=nn.ELU), (48, 96)),
}
"""The convolution, and the two widths."""

published = {5: "ImageNet top-1 / top-5: Xception .790 / .945, Inception v3 .782 / .941 (table 1)"}
notes = Notes(
    scope="Six blocks on 8,000 small images; the paper trains 14 modules on ImageNet and JFT.",
    methodology="Same images, steps, optimiser and schedule for every arm; parameters agree within 3 %.",
    origin="1 point and 0.2 points are the specification's.",
    easy="Every arm is one argument of the block.",
    hard="Half of the differences are smaller than what a few thousand test images can tell.",
    why=(
        "chance",
        "The one open clause grants the ELU 0.2 points. In eight seeds the difference lies at that value with a spread of 0.7, and other "
        "initial weights alone change the accuracy of one and the same network by more than 0.2 points (support).",
    ),
)


class Rated(Supervised):
    """AdamW with a short warm-up and a cosine."""

    def recipe(self) -> Recipe:
        optimizer = torch.optim.AdamW(self.parameters(), self.lr or RATE, weight_decay=self.weight_decay)
        return Recipe(optimizer, warmup_cosine)


def make(conv: Convolution, widths: tuple[int, int], classes: int = 10) -> nn.Sequential:
    """Two strided convolutions, three blocks at 8 × 8 places, one that strides, two at 4 × 4, a last convolution, and the classifier."""
    narrow, wide = widths
    network = nn.Sequential(
        ConvNormAct(3, 24, 3, 2),
        ConvNormAct(24, narrow, 3, 2),
        *(XceptionBlock((narrow,) * 3, conv=conv) for _ in range(3)),
        XceptionBlock((narrow, wide, wide), 2, conv=conv),
        *(XceptionBlock((wide,) * 3, conv=conv) for _ in range(2)),
        Unit(conv(wide, wide), wide, "last"),
        Classifier(wide, classes),
    )
    init_relu_network(network)
    return network.to(memory_format=torch.channels_last)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy and parameters of every arm."""
    train, test = run.data("cifar10", "train"), run.data("cifar10", "test")
    train = train.subset(stratified(train.labels, TRAIN / len(train), seed)[1])
    stats, values = channel_stats(train), {}
    for arm, (conv, widths) in run.progress(ARMS.items(), "arms"):
        torch.manual_seed(seed)
        learner = Rated(make(conv, widths, len(train.classes)), RATE)
        values[f"{arm}_parameters"] = count_parameters(learner.network)
        fit(learner, feed(train, Labelled(), BATCH, seed, stats), epochs=EPOCHS, seed=seed)
        values[arm] = accuracy(learner, test, stats)
    return values


def measure(run: Run) -> Finding:
    """One tower a channel against one and four; nothing between the steps against a ReLU and an ELU."""
    rows = run.each_seed(one_seed)
    unequal = [abs(rows[f"{arm}_parameters"] / rows["separable_parameters"] - 1) for arm in ARMS]
    return Finding(
        clauses=(
            at_least("separable − one tower", 100 * (rows["separable"] - rows["one_tower"]), 1.0, "points"),
            at_least("no activation − ReLU", 100 * (rows["separable"] - rows["relu"]), 0.2, "points"),
            at_least("no activation − ELU", 100 * (rows["separable"] - rows["elu"]), -0.2, "points"),
            exactly("difference of parameters", max(float(u.max()) for u in unequal), 0.03, "<="),
        ),
        floors=(floor("one tower", rows["one_tower"], 0.41),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Accuracy of the separable network on one and the same data, from three initial weights."""
    train, test = run.data("cifar10", "train"), run.data("cifar10", "test")
    train = train.subset(stratified(train.labels, TRAIN / len(train), 100)[1])
    stats, found, (conv, widths) = channel_stats(train), {}, ARMS["separable"]
    for weights in run.progress((100, 101, 102), "initial weights"):
        torch.manual_seed(weights)
        learner = Rated(make(conv, widths, len(train.classes)), RATE)
        fit(learner, feed(train, Labelled(), BATCH, 100, stats), epochs=EPOCHS, seed=100)
        found[f"separable_weights_{weights}"] = accuracy(learner, test, stats)
    return found
