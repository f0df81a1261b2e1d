"""NASNet: a cell found on a small data set transfers: stacked more often and wider it is among the best on larger data.

Measured with ten random cells of the paper's search space. Each is trained twice: on the proxy (Fashion-MNIST at 14 × 14 pixels, 2,000
images, one normal and one reduction cell, F = 6, two epochs), and on the target (the middle of CIFAR-10's images at 12 × 12 pixels, 4,000
images, five cells, F = 8, one epoch), with the same optimiser. The rank correlation of the two accuracies over the ten cells says whether
the proxy orders cells as the target does; the target accuracy of the proxy's best three, minus the mean of all ten, says what a search
gains. In the trial (seed 100) the correlation was 0.60 and 0.48 from two initial weights of the proxy; a second epoch on the target, which
gave 0.32 for both, was cut to save time. One epoch on the proxy could not tell: its order had 0.14 in common with that of two.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ziggurat.architect.nasnet_space import NASNetSearchSpace
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import channel_stats, stratified
from ziggurat.data.seeds import generator
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.nasnet import NASNet
from ziggurat.vision.backbones.nasnet_cells import Genotype

CELLS, TOP, TEST, BATCH, RATE = 10, 3, 2_000, 64, 5e-3

published = {
    5: "CIFAR-10 6@768 with cutout 2.65 % error, 3.3M; ImageNet top-1 74.0 (4@1056), 82.7 (6@4032) (tables 1 to 3)",
}
notes = Notes(
    scope="Ten random cells and tiny images; the paper's controller trains 20,000 cells, and transfers the best to ImageNet.",
    methodology="Every cell gets the same images, steps, optimiser and rate; cells, images and weights are drawn anew for each seed.",
    origin="0.4 of rank correlation and 1 point are the specification's.",
    easy="A genotype is data, so the same one builds both networks.",
    hard="Twenty trainings a seed must fit into two minutes of one core.",
    why=(
        "scale",
        "The proxy is a noisy judge: trained again from other weights, ten cells come in the same order with a rank correlation of 0.54 "
        "on the proxy and of 0.75 on the target (seed 100, support). Two epochs on 2,000 images see what learns fast. The paper's proxy "
        "takes twenty epochs of CIFAR-10.",
    ),
)


def part(data: Images, count: int, crop: int, seed: int) -> Images:
    """A stratified part of the images, without a border of `crop` pixels, at half their size."""
    some = data.subset(stratified(data.labels, count / len(data), seed)[1])
    side = some.images.shape[2]
    pixels = some.images[:, :, crop : side - crop, crop : side - crop].float()
    return Images(avg_pool2d(pixels, 2).round().to(torch.uint8), some.labels, some.classes, some.name)


def last(x: Tensor) -> Tensor:
    """The batch with its channels last in memory: the same numbers, twice as fast on a processor."""
    return x.to(memory_format=torch.channels_last)


def worth(
    genotype: Genotype, cells: tuple[int, ...], width: int, epochs: int, train: Images, test: Images, seed: int
) -> float:
    """Test accuracy of a network of these cells."""
    torch.manual_seed(seed)
    network = NASNet(10, train.images.shape[1], cells, width, genotype, stem="cifar", dropout=0.0)
    stats = channel_stats(train)
    learner = Supervised(network.to(memory_format=torch.channels_last), RATE)  # type: ignore[call-overload]
    fit(learner, feed(train, Labelled(last), BATCH, seed, stats), epochs=epochs, seed=seed)
    return accuracy(learner, test, stats)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Proxy and target accuracy of ten random cells."""
    proxy = [part(run.data("fashion_mnist", split), n, 0, seed) for split, n in (("train", 2_000), ("test", TEST))]
    target = [part(run.data("cifar10", split), n, 4, seed) for split, n in (("train", 4_000), ("test", TEST))]
    space, g = NASNetSearchSpace(), generator(seed, "cells")
    drawn = [space.sample(g) for _ in range(CELLS)]
    small, large = np.zeros(CELLS), np.zeros(CELLS)
    for i, genotype in enumerate(run.progress(drawn, "cells")):
        small[i] = worth(genotype, (1, 0), 6, 2, proxy[0], proxy[1], seed)
        large[i] = worth(genotype, (1, 1, 1), 8, 1, target[0], target[1], seed)
    best = small.argsort()[::-1][:TOP]
    return {
        "rho": float(spearmanr(small, large)[0]),
        "top": float(large[best].mean()),
        "all": float(large.mean()),
        "best": float(large.max()),
        "worst": float(large.min()),
        "proxy": float(small.mean()),
    }


def measure(run: Run) -> Finding:
    """Does the proxy order the cells, and what does choosing by it gain."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("rank correlation of proxy and target", rows["rho"], 0.4),
            at_least("target, the proxy's best three − all ten", 100 * (rows["top"] - rows["all"]), 1.0, "points"),
        ),
        floors=(
            floor("random cells on the target", rows["all"], 0.25),
            floor("random cells on the proxy", rows["proxy"], 0.6),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Rank correlation of two trainings of the same ten cells from different weights, on the target and on the proxy, seed 100."""
    data = {
        "proxy": [part(run.data("fashion_mnist", split), n, 0, 100) for split, n in (("train", 2_000), ("test", TEST))],
        "target": [part(run.data("cifar10", split), n, 4, 100) for split, n in (("train", 4_000), ("test", TEST))],
    }
    networks = {"proxy": ((1, 0), 6, 2), "target": ((1, 1, 1), 8, 1)}
    space, g = NASNetSearchSpace(), generator(100, "cells")
    drawn, found = [space.sample(g) for _ in range(CELLS)], {}
    for name in run.progress(("proxy", "target"), "sets"):
        twice = [[worth(cell, *networks[name], *data[name], seed) for cell in drawn] for seed in (100, 101)]
        found[f"{name}_with_itself"] = float(spearmanr(*twice)[0])
    return found
