"""HiResNet: residuals from all earlier levels make several backbones more accurate, and let them learn faster.

Measured on CIFAR-10 reduced to 16 × 16 pixels (6,000 training and 2,000 test images): a ResNet-10 of first width 16 and the plain network
without its local shortcuts, each with all hierarchical residuals and, as the baseline, wider by as many parameters instead. Seven epochs
at batch 64, AdamW with warm-up and cosine, padded crops and flips. The test accuracy is taken after every epoch: its mean says how fast a
network learns, its last value how far it comes. (The specification's 8,000 images of 32 pixels would take four times as long.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import count_parameters
from ziggurat.vision.backbones.hiresnet import HiResNet
from ziggurat.vision.backbones.resnet import ResNet, Shortcut

TRAIN, TEST, EPOCHS, BATCH, SIDE, WIDTH = 6_000, 2_000, 7, 64, 16, 16
BASES: dict[str, Shortcut] = {"resnet": "B", "plain": None}

published = {
    5: "Evaluated on CIFAR-10, CIFAR-100 and Tiny-ImageNet with plain, ResNet and ResNeXt bases",
    6: "Residuals into the output side are the most useful ones",
}
notes = Notes(
    scope="Ten layers on 16-pixel images and 660 steps; the paper trains ResNet-18 and ResNeXt on whole data sets.",
    methodology="The baseline is wider by the parameters of the residuals (within 1 percent); images, steps and rates are equal.",
    origin="Half a point of the epochs' mean and the sign of the last epoch are the specification's.",
    easy="The residuals are put around a base that knows nothing of them.",
    hard="The paper's projection could not be read in full; pooling, 1×1 convolution and BN are our reading.",
)


def base(shortcut: Shortcut, width: float = WIDTH) -> ResNet:
    """ResNet-10 or the plain network, with a real-valued first width."""
    widths = [round(width * 2**i) for i in range(4)]
    return ResNet("basic", (1, 1, 1, 1), 10, widths=widths, stem="cifar", shortcut=shortcut)


def matched(shortcut: Shortcut, count: int) -> float:
    """The first width whose network has a number of parameters closest to `count`."""
    return min(np.arange(WIDTH, WIDTH + 2, 0.05), key=lambda w: abs(count_parameters(base(shortcut, w)) - count))


class Curve(Callback):
    """The test accuracy after every epoch."""

    def __init__(self, test: Images, stats: tuple[Tensor, Tensor]) -> None:
        self.test, self.stats = test, stats
        self.values: list[float] = []

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        self.values.append(accuracy(learner, self.test, self.stats))


def small(data: Images, count: int, seed: int) -> Images:
    """A stratified part of the images, at 16 × 16 pixels."""
    part = data.subset(stratified(data.labels, count / len(data), seed)[1])
    return Images(avg_pool2d(part.images.float(), 2).round().to(torch.uint8), part.labels, part.classes, part.name)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Parameters, mean accuracy over the epochs, and last accuracy of the four networks."""
    train, test = small(run.data("cifar10", "train"), TRAIN, seed), small(run.data("cifar10", "test"), TEST, seed)
    stats = channel_stats(train)
    values: dict[str, float] = {}
    for name, shortcut in run.progress(BASES.items(), "bases"):
        count = count_parameters(HiResNet(base(shortcut)))
        width = matched(shortcut, count)
        for arm in ("hierarchical", "wider"):
            torch.manual_seed(seed)
            network = HiResNet(base(shortcut)) if arm == "hierarchical" else base(shortcut, width)
            learner, curve = Supervised(network), Curve(test, stats)
            batches = feed(train, Labelled(standard_augment(SIDE, pad=2)), BATCH, seed, stats)
            fit(learner, batches, epochs=EPOCHS, seed=seed, callbacks=[curve])
            values[f"{name}_{arm}_parameters"] = count_parameters(network)
            values[f"{name}_{arm}_mean"] = float(np.mean(curve.values))
            values[f"{name}_{arm}"] = curve.values[-1]
    return values


def measure(run: Run) -> Finding:
    """Speed and accuracy, the mean over both bases."""
    rows = run.each_seed(one_seed)

    def gain(what: str) -> np.ndarray:
        return 100 * np.mean([rows[f"{b}_hierarchical{what}"] - rows[f"{b}_wider{what}"] for b in BASES], axis=0)

    return Finding(
        clauses=(
            at_least("mean over epochs, hierarchical − wider", gain("_mean"), 0.5, "points"),
            at_least("last epoch, hierarchical − wider", gain(""), 0.0, "points"),
            *(
                exactly(
                    f"difference of parameters, {b}",
                    100 * abs(rows[f"{b}_wider_parameters"] / rows[f"{b}_hierarchical_parameters"] - 1),
                    1.0,
                    "<=",
                    "percent",
                )
                for b in BASES
            ),
        ),
        floors=tuple(floor(f"wider {b}", rows[f"{b}_wider"], 0.46) for b in BASES),
        measurements=rows,
    )
