"""Inception-ResNet: additions speed up the training of Inception networks at equal cost, and small residuals keep wide ones from dying.

Measured on CIFAR-10 reduced to 16 × 16 pixels (6,000 training and 1,500 test images, flips), with AdamW at a constant rate. First: six
blocks of the kind at 35 × 35, a quarter of their width, behind a stem of stride 2, as residual units of scale 0.17 and as plain twins of
equal cost, which lack the additions; in a second twin the last 1 × 1 of each block is normalised, as in a plain Inception network. How many
steps does the residual network need to reach the loss that the better twin has at its last step? Losses are the means of 50 steps; of
the rates 1e-3, 2e-3 and 4e-3 all three networks take the one at which both twins end lowest (seed 100). Second: six residual units of
1,024 channels with scale 1 and with scale 0.1 at a high rate, without anything that normalises the sum. A run counts as failed when its
loss is not finite or its mean activation before the pooling ends below 1e-3; a loss that is not finite is taken as that of guessing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, exactly, floor
from ziggurat.nn.branches import Style, make_branch
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.fitting import fit
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier
from ziggurat.vision.backbones.inception.inception_resnet import TABLE_V2, InceptionResNet, make_unit

TRAIN, TEST, BATCH, WINDOW, RATE, STEPS = 6_000, 1_500, 64, 50, 4e-3, 280
STEM, BLOCKS = ((3, 128, 2), (1, 320)), (((), TABLE_V2[0][1], 0.17, 6),)
WIDE_STEM, WIDE_UNIT = ((3, 32, 2), (3, 1024, 2)), (((1, 32),), ((1, 32), (3, 32)), ((1, 32), (3, 32), (3, 32)))
WIDE_RATE, WIDE_STEPS, WIDE_UNITS = 1e-2, 90, 6

published = {
    5: "ImageNet single crop, top-1/top-5 error: Inception-v3 21.2/5.6, Inception-ResNet-v1 21.3/5.5, v4 20.0/5.0, v2 19.9/4.9 (table 2)"
}
notes = Notes(
    scope="Six blocks of one kind and a few hundred steps; the paper trains whole networks on ImageNet.",
    methodology="The twins have the layers, images, steps, optimiser and rate of the residual network; the rate was chosen for the twins.",
    origin="0.8 of the steps, 0.1 of loss and 1e-3 of activation are the specification's.",
    easy="The difference of a residual unit and its twin is one addition.",
    hard="Six blocks and small images must suffice for what the paper saw in networks of thirty.",
)


class Constant(Supervised):
    """AdamW at a constant rate, so that losses at different steps can be compared."""

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or RATE, weight_decay=0.01))


class Losses(Callback):
    """The training loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


def small(data: Images, count: int, seed: int) -> Images:
    """A stratified part of the images, at 16 × 16 pixels."""
    part = data.subset(stratified(data.labels, count / len(data), seed)[1])
    pixels = avg_pool2d(part.images.float(), 2).round().to(torch.uint8)
    return Images(pixels, part.labels, part.classes, part.name)


def flip(x: Tensor) -> Tensor:
    """Each image mirrored with probability one half."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def stack(kind: str) -> nn.Module:
    """Six blocks with additions, or without them, or without them and with a normalisation behind each."""
    residual = kind == "residual"
    network = InceptionResNet(BLOCKS, STEM, 0, 10, width=1 / 4, padding="same", dropout=0.0, residual=residual)
    if kind == "normalised":
        for twin in network.stages[0]:  # type: ignore[attr-defined]
            last = twin[0][1]
            twin[0][1] = ConvNormAct(last.in_channels, last.out_channels, 1, norm=Style().norm, act=None)
        init_relu_network(network)
    return network


def wide(scale: float) -> nn.Module:
    """Six units of 1,024 channels at 4 × 4 places."""
    style = Style(valid=False)
    stem, channels = make_branch(3, WIDE_STEM, style)
    units = [make_unit(channels, WIDE_UNIT, style, scale) for _ in range(WIDE_UNITS)]
    network = nn.Sequential(stem, *units, Classifier(channels, 10))
    init_relu_network(network)
    return network


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Losses and accuracies of the six-block networks; losses and activations of the wide ones."""
    train, test = small(run.data("cifar10", "train"), TRAIN, seed), small(run.data("cifar10", "test"), TEST, seed)
    stats = channel_stats(train)
    values: dict[str, float] = {}
    curves: dict[str, np.ndarray] = {}
    for kind in run.progress(("plain", "normalised", "residual"), "networks"):
        torch.manual_seed(seed)
        learner, losses = Constant(stack(kind), RATE), Losses()
        fit(learner, feed(train, Labelled(flip), BATCH, seed, stats), steps=STEPS, seed=seed, callbacks=[losses])
        curves[kind] = np.convolve(losses.values, np.ones(WINDOW) / WINDOW, "valid")
        values |= {f"{kind}_loss": curves[kind][-1], kind: accuracy(learner, test, stats)}
    goal = min(curves["plain"][-1], curves["normalised"][-1])
    reached = np.flatnonzero(curves["residual"] <= goal)
    values["steps"] = (reached[0] + WINDOW) / STEPS if len(reached) else 2.0
    for scale in run.progress((1.0, 0.1), "wide networks"):
        torch.manual_seed(seed)
        learner, losses = Constant(wide(scale), WIDE_RATE), Losses()
        batches = feed(train, Labelled(flip), BATCH, seed, stats)
        try:
            fit(learner, batches, steps=WIDE_STEPS, seed=seed, callbacks=[losses])
            loss = float(np.mean(losses.values[-20:]))
            body = learner.network[:-1]  # type: ignore[index]
            activation = float(body(next(iter(batches)).inputs[0]).mean().detach())
        except FloatingPointError:
            loss, activation = math.log(10), 0.0
        values |= {f"wide{scale:g}_loss": loss, f"wide{scale:g}_activation": activation}
        values[f"wide{scale:g}_failed"] = float(activation < 1e-3)
    return values


def measure(run: Run) -> Finding:
    """The additions, and the scale of wide residuals."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_most("steps of the residual network to the better twin's last loss, of all steps", rows["steps"], 0.8),
            exactly("failed runs of wide residuals at scale 0.1", rows["wide0.1_failed"], 0),
            at_least(
                "final loss of wide residuals, scale 1 − scale 0.1", rows["wide1_loss"] - rows["wide0.1_loss"], 0.1
            ),
        ),
        floors=(floor("plain twin", rows["plain"], 0.3), floor("normalised twin", rows["normalised"], 0.3)),
        measurements=rows,
    )
