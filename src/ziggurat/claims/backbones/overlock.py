"""OverLoCK: an overview that guides kernels made for every place lets detail and context meet where they are needed.

Measured on 1,000 drawn scenes (1,500 for testing) of 96 × 96 grey pixels: a digit c of 16 pixels near the middle, one of four, and near
the border a cue, a ring (q = 0) or a cross (q = 1); the label is (c + 2 q) mod 4, which no sum of a score of the digit and one of the cue
can tell. The network against the same with static kernels in ContMix's place, and with a context of zeros. 20 epochs of AdamW at 4e-3.

Changed from the specification: four digits in place of ten, and the digit 0 is drawn four times as often as each other one. With equal
counts neither factor alone says anything of the label, and in 12 epochs of 6,000 scenes no arm came further than the half that the digit
alone gives (seed 100); so the cue has a small part in the label from the start. 96 pixels in place of 64: of levels of 2, 4, 8 and 16
pixels the last map has then 6 × 6 places, which kernels of 5 × 5 do not span. At 64 pixels they do, and everything was in reach of all
arms: measured there on the same seeds, the network was 0.7 points ahead of static kernels, 0.2 behind no context, its reach 0.9 of theirs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.seeds import derive, generator
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import count_parameters
from ziggurat.vision.backbones.overlock import OverLoCK
from ziggurat.vision.backbones.overlock_blocks import FocusBlock, Guided

CLASSES, SIDE, DIGIT, CUE, NOISE = 4, 96, 16, 11, 0.05
TRAIN, TEST, EPOCHS, BATCH, RATE, COMMON = 1_000, 1_500, 20, 64, 4e-3, 4.0
WIDTHS = {"overlock": (8, 12, 16, 16), "static": (8, 12, 20, 16), "unguided": (8, 12, 20, 16)}

published = {5: "ImageNet top-1 82.7 / 84.2 / 84.8 / 85.1 (XT, T, S, B) at 224"}
notes = Notes(
    scope="A reduced network of 47,000 parameters on drawn scenes; the paper trains XT to B on ImageNet, and detects and segments.",
    methodology="Same images, steps and rate for every arm; the widths of the baselines are raised until they have no fewer parameters.",
    origin="Two points and the factor of 1.3 are the specification's.",
    easy="The overview and ContMix are single modules, so that the arms replace one of them.",
    hard="A label that needs both factors gives no gradient to either until one of them has a part of its own.",
    why=(
        "recipe",
        "In 20 epochs a training finds the rule, and ends at 96 percent or more, or stays at the 83 to 88 that the common digit "
        "allows. With dynamic kernels it stayed there on all of seeds 0, 1, 2 and 100, at the one rate that was tried; static "
        "kernels found it on two of these, no context on two. The support has its accuracy on its own training scenes: whether "
        "steps or another rate would help is open.",
    ),
)


class Static(nn.Module):
    """What stands in ContMix's place: a depthwise kernel of the same size that is equal everywhere, and the same projection."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.project = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor, context: Tensor, value: Tensor) -> Tensor:
        return self.project(self.depthwise(value))


