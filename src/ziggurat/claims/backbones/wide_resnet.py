"""Wide ResNet: at equal parameters, wide shallow residual networks beat a thin deep one, and train faster.

Measured on CIFAR-10 reduced to 16 × 16 pixels (4,000 training and 2,000 test images): WRN-34-1 against WRN-10-2.49 and WRN-16-1.64, whose
real k makes their parameters equal within 3 percent. Five epochs at batch 32 with the paper's optimiser (SGD with Nesterov momentum 0.9
at 0.1, weight decay 5e-4) and its schedule scaled to the run (a fifth at 30, 60 and 80 percent), padded crops and flips. The better of the
two wide networks counts, by its accuracy on validation images (1,000, apart from the others). The specification's 8,000 images became
4,000 at half the batch: as many steps in half the time. The seconds are those of the training epochs on one thread.
"""

from __future__ import annotations

import time

import torch
from torch.nn.functional import avg_pool2d

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor, seconds_at_most
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import count_parameters, macs
from ziggurat.nn.recipe import Recipe, steps
from ziggurat.vision.backbones.wide_resnet import WideResNet

TRAIN, VALID, TEST, EPOCHS, BATCH, SIDE = 4_000, 1_000, 2_000, 5, 32, 16
NETS = {"thin": (34, 1.0), "wide10": (10, 2.49), "wide16": (16, 1.64)}

published = {5: "CIFAR-10 / 100 error: 40-4 4.53 / 21.18, 16-8 4.27 / 20.43, 28-10 4.00 / 19.25 (table 5)"}
notes = Notes(
    scope="Half a million parameters, 16-pixel images and 625 steps; the paper trains 200 epochs of CIFAR with up to 36 million.",
    methodology="Parameters within 3 percent, equal images, steps and optimiser; the wide network is chosen on validation images.",
    origin="One point and 0.8 of the time are the specification's.",
    easy="The widths are one real number.",
    hard="The wide networks' time: on one thread it is that of their multiply-accumulates, and equal parameters make those equal too.",
    why=(
        "implementation limits",
        "On one thread wide networks have no time to win: equal parameters make the multiply-accumulates equal within 3 percent, and one "
        "of them takes about as long in wide layers as in thin ones (support). The paper's times are those of a GPU.",
    ),
)


class Paper(Supervised):
    """The paper's optimiser and schedule."""

    def recipe(self) -> Recipe:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        return Recipe(optimizer, steps(0.3, 0.6, 0.8, factor=0.2))


def small(data: Images, count: int, seed: int) -> Images:
    """A stratified part of the images, at 16 × 16 pixels."""
    part = data.subset(stratified(data.labels, count / len(data), seed)[1])
    return Images(avg_pool2d(part.images.float(), 2).round().to(torch.uint8), part.labels, part.classes, part.name)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracies, seconds an epoch, parameters and multiply-accumulates of the three networks."""
    both, test = (
        small(run.data("cifar10", "train"), TRAIN + VALID, seed),
        small(run.data("cifar10", "test"), TEST, seed),
    )
    keep, held = stratified(both.labels, VALID / (TRAIN + VALID), seed)
    train, valid = both.subset(keep), both.subset(held)
    stats = channel_stats(train)
    values: dict[str, float] = {}
    for net, (depth, width) in run.progress(NETS.items(), "networks"):
        torch.manual_seed(seed)
        learner = Paper(WideResNet(depth, width))
        batches = feed(train, Labelled(standard_augment(SIDE, pad=2)), BATCH, seed, stats)
        start = time.perf_counter()
        fit(learner, batches, epochs=EPOCHS, seed=seed)
        values[f"{net}_seconds"] = (time.perf_counter() - start) / EPOCHS
        values[f"{net}_parameters"] = count_parameters(learner.network)
        values[f"{net}_macs"] = macs(learner.network, torch.zeros(1, 3, SIDE, SIDE))
        values[f"{net}_valid"] = accuracy(learner, valid, stats)
        values[net] = accuracy(learner, test, stats)
    best = max(("wide10", "wide16"), key=lambda net: values[f"{net}_valid"])
    for name in ("", "_seconds"):
        values[f"wide{name}"] = values[f"{best}{name}"]
    return values


def support(run: Run) -> dict[str, float]:
    """Multiply-accumulates against the thin network, and nanoseconds for each of them in training: the best of five steps."""
    x, values = torch.rand(BATCH, 3, SIDE, SIDE), {}
    for net, (depth, width) in NETS.items():
        network = WideResNet(depth, width)
        count = macs(network, x[:1])
        values[f"{net}_macs_per_thin"] = count / macs(WideResNet(*NETS["thin"]), x[:1])
        times = []
        for _ in range(5):
            start = time.perf_counter()
            network(x).square().mean().backward()
            times.append(time.perf_counter() - start)
        values[f"{net}_nanoseconds_per_mac"] = 1e9 * min(times) / (BATCH * count)
    return values


def measure(run: Run) -> Finding:
    """Accuracy, time, and that the parameters are equal."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("better wide network − thin network", 100 * (rows["wide"] - rows["thin"]), 1.0, "points"),
            seconds_at_most("seconds an epoch, wide / thin", rows["wide_seconds"] / rows["thin_seconds"], 0.8, ""),
            *(
                exactly(
                    f"difference of parameters, {net}",
                    100 * abs(rows[f"{net}_parameters"] / rows["thin_parameters"] - 1),
                    3.0,
                    "<=",
                    "percent",
                )
                for net in ("wide10", "wide16")
            ),
        ),
        floors=(floor("thin network", rows["thin"], 0.34),),
        measurements=rows,
    )
