"""Poincaré ResNet: fully hyperbolic networks can be trained thanks to identity weights, the midpoint, and gradients derived by hand.

Norms: 256 random tangent vectors of norm about 1 go through 20 linear layers of width 16 with ReLU between, and maps of 14 × 14 of them
through 20 convolutions of 3 × 3; what remains of the mean hyperbolic norm, by initialisation. Time: one batch normalisation, forward and
backward, of 64 such maps of 8 channels, its mean as midpoint or as Fréchet mean; alternating, the median of 15. Memory: the most bytes
that autograd keeps in one training step of a 4-8-16 network of depth 8 on 64 images, by hand and by autograd. Accuracy: that network on
Fashion-MNIST at 14 × 14 pixels (2,000 training and 2,000 test images, 6 epochs of the paper's Adam), with both means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, exactly, floor, seconds_at_most
from ziggurat.nn.fitting import fit
from ziggurat.nn.hyperbolic.ball import AutogradBall, PoincareBall
from ziggurat.nn.hyperbolic.layers import PoincareBatchNorm2d, PoincareConv2d, PoincareLinear
from ziggurat.nn.profile import saved_bytes
from ziggurat.vision.backbones.poincare_resnet import PoincareResNet

IMAGES, EPOCHS, BATCH, WIDTHS, DEPTH = 2_000, 6, 64, (4, 8, 16), 8
LAYERS, WIDTH, REPEATS, C = 20, 16, 15, 0.1

published = {}
notes = Notes(
    scope="Random points, and 2,000 small grey images with a network of depth 8; the paper trains depths 20 and 32 on CIFAR.",
    methodology="Same layers, data, steps and seed in all arms; only the initialisation, the mean or the backward passes differ.",
    origin="[0.5, 1.1], 1e-4, the factor 2, 2 points and 20 percent are the specification's.",
    easy="Gradients by hand agree with autograd to rounding, so memory and accuracy can be compared one by one.",
    hard="The Fréchet iteration never ends in float32 where its tolerance is below rounding; it now stops when steps no longer shrink.",
    why=(
        "criterion",
        "The midpoint alone is far more than twice as fast as the Fréchet mean (support), but what both share, the maps to the mean "
        "and back, takes most of the layer's time; so the whole layer gains less than a factor of two.",
    ),
)


def survival(layers: Sequence[nn.Module], x: Tensor) -> float:
    """Mean hyperbolic norm behind the layers, with ReLU between them, over that of their input (points have twice a tangent's norm)."""
    y = x
    with torch.no_grad():
        for i, layer in enumerate(layers):
            y = layer(y if i == 0 else y.relu())
    return float(y.norm(dim=1).mean() / x.norm(dim=1).mean())


def seconds(maps: dict[str, Callable[[Tensor], Tensor]], x: Tensor) -> dict[str, float]:
    """Median time of one forward and backward pass of each, alternating."""
    times: dict[str, list[float]] = {name: [] for name in maps}
    for _ in range(REPEATS):
        for name, map_ in maps.items():
            start = time.perf_counter()
            map_(x).pow(2).sum().backward()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def small(data: Images, seed: int) -> Images:
    """A stratified part of the images, at half their size."""
    part = data.subset(stratified(data.labels, IMAGES / len(data), seed)[1])
    return Images(avg_pool2d(part.images.float(), 2).round().to(torch.uint8), part.labels, part.classes, part.name)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Norms, times, bytes, and accuracy with both means."""
    torch.manual_seed(seed)
    values: dict[str, float] = {}
    vectors, maps = torch.randn(256, WIDTH) / WIDTH**0.5, torch.randn(16, WIDTH, 14, 14) / WIDTH**0.5
    for init in ("identity", "normal"):
        linear = [PoincareLinear(WIDTH, WIDTH, init=init) for _ in range(LAYERS)]  # type: ignore[arg-type]
        convs = [PoincareConv2d(WIDTH, WIDTH, init=init) for _ in range(LAYERS)]  # type: ignore[arg-type]
        values[f"{init}_linear"], values[f"{init}_conv"] = survival(linear, vectors), survival(convs, maps)

    x = (torch.randn(64, 8, 14, 14) / 8**0.5).requires_grad_()
    taken = seconds({"midpoint": PoincareBatchNorm2d(8), "frechet": PoincareBatchNorm2d(8, mean="frechet")}, x)
    values |= {f"{name}_seconds": value for name, value in taken.items()}

    train, test = small(run.data("fashion_mnist", "train"), seed), small(run.data("fashion_mnist", "test"), seed)
    stats = channel_stats(train)
    batch = next(iter(feed(train, Supervised(nn.Identity()).feed, BATCH, seed, stats)))
    for name, ball in (("by_hand", PoincareBall(C)), ("autograd", AutogradBall(C))):
        network = PoincareResNet(DEPTH, 10, 1, WIDTHS, ball=ball)
        with saved_bytes(network) as saved:
            cross_entropy(network(*batch.inputs), batch.target).backward()
        values[f"{name}_bytes"] = saved.peak
    for mean in run.progress(("midpoint", "frechet"), "means"):
        torch.manual_seed(seed)
        learner = Supervised(PoincareResNet(DEPTH, 10, 1, WIDTHS, C, mean=mean))
        fit(learner, feed(train, learner.feed, BATCH, seed, stats), epochs=EPOCHS, seed=seed)
        values[mean] = accuracy(learner, test, stats)
    return values


def measure(run: Run) -> Finding:
    """The three parts of the claim."""
    rows = run.each_seed(one_seed)
    kept = rows["by_hand_bytes"] / rows["autograd_bytes"]
    return Finding(
        clauses=(
            at_least("norm behind 20 linear layers, identity", rows["identity_linear"], 0.5),
            at_most("norm behind 20 linear layers, identity (above)", rows["identity_linear"], 1.1),
            at_most("norm behind 20 linear layers, HNN++", rows["normal_linear"], 1e-4),
            seconds_at_most("time of midpoint / Fréchet", rows["midpoint_seconds"] / rows["frechet_seconds"], 0.5, ""),
            at_least("accuracy, midpoint − Fréchet", 100 * (rows["midpoint"] - rows["frechet"]), -2.0, "points"),
            exactly("bytes kept, by hand / autograd", kept, 0.8, "<="),
        ),
        floors=(floor("Fréchet mean", rows["frechet"], 0.5),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Seconds of the mean alone and of the whole normalisation, on tangent vectors of norm about 1 and about 3, seed 100."""
    torch.manual_seed(100)
    ball, found = PoincareBall(C), {}
    for size in run.progress((1, 3), "norms"):
        maps = size * torch.randn(64, 8, 14, 14) / 8**0.5
        points = ball.exp0(maps.permute(0, 2, 3, 1).reshape(-1, 8))
        alone = seconds({"midpoint": ball.midpoint, "frechet": ball.frechet_mean}, points.requires_grad_())
        norms = {name: PoincareBatchNorm2d(8, mean=name) for name in alone}  # type: ignore[arg-type]
        whole = seconds(norms, maps.requires_grad_())  # type: ignore[arg-type]
        for name in alone:
            found |= {f"{name}_mean_alone_norm_{size}": alone[name], f"{name}_whole_norm_{size}": whole[name]}
    return found