class Unguided(nn.Module):
    """What stands in the overview's place: a context of zeros."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.context = context

    def forward(self, x: Tensor) -> Guided:
        start = x.new_zeros(len(x), self.context, *x.shape[2:])
        coarse = x.new_zeros(len(x), self.context, *(-(-n // 2) for n in x.shape[2:]))
        return Guided(torch.cat([x, start], 1), start, coarse, coarse)


def make(arm: str) -> OverLoCK:
    """The network of an arm."""
    dims = WIDTHS[arm]
    network = OverLoCK((0, 0, 1, 1), (2, 1), dims, (1, 1), CLASSES, 1, (5,) * 4, 2, 64, auxiliary=arm != "unguided")
    for part in network.modules():
        if arm == "static" and isinstance(part, FocusBlock):
            part.mix = Static(part.sizes[0], 5)  # type: ignore[assignment]
    if arm == "unguided":
        network.stages[2][2] = Unguided(dims[3] // 4)  # type: ignore[index, operator]
    return network


def draw(digits: Images, count: int, seed: int) -> Images:
    """Scenes, their label of digit and cue."""
    g = generator(seed, "scenes")
    odds = torch.where(digits.labels == 0, COMMON, 1.0)
    chosen = torch.multinomial(odds, count, replacement=True, generator=g)
    cue = torch.randint(2, (count,), generator=g)
    drawn = nn.functional.interpolate(digits.inputs(chosen), DIGIT, mode="bilinear")
    drawn = drawn / drawn.amax((2, 3), keepdim=True)
    cross = torch.eye(CUE).maximum(torch.eye(CUE).flip(1))
    ring = nn.functional.pad(torch.zeros(CUE - 2, CUE - 2), (1, 1, 1, 1), value=1.0)
    shapes = torch.stack([ring, cross])
    scenes = NOISE * torch.rand(count, 1, SIDE, SIDE, generator=g)
    middle = (SIDE - DIGIT) // 2 + torch.randint(-4, 5, (count, 2), generator=g)
    along = torch.randint(SIDE - CUE + 1, (count,), generator=g)
    across = torch.randint(6, (count,), generator=g)
    side = torch.randint(4, (count,), generator=g)
    for scene, one, (top, left), q, a, b, s in zip(
        scenes, drawn, middle.tolist(), cue.tolist(), along.tolist(), across.tolist(), side.tolist(), strict=True
    ):
        scene[:, top : top + DIGIT, left : left + DIGIT] += 0.75 * one
        b = b if s < 2 else SIDE - CUE - b
        top, left = (a, b) if s % 2 else (b, a)
        scene[:, top : top + CUE, left : left + CUE] += 0.7 * shapes[q]
    labels = (digits.labels[chosen] + CLASSES // 2 * cue) % CLASSES
    return Images((255 * scenes.clamp(0, 1)).round().byte(), labels, digits.classes[:CLASSES], "digits and cues")


def outside(network: OverLoCK, x: Tensor) -> float:
    """Share of the gradient of the middle of the guided map of stride 8 that falls outside the central quarter of the image."""
    x = x.clone().requires_grad_()
    level = network.eval().forward_features(x)[2]
    context = network.channels[3] // 5
    level[:, :-context, level.shape[2] // 2, level.shape[3] // 2].sum().backward()
    assert x.grad is not None
    reach, middle = x.grad.abs().sum((0, 1)), slice(SIDE // 4, -SIDE // 4)
    return 1 - float(reach[middle, middle].sum() / reach.sum())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy, reach and parameters of every arm."""
    digits = run.data("digits")
    digits = digits.subset(digits.labels < CLASSES)
    keep, held = stratified(digits.labels, 0.3, seed)
    train = draw(digits.subset(keep), TRAIN, derive(seed, "train"))
    test = draw(digits.subset(held), TEST, derive(seed, "test"))
    stats = channel_stats(train)
    values: dict[str, float] = {}
    for arm in run.progress(WIDTHS, "arms"):
        torch.manual_seed(seed)
        network = make(arm)
        learner = Supervised(network, RATE)
        fit(learner, feed(train, Labelled(), BATCH, seed, stats), epochs=EPOCHS, seed=seed)
        values[arm] = accuracy(learner, test, stats)
        values[f"{arm}_parameters"] = count_parameters(network)
        values[f"{arm}_outside"] = outside(network, (test.inputs(range(64)) - stats[0]) / stats[1])
    return values


def measure(run: Run) -> Finding:
    """Accuracy against both baselines, and the reach against static kernels."""
    rows = run.each_seed(one_seed)
    fewest = np.minimum(rows["static_parameters"], rows["unguided_parameters"])
    return Finding(
        clauses=(
            at_least("OverLoCK − static kernels", 100 * (rows["overlock"] - rows["static"]), 2.0, "points"),
            at_least("OverLoCK − no context", 100 * (rows["overlock"] - rows["unguided"]), 2.0, "points"),
            at_least("gradient outside, OverLoCK / static", rows["overlock_outside"] / rows["static_outside"], 1.3),
            exactly("parameters, OverLoCK / smallest baseline", rows["overlock_parameters"] / fewest, 1.0, "<="),
        ),
        floors=(floor("static kernels", rows["static"], 0.7),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Accuracy of the whole network on its training scenes and on others, seed 100."""
    digits = run.data("digits")
    digits = digits.subset(digits.labels < CLASSES)
    keep, held = stratified(digits.labels, 0.3, 100)
    train = draw(digits.subset(keep), TRAIN, derive(100, "train"))
    test = draw(digits.subset(held), TEST, derive(100, "test"))
    stats = channel_stats(train)
    torch.manual_seed(100)
    learner = Supervised(make("overlock"), RATE)
    fit(learner, feed(train, Labelled(), BATCH, 100, stats), epochs=EPOCHS, seed=100)
    return {"training": accuracy(learner, train, stats), "test": accuracy(learner, test, stats)}
