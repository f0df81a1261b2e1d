"""Document CNN: networks on whole pages against hand-crafted descriptors, compressed, carried over from photographs, and by region.

Measured on pages drawn by `synthetic_documents`, eight layouts at 128 × 128; real scans (RVL-CDIP) are not available here. Each seed
draws its own 4,000 pages to train on, 500 to choose by and 1,000 to test; 80 of the 4,000 are the small training set.

Hand-crafted is the best on validation of HOG, local binary patterns, ink profiles and a bag of gradient patches with a spatial pyramid
(of cells of 4 or of 8 pixels), each with linear and RBF kernels. The holistic network is an AlexNet of a fifth of the width with batch
normalisation, on grey pages of 95 pixels, from random weights. Networks of regions are the same on crops warped to the same size.
Descriptors (length one) of the holistic network, and of all five after PCA, go to linear SVMs. Kernels, C and the rate of each network
are chosen on validation pages, the rates of 4,000 pages by three epochs on 1,000 of them. Retrieval: each test page asks for the others;
components of the curve are learned on training pages. Transfer: EfficientNet-Lite0 at 96 pixels with ImageNet weights, or with random
weights whose batch statistics were measured on the 80 pages; linear SVMs on 80 pages, at the depth that validation pages choose for each.

A first measurement trained on 4,000 pages for eight epochs and read the last layer only. It was inconclusive, by two mistakes of the
experiment: at eight epochs the holistic network had not learned yet (seed 100: 0.83, after sixteen 0.95), and the floor under random
weights, 0.25, was a guess; random features reach 0.22 at their best depth (seeds 100 and 101), where chance is 0.125. It has sixteen
epochs, the best depth and a floor of 0.15 since; the criterion is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import Tensor, nn

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.descriptors import BagOfPatches, described, hog, ink_profiles, lbp
from ziggurat.data.documents import synthetic_documents
from ziggurat.data.feeds import feed
from ziggurat.data.seeds import derive
from ziggurat.learning.cnn_off_the_shelf import FeatureExtractor
from ziggurat.learning.document_cnn import (
    REGIONS,
    DocumentCNN,
    Region,
    RegionEnsemble,
    compression_curve,
    ranked,
    retrieval_map,
)
from ziggurat.learning.features import logits
from ziggurat.learning.supervised import Supervised
from ziggurat.memory.indexes import unit
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.metrics.retrieval import precision_at
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.efficientnet_lite import EfficientNetLite0, normalised, pretrained_efficientnet_lite0

PAGES, SMALL, VALID, TEST, SIDE = 4000, 80, 500, 1000, 95
WIDTHS, HIDDEN, FIRST, RATES, STRENGTHS = (16, 32, 48, 48, 32), 256, (7, 2), (2e-3, 5e-3), (0.1, 1.0, 10.0)
EPOCHS, BATCH, LOOK, LOOK_EPOCHS = {PAGES: 16, SMALL: 40}, {PAGES: 64, SMALL: 16}, 1000, 3
DIMENSIONS, PIXELS = (256, 128, 64, 32, 16), 96

published = {5: "about 89.8 % for the holistic network from ImageNet weights on RVL-CDIP, 79.9 % on Tobacco-3482"}
notes = Notes(
    scope="4,000 drawn pages of eight layouts and networks of 100,000 weights; the paper has 320,000 scans of sixteen classes and AlexNet.",
    methodology="Same pages for all arms; kernels, rates, depths and C chosen on validation pages; the same linear SVM behind each "
    "descriptor.",
    origin="3, 2, 5 and 0.5 points and the half are the specification's; the paper gives the order, not these margins.",
    easy="A page is an image like any other.",
    hard="Drawn pages must not be told by their ink or one texture: sizes, noise and clutter vary more inside a class than between two.",
    why=(
        "recipe",
        "The holistic network has not learned all it can: twice the epochs bring more (support), and starts differ by seven points where "
        "the hand-crafted descriptions differ by one. Regions gain most where it learned least: 9.8 points at 0.87, 3.7 at 0.95.",
    ),
)


class Split(NamedTuple):
    """Pages to train on, to choose by and to test."""

    train: Images
    valid: Images
    test: Images


def drawn(seed: int) -> Split:
    """Pages of a seed, as many of each layout."""
    counts = {"train": PAGES, "valid": VALID, "test": TEST}
    return Split(*(synthetic_documents(n, derive(seed, part)).images for part, n in counts.items()))


def machines(rows: list[np.ndarray], pages: Split, curved: bool = True) -> Iterator[tuple[float, float]]:
    """Validation and test accuracy of linear and, if `curved`, RBF machines on standardised columns."""
    scale = StandardScaler().fit(rows[0])
    train, *others = (scale.transform(part) for part in rows)
    width, labels = train.shape[1], [part.labels.numpy() for part in pages]
    kernels = [(linear_kernel, 1 / width, c) for c in (0.1, 1.0, 10.0)]
    if curved:
        kernels += [(partial(rbf_kernel, gamma=g / width), 1.0, c) for g in (0.3, 1.0) for c in (1.0, 10.0)]
    for kernel, factor, c in kernels:
        machine = SVC(C=c, kernel="precomputed").fit(factor * kernel(train, train), labels[0])
        scores = [machine.score(factor * kernel(part, train), y) for part, y in zip(others, labels[1:], strict=True)]
        yield scores[0], scores[1]


def hand_crafted(pages: Split, seed: int) -> dict[str, float]:
    """Test accuracy of each description at its best machine, and of the best on validation."""
    described_by = {"hog": partial(hog, cell=16), "lbp": lambda x: lbp(x, 4).sqrt(), "ink": ink_profiles}
    for cell in (4, 8):
        bag = BagOfPatches(200, cell, cell, levels=(1, 2, 4), random_state=seed)
        bag.fit(pages.train.inputs(slice(0, 1000)))
        described_by[f"bag{cell}"] = lambda x, bag=bag: torch.from_numpy(bag.transform(x))
    scores = {}
    for name, describe in described_by.items():
        rows = [described(part, describe) for part in pages]
        scores[name] = best_on_validation(machines(rows, pages))
    return {
        "hand_crafted": best_on_validation(scores.values())[1],
        **{name: found[1] for name, found in scores.items()},
    }


def linear(train: np.ndarray, valid: np.ndarray, test: np.ndarray, pages: Split) -> float:
    """Test accuracy of linear SVMs on descriptors of length one, C chosen on validation pages."""
    x, y = [unit(part) for part in (train, valid, test)], [part.labels.numpy() for part in pages]
    found = []
    for c in STRENGTHS:
        machine = LinearSVC(C=c, random_state=0).fit(x[0], y[0])
        found.append((float(machine.score(x[1], y[1])), float(machine.score(x[2], y[2]))))
    return best_on_validation(found)[1]


def accuracy(learner: Supervised, pages: Region) -> float:
    """Share of pages whose largest logit is that of their layout."""
    return float((logits(learner, pages).argmax(1) == pages.labels).float().mean())


def trained(network: nn.Module, train: Region, valid: Region, seed: int) -> nn.Module:
    """The network after training, at the better rate. With many pages the rates are compared on a part of them, for fewer epochs."""
    epochs, batch = (EPOCHS[PAGES], BATCH[PAGES]) if len(train) > SMALL else (EPOCHS[SMALL], BATCH[SMALL])

    def at(rate: float, part: Region, epochs: int) -> Supervised:
        learner = Supervised(deepcopy(network), rate)
        return fit(learner, feed(part, learner.feed, batch, seed), epochs=epochs, seed=seed)  # type: ignore[return-value]

    if len(train) <= SMALL:
        learners = [at(rate, train, epochs) for rate in RATES]
        return best_on_validation([(accuracy(learner, valid), learner) for learner in learners])[1].network
    some = Region(train.pages.subset(slice(0, LOOK)), train.part)  # type: ignore[attr-defined]
    rate = best_on_validation([(accuracy(at(rate, some, LOOK_EPOCHS), valid), rate) for rate in RATES])[1]
    return at(rate, train, epochs).network


def by_network(pages: Split, seed: int) -> tuple[dict[str, float], RegionEnsemble]:
    """Accuracy of the whole page's network and of all five, and the five."""
    torch.manual_seed(seed)
    networks = {
        name: DocumentCNN(len(pages.train.classes), SIDE, FIRST, WIDTHS, HIDDEN, 1, nn.BatchNorm2d) for name in REGIONS
    }
    ensemble = RegionEnsemble(networks, min(HIDDEN, len(pages.train)))
    ensemble.fit(pages.train, lambda network, part: trained(network, part, Region(pages.valid, part.part), seed))
    whole = [holistic(ensemble, part) for part in pages]
    five = [np.concatenate([ensemble.describe(x) for x in batches(part)]) for part in pages]
    return {"holistic": linear(*whole, pages), "ensemble": linear(*five, pages)}, ensemble


