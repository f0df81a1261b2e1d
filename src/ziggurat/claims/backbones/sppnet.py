"""SPPNet: pyramid pooling frees a network from one input size, gains by its levels and by training at several sizes, and describes all
windows of an image from one map.

Measured on scenes of heights and widths from {32, 48, 64}: one Fashion-MNIST object of 20 to 28 pixels, undistorted, anywhere on a
photograph (5,400 to train on, one size a batch), and tested on 1,000 scenes of each of the sizes 40 × 72, 72 × 40 and 56 × 56, which no
arm has seen, with other objects and photographs. Three convolutions of stride 4 in all, the pooling, a fully connected layer of 128; 4
epochs. Arms: grids of 4, 3, 2 and 1; the same trained on scenes of 48 × 48 only; a grid of 1 only; and for the fixed size of 48 × 48 a
grid of 6 (2 × 2 pooling of 12 × 12 maps, as in front of the fully connected layers of a network without a pyramid), whose images are
warped, or cut and padded around their middle; its fully connected layer has the most weights of all arms. Then the time to describe 100
windows of a 64 × 64 scene: cropped, warped to 48 × 48 and sent through the convolutions, or pooled from one map. Timed are five
convolutions of 96 to 256 channels, nearer to the paper's ZF-5: the three narrow ones cost little beside pooling (ratio 0.23 in the trial).
Photographs are a third as bright: with full ones no fixed-size arm came above 0.20. A rate of 5e-3 kept the order of the arms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, Loader
from ziggurat.data.loading import channel_stats
from ziggurat.data.placed import MixedSizes, centred, one_object, warped
from ziggurat.data.seeds import derive, generator
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, floor, seconds_at_most
from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.nn.fitting import fit
from ziggurat.nn.operators.spatial_pyramid_pool import spp_regions
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.sppnet import SPPNet

SEEN = tuple((h, w) for h in (32, 48, 64) for w in (32, 48, 64))
UNSEEN, SIDE = ((40, 72), (72, 40), (56, 56)), 48
TRAIN, TEST, EPOCHS, BATCH, RATE, HIDDEN, WINDOWS = 5_400, 1_000, 4, 64, 2e-3, 128, 100
PYRAMID, TIMED, DIM = (4, 3, 2, 1), (96, 192, 256, 256, 256), 1 / 3

published: dict[int, str] = {}
notes = Notes(
    scope="Scenes of one object and three convolutions; the paper trains ZF-5 and Overfeat-7 on ImageNet and detects on VOC 2007.",
    methodology="Same convolutions, width, images a step, steps and rate for every arm; the one-size arm draws its objects from the same.",
    origin="Two points, half a point and ten times are the specification's.",
    easy="The pyramid is adaptive max pooling.",
    hard="Scenes must differ in shape and objects must not, or warping would do no harm.",
    why=("criterion", "Objects lie anywhere; where they fill the scene, so that places mean much, four levels lead."),
)


class Convolutions(Staged):
    """3×3 convolutions, the first two of stride 2."""

    def __init__(self, channels: tuple[int, ...] = (24, 48, 64)) -> None:
        super().__init__()
        self.stem, self.channels, self.num_features = nn.Identity(), channels, channels[-1]
        self.strides = (2, *[4] * (len(channels) - 1))
        pairs = zip((3, *channels), channels, strict=False)
        self.stages = nn.ModuleList([ConvNormAct(a, b, 3, 2 if i < 2 else 1) for i, (a, b) in enumerate(pairs)])
        self.head = Classifier(self.num_features, 0)
        init_relu_network(self)


ARMS: dict[str, tuple[tuple[int, ...], Callable[[Images, int], Images] | None]] = {
    "multi_size": (PYRAMID, None),
    "one_size": (PYRAMID, None),
    "one_level": ((1,), None),
    "warp": ((6,), warped),
    "crop": ((6,), centred),
}


def seconds(network: SPPNet, scene: Tensor, boxes: Tensor) -> dict[str, float]:
    """Time of describing the windows of a scene in the two ways; the best of five."""
    corners = (boxes.long() + torch.tensor([0, 0, 1, 1])).tolist()
    times: list[tuple[float, float]] = []
    for _ in range(5):
        start = time.perf_counter()
        windows = [scene[:, :, y0:y1, x0:x1] for x0, y0, x1, y1 in corners]
        parts = torch.cat([interpolate(window, (SIDE, SIDE), mode="bilinear") for window in windows])
        cropped = network.head.pool(network.forward_features(parts)[-1])  # type: ignore[union-attr, operator]
        middle = time.perf_counter()
        pooled = spp_regions(network.forward_features(scene)[-1], [boxes], 4, PYRAMID)
        times.append((middle - start, time.perf_counter() - middle))
        assert cropped.shape == pooled.shape
    return dict(zip(("cropped_seconds", "pooled_seconds"), map(min, zip(*times, strict=True)), strict=True))


def scores(arm: str, train: Sequence[Images], tests: Sequence[Images], seed: int) -> list[float]:
    """Accuracies of an arm, trained on parts of one size each."""
    levels, fixed = ARMS[arm]
    train = [fixed(part, SIDE) if fixed else part for part in train]
    stats = channel_stats(train[len(train) // 2])
    torch.manual_seed(seed)
    learner = Supervised(SPPNet(Convolutions(), 10, levels, (HIDDEN,), dropout=0.0), RATE)
    loaders = [Loader(part, Labelled(), BATCH, derive(seed, i), stats) for i, part in enumerate(train)]
    fit(learner, MixedSizes(loaders, seed), epochs=EPOCHS, seed=seed)
    return [accuracy(learner, fixed(part, SIDE) if fixed else part, stats) for part in tests]


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy of every arm at the unseen sizes, and the two times."""
    glyphs, photographs = run.data("fashion_mnist", "train"), [(p * DIM).byte() for p in run.data("photographs")]
    mixed = [one_object(glyphs, photographs[::2], s, TRAIN // len(SEEN), seed=derive(seed, "train", *s)) for s in SEEN]
    square = [one_object(glyphs, photographs[::2], (SIDE, SIDE), TRAIN, seed=derive(seed, "square"))]
    glyphs = run.data("fashion_mnist", "test")
    tests = [one_object(glyphs, photographs[1::2], s, TEST, seed=derive(seed, "test", *s)) for s in UNSEEN]
    values: dict[str, float] = {}
    for arm in run.progress(ARMS, "arms"):
        found = scores(arm, square if arm == "one_size" else mixed, tests, seed)
        values |= {arm: float(np.mean(found))} | {f"{arm}_{h}x{w}": x for (h, w), x in zip(UNSEEN, found, strict=True)}
    scene = one_object(glyphs, photographs[1::2], (64, 64), 1, seed=derive(seed, "windows")).inputs([0])
    corners = torch.rand(WINDOWS, 2, 2, generator=generator(seed, "windows")) * 64
    network = SPPNet(Convolutions(TIMED), 10, PYRAMID, (HIDDEN,)).eval()
    with torch.inference_mode():
        values |= seconds(network, scene, torch.cat([corners.amin(1), corners.amax(1)], 1))
    return values


def measure(run: Run) -> Finding:
    """The pyramid against fixed sizes, one size and one level; and the times."""
    rows = run.each_seed(one_seed)
    multi, times = rows["multi_size"], rows["pooled_seconds"] / rows["cropped_seconds"]
    return Finding(
        clauses=(
            at_least("multi-size pyramid − warping", 100 * (multi - rows["warp"]), 2.0, "points"),
            at_least("multi-size pyramid − cropping", 100 * (multi - rows["crop"]), 2.0, "points"),
            at_least("training at several sizes − at one", 100 * (multi - rows["one_size"]), 0.0, "points"),
            at_least("four levels − one", 100 * (multi - rows["one_level"]), 0.5, "points"),
            seconds_at_most("time of 100 windows, from one map / cropped", times, 0.1),
        ),
        floors=(floor("warping", rows["warp"], 0.35),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Four levels and one on scenes of 32 × 32, which objects of 28 pixels nearly fill (seed 100)."""
    photographs, data = [(p * DIM).byte() for p in run.data("photographs")], []
    for split, start, count in (("train", 0, TRAIN), ("test", 1, TEST)):
        glyphs = run.data("fashion_mnist", split)
        data.append([one_object(glyphs, photographs[start::2], (32, 32), count, (28, 28), derive(100, split))])
    return {f"{arm}_filled": scores(arm, *data, 100)[0] for arm in ("multi_size", "one_level")}
