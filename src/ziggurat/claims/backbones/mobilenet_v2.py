"""MobileNetV2: a ReLU in a thin layer destroys information, so thin layers are linear, and the shortcuts join them.

Measured on CIFAR-10 (8,000 training and 2,000 test images of its test part): seven inverted residuals of widths 8 to 32 with t = 6 at 16
pixels and below, 5 epochs. Arms: as in the paper; ReLU6 behind the projection; no shortcut; shortcut between the wide layers. And, without
training, the paper's figure 1: a spiral in the plane is lifted to n dimensions by a random matrix, passed through a ReLU, and brought back
by the best linear map; the error is relative to the spiral's norm, the mean of 200 draws.
"""

from __future__ import annotations

import numpy as np
import torch

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.feeds import feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.seeds import derive
from ziggurat.data.transforms import standard_augment
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2

TRAIN, TEST, EPOCHS, BATCH, RATE, DRAWS, POINTS = 8_000, 2_000, 5, 64, 3e-3, 200, 300
TABLE = ((1, 8, 1, 1), (6, 16, 2, 1), (6, 24, 2, 2), (6, 32, 2, 2))
ARMS: dict[str, dict] = {
    "linear": {},
    "relu6": {"linear": False},
    "no_shortcut": {"shortcut": None},
    "wide_shortcut": {"shortcut": "expansion"},
}

published = {6: "ImageNet top-1 72.0 at width 1.0, 74.7 at 1.4 (table 4)"}
notes = Notes(
    scope="Seven blocks on 8,000 small images; the paper trains 17 on ImageNet.",
    methodology="Same blocks, widths, images, steps and rate for every arm; only the switch differs.",
    origin="Half a point and the two errors are the specification's.",
    easy="The arms are two arguments of the block.",
    hard="The spiral must be decoded from the ReLU's features by least squares; the inverse of the lift would level off near one half.",
)


def spiral_error(n: int, rng: np.random.Generator) -> float:
    """Relative error of the best linear reconstruction from n rectified random directions, the mean over draws."""
    t = np.linspace(0, 3 * np.pi, POINTS)
    plane = np.stack([t * np.cos(t), t * np.sin(t)], 1) / (3 * np.pi)
    errors = []
    for _ in range(DRAWS):
        features = np.maximum(plane @ rng.normal(size=(2, n)), 0)
        back, *_ = np.linalg.lstsq(features, plane, rcond=None)
        errors.append(np.linalg.norm(features @ back - plane) / np.linalg.norm(plane))
    return float(np.mean(errors))


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy of every arm, and the spiral."""
    rng = np.random.default_rng(derive(seed, "spiral"))
    values = {f"spiral_{n}": spiral_error(n, rng) for n in (2, 3, 5, 15, 30)}
    train, test = run.data("cifar10", "train"), run.data("cifar10", "test")
    train = train.subset(stratified(train.labels, TRAIN / len(train), seed)[1])
    test = test.subset(stratified(test.labels, TEST / len(test), seed)[1])
    stats = channel_stats(train)
    for arm, switch in run.progress(ARMS.items(), "arms"):
        torch.manual_seed(seed)
        network = MobileNetV2(10, table=TABLE, stem=16, last=128, dropout=0.0, **switch)
        learner = Supervised(network, RATE)
        kind = type(learner.feed)(standard_augment(32))  # type: ignore[call-arg]
        fit(learner, feed(train, kind, BATCH, seed, stats), epochs=EPOCHS, seed=seed)
        values[arm] = accuracy(learner, test, stats)
    return values


def measure(run: Run) -> Finding:
    """The switches, and the spiral."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("linear − ReLU6 behind the projection", 100 * (rows["linear"] - rows["relu6"]), 0.5, "points"),
            at_least("shortcut − no shortcut", 100 * (rows["linear"] - rows["no_shortcut"]), 0.5, "points"),
            at_most("error of the spiral from 30 dimensions", rows["spiral_30"], 0.05),
            at_least("error of the spiral from 2 dimensions", rows["spiral_2"], 0.5),
        ),
        floors=(floor("ReLU6 behind the projection", rows["relu6"], 0.35),),
        measurements=rows,
    )