def batches(pages: Images) -> Iterator[Tensor]:
    """Pages, some at a time."""
    return (pages.inputs(index) for index in torch.arange(len(pages)).split(250))


def holistic(ensemble: RegionEnsemble, pages: Images) -> np.ndarray:
    """Descriptors of the network on the whole page."""
    return FeatureExtractor(ensemble.networks["page"]).transform(pages.images)


def calibrated(network: EfficientNetLite0, pages: Tensor) -> EfficientNetLite0:
    """The network with the statistics of its normalisations measured on pages: without them random features fade from layer to layer."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        network.train()(normalised(pages, PIXELS))
    return network.eval()


@torch.inference_mode()
def by_depth(network: EfficientNetLite0, pages: Images) -> list[np.ndarray]:
    """Descriptors of length one: the average of each stage's map, and the layer before the classifier."""
    found = []
    for x in batches(pages):
        maps = network.forward_features(normalised(x, PIXELS))
        found.append([*(one.mean((2, 3)) for one in maps), network.forward_head(maps, pre_logits=True)])
    return [unit(torch.cat(depth).numpy()) for depth in zip(*found, strict=True)]


def transferred(pages: Split, seed: int) -> dict[str, float]:
    """Accuracy on few pages of a linear SVM on features of photographs, and on those of random weights."""
    torch.manual_seed(seed)
    networks = {
        "imagenet": pretrained_efficientnet_lite0().eval(),
        "random_weights": calibrated(EfficientNetLite0(), pages.train.inputs(slice(None))),
    }
    values = {}
    for name, network in networks.items():
        depths = zip(*(by_depth(network, part) for part in pages), strict=True)
        # standardised: vectors of random weights all point the same way, and differ in little
        values[name] = best_on_validation(
            best_on_validation(machines(list(rows), pages, curved=False)) for rows in depths
        )[1]
    return values


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracies at both sizes and mean average precision by dimension."""
    many = drawn(seed)
    few = many._replace(train=many.train.subset(slice(0, SMALL)))
    values = transferred(few, seed)
    for pages in run.progress((few, many), "sizes of the training set"):
        found, ensemble = by_network(pages, seed)
        found |= hand_crafted(pages, seed)
        values |= {f"{name}_{len(pages.train)}": value for name, value in found.items()}
    train, test = holistic(ensemble, many.train), holistic(ensemble, many.test)
    values["map_all"] = retrieval_map(test, many.test.labels)
    values["precision10_all"] = precision_at(ranked(test, many.test.labels), many.test.labels, 10)
    curve = compression_curve(train, test, many.test.labels, DIMENSIONS)
    return values | {f"map_{dimension}": value for dimension, value in curve.items()}


def measure(run: Run) -> Finding:
    """Against hand-crafted descriptors, compressed, transferred, and by region."""
    rows = run.each_seed(one_seed)
    gain = {n: 100 * (rows[f"ensemble_{n}"] - rows[f"holistic_{n}"]) for n in (SMALL, PAGES)}
    ahead = 100 * (rows[f"holistic_{PAGES}"] - rows[f"hand_crafted_{PAGES}"])
    allowed = np.maximum(0.5, gain[SMALL] / 2)
    return Finding(
        clauses=(
            at_least("4,000 pages, holistic − best hand-crafted", ahead, 3, "points"),
            at_least("mAP, 64 dimensions − all", 100 * (rows["map_64"] - rows["map_all"]), -2, "points"),
            at_least(
                "80 pages, ImageNet − random weights", 100 * (rows["imagenet"] - rows["random_weights"]), 5, "points"
            ),
            at_most("gain of regions at 4,000 pages − half of that at 80, or 0.5", gain[PAGES] - allowed, 0, "points"),
        ),
        floors=(
            floor("hand-crafted at 4,000 pages", rows[f"hand_crafted_{PAGES}"], 0.8),
            floor("holistic at 80 pages", rows[f"holistic_{SMALL}"], 0.25),
            floor("random weights at 80 pages", rows["random_weights"], 0.15),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Seed 100: the holistic network after 16 and 32 epochs, at the better rate, and the best hand-crafted description."""
    pages = drawn(100)
    found = {"hand_crafted": hand_crafted(pages, 100)["hand_crafted"]}
    for epochs in run.progress((16, 32), "epochs"):
        networks = []
        for rate in RATES:
            torch.manual_seed(100)
            network = DocumentCNN(len(pages.train.classes), SIDE, FIRST, WIDTHS, HIDDEN, 1, nn.BatchNorm2d)
            learner = Supervised(network, rate)
            train, valid = (Region(part, REGIONS["page"]) for part in pages[:2])
            fit(learner, feed(train, learner.feed, BATCH[PAGES], 100), epochs=epochs, seed=100)
            networks.append((accuracy(learner, valid), network))
        take = FeatureExtractor(best_on_validation(networks)[1])
        found[f"holistic_{epochs}_epochs"] = linear(*(take.transform(part.images) for part in pages), pages)
    return found
