"""ResNet: plain networks get worse with depth even on their training data; identity shortcuts remove that, so deeper is better.

Measured on CIFAR-10 reduced to 16 × 16 pixels (6,000 training and 2,000 test images, widths 8/16/32): plain and residual
networks of 14 and 44 layers, all trained with the same schedule (SGD at 0.1 with momentum 0.9 and weight decay 1e-4, batch 64,
divided by 10 at half and three quarters of the run; horizontal flips only). The training loss is taken over the whole training
set at the end, in evaluation mode. Forty epochs were chosen on seed 100: after 24 of batch 128 the deep residual network had
not caught up yet. Images come from re-compressed JPEGs, so their accuracy does not compare with published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.learning.features import logits
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.recipe import Recipe, steps
from ziggurat.vision.backbones.resnet import cifar_resnet

EPOCHS, BATCH, WIDTHS = 40, 64, (8, 16, 32)

published = {6: "CIFAR-10 error 8.75 (20 layers), 7.51 (32), 7.17 (44), 6.97 (56), 6.43 (110) (table 6)"}
notes = Notes(
    scope="16-pixel images and a thousand steps; the paper trains 64,000 steps on whole CIFAR-10, and ImageNet networks too.",
    methodology="Plain and residual networks of the same depth and width have the same parameters; schedule, batches and seed are equal.",
    origin="0.1 and 0.02 of training loss and 5 points of accuracy are the specification's.",
    easy="The degradation of the plain network shows within minutes.",
    hard="Choosing a run that is short and yet long enough for the deep residual network to pass the shallow one.",
)


class Paper(Supervised):
    """The paper's optimiser and schedule."""

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4), steps(0.5, 0.75))


def small(data: Images, count: int, seed: int) -> Images:
    """A stratified part of the images, at 16 × 16 pixels."""
    part = data.subset(stratified(data.labels, count / len(data), seed)[1])
    pixels = avg_pool2d(part.images.float(), 2).round().to(torch.uint8)
    return Images(pixels, part.labels, part.classes, part.name)


def flip(x: Tensor) -> Tensor:
    """Each image mirrored with probability one half."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Final training loss and test accuracy of the four networks."""
    train, test = small(run.data("cifar10", "train"), 6_000, seed), small(run.data("cifar10", "test"), 2_000, seed)
    stats = channel_stats(train)
    values: dict[str, float] = {}
    for kind, shortcut in (("plain", None), ("residual", "A")):
        for depth in (14, 44):
            torch.manual_seed(seed)
            learner = Paper(cifar_resnet(depth, 10, widths=WIDTHS, shortcut=shortcut))
            fit(learner, feed(train, Labelled(flip), BATCH, seed, stats), epochs=EPOCHS, seed=seed)
            values[f"{kind}{depth}_loss"] = float(cross_entropy(logits(learner, train, normalize=stats), train.labels))
            right = logits(learner, test, normalize=stats).argmax(1) == test.labels
            values[f"{kind}{depth}"] = float(right.float().mean())
    return values


def measure(run: Run) -> Finding:
    """Training losses by depth, and accuracy of the deep networks."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("training loss, plain-44 − plain-14", rows["plain44_loss"] - rows["plain14_loss"], 0.1),
            at_most(
                "training loss, residual-44 − residual-14", rows["residual44_loss"] - rows["residual14_loss"], 0.02
            ),
            at_least("accuracy, residual-44 − plain-44", 100 * (rows["residual44"] - rows["plain44"]), 5.0, "points"),
        ),
        floors=(floor("plain-14", rows["plain14"], 0.40),),
        measurements=rows,
    )
