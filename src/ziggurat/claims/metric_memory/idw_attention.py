"""Inverse distance weighting attention: trained with plain cross-entropy, keys become prototypes and values their logits, and single
cases are repaired with low impact.

Measured on Fashion-MNIST (15,000 images to train on, 3,000 for validation, 10,000 for the test, pixels in [0, 1]): a table of 50 keys and
values read by inverse distance weighting, scaled dot products, the softmax of −d², and the softmax of 1 / (ε + d²). All have 39,700
weights, start alike, and train with Adam for 20 epochs of batches of 128, at the rate of {1e-2, 3e-2} that is best on validation.
Purity: share of keys whose value has its largest logit at the label of the nearest training image. Realism: distance of a key to the
nearest training image, over the median of that distance for test images; the median over keys. Repairs: 50 misclassified test images are
each added to a copy of the trained table, and the predictions on the other 9,999 are compared with those before. Reported beside:
purity and accuracy on the 8 × 8 digits with 20 keys (the dot products at the same rates).

Pilots: with batches of 256, half as many steps, inverse distances stood 7.8 points behind the dot products on seed 100, more than the 4 of
the specification's trial, with purity 0.96 (0.80 for the dot products), realism 1.1 (11.8), and 0.24 % of the others changed by a repair;
with batches of 128 on seeds 100 and 101 7.7 and 6.7 points, purity 0.84 and 0.96, and 0.31 and 0.18 %.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.loading import stratified
from ziggurat.data.seeds import generator
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, exactly, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.operators.idw_attention import (
    IDWClassifier,
    KeyValueClassifier,
    dot_weights,
    inverse_softmax_weights,
    negative_distance_weights,
)

TRAIN, VALID, KEYS, DIGIT_KEYS, EPOCHS, BATCH, RATES, REPAIRS = 15_000, 3_000, 50, 20, 20, 128, (1e-2, 3e-2), 50
RIVALS = {"dot": dot_weights, "neg_dist": negative_distance_weights, "inv_dist": inverse_softmax_weights}
ARMS = ("idw", *RIVALS)

published: dict[int, str] = {}
notes = Notes(
    scope="A quarter of Fashion-MNIST and 50 keys; the paper shows MNIST and two moons with 10 to 20 keys.",
    methodology="Equal tables, starts, images and steps for every arm; rates chosen on the same validation images.",
    origin="All thresholds are the specification's, set after a trial of one seed: purity 0.94 / 0.70, realism 0.87 / 8.3, accuracy "
    "71.4 / 75.4 for inverse distances / dot products.",
    easy="The attention is one line, and has no scale to choose.",
    hard="Distances near 0 need float64: ε is below the rounding of ‖x‖² − 2 x·k + ‖k‖² in float32.",
    why=(
        "recipe",
        "The keys are prototypes, and a case repairs itself. How many others it changes falls with the number of keys, below what is "
        "asked for at 400; the accuracy does not catch up (support), perhaps since weights that fall only as d⁻² average over "
        "all keys. The paper shows no images beyond MNIST.",
    ),
)


def table(arm: str, data: Images, keys: int) -> KeyValueClassifier:
    """The untrained classifier of an arm, its keys around the mean of the data."""
    size = int(np.prod(data.images.shape[1:]))
    classes = len(data.classes)
    made = (
        IDWClassifier(size, classes, keys)
        if arm == "idw"
        else KeyValueClassifier(size, classes, keys, partial(RIVALS[arm]))
    )
    made.start(data.inputs(slice(None)))
    return made


def trained(arm: str, train: Images, valid: Images, keys: int, epochs: int, seed: int) -> Supervised:
    """The learner at the best of the rates."""
    found = []
    for rate in RATES:
        torch.manual_seed(seed)
        learner = Supervised(table(arm, train, keys), rate)
        fit(learner, feed(train, Labelled(), BATCH, seed), epochs=epochs, seed=seed)
        found.append((accuracy(learner, valid), learner))
    return best_on_validation(found)[1]


def nearest(x: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest image and its number, for each row."""
    parts = [torch.cdist(part, images).min(1) for part in x.split(500)]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def prototypes(learner: Supervised, train: Images, usual: float) -> tuple[float, float]:
    """Purity and median realism of the keys."""
    with torch.no_grad():
        distance, which = nearest(learner.network.keys, train.inputs(slice(None)).flatten(1))  # type: ignore[arg-type]
        pure = learner.network.values.argmax(1) == train.labels[which]  # type: ignore[union-attr, operator]
        return float(pure.float().mean()), float(distance.median()) / usual


@torch.no_grad()
def repairs(network: IDWClassifier, test: Images, seed: int) -> tuple[float, float]:
    """Share of misclassified images that a case of their own repairs, and mean share of the other predictions that it changes."""
    x = test.inputs(slice(None))
    before = torch.cat([network(part) for part in x.split(1_000)]).argmax(1)
    wrong = (before != test.labels).nonzero().flatten()
    chosen = wrong[torch.randperm(len(wrong), generator=generator(seed, "repairs"))[:REPAIRS]]
    fixed, changed = [], []
    for i in chosen.tolist():
        own = copy.deepcopy(network)
        own.add_case(x[i], int(test.labels[i]))
        after = torch.cat([own(part) for part in x.split(1_000)]).argmax(1)
        fixed.append(float(after[i] == test.labels[i]))
        changed.append((float((after != before).sum()) - float(after[i] != before[i])) / (len(test) - 1))
    return float(np.mean(fixed)), float(np.mean(changed))


def parts(data: Images, first: int, second: int, seed: int) -> tuple[Images, Images]:
    """Two disjoint stratified parts."""
    rest, some = stratified(data.labels, second / len(data), seed)
    left = data.subset(rest)
    keep = stratified(left.labels, first / len(left), seed)[1] if first < len(left) else slice(None)
    return left.subset(keep), data.subset(some)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracy, purity and realism of every arm, the repairs, and the digits."""
    train, valid = parts(run.data("fashion_mnist", "train"), TRAIN, VALID, seed)
    test, values = run.data("fashion_mnist", "test"), {}
    some = test.inputs(slice(0, 2_000)).flatten(1)
    usual = float(nearest(some, train.inputs(slice(None)).flatten(1))[0].median())
    for arm in run.progress(ARMS, "arms"):
        learner = trained(arm, train, valid, KEYS, EPOCHS, seed)
        values[f"{arm}_accuracy"] = accuracy(learner, test)
        values[f"{arm}_purity"], values[f"{arm}_realism"] = prototypes(learner, train, usual)
        if isinstance(learner.network, IDWClassifier):
            values["repaired"], values["others_changed"] = repairs(learner.network, test, seed)
    digits, looked_at = parts(run.data("digits"), 1_400, 397, seed)
    small, valid = parts(digits, 1_100, 300, seed)
    for arm in ("idw", "dot"):
        learner = trained(arm, small, valid, DIGIT_KEYS, EPOCHS, seed)
        values[f"{arm}_digits_accuracy"] = accuracy(learner, looked_at)
        values[f"{arm}_digits_purity"] = prototypes(learner, small, 1.0)[0]
    return values


def measure(run: Run) -> Finding:
    """Keys against those of dot products, and repairs."""
    rows = run.each_seed(one_seed)
    realism, accuracies = rows["idw_realism"], 100 * (rows["idw_accuracy"] - rows["dot_accuracy"])
    return Finding(
        clauses=(
            at_least("purity of the keys", rows["idw_purity"], 0.85),
            at_least("purity, inverse distances − dot products", rows["idw_purity"] - rows["dot_purity"], 0.1),
            at_most("median realism of the keys", realism, 1.5),
            at_most("realism, inverse distances / dot products", realism / rows["dot_realism"], 0.5),
            at_least("accuracy, inverse distances − dot products", accuracies, -6.0, "points"),
            exactly("share of misclassified images repaired", rows["repaired"], 1.0),
            at_most("others changed by a repair", 100 * rows["others_changed"], 0.1, "%"),
        ),
        floors=(floor("dot products", rows["dot_accuracy"], 0.65),),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Accuracy of inverse distances and of dot products, and others changed by a repair, with 50 and with 400 keys, seed 100."""
    train, valid = parts(run.data("fashion_mnist", "train"), TRAIN, VALID, 100)
    test, found = run.data("fashion_mnist", "test"), {}
    for keys in run.progress((KEYS, 8 * KEYS), "keys"):
        for arm in ("idw", "dot"):
            learner = trained(arm, train, valid, keys, EPOCHS, 100)
            found[f"{arm}_accuracy_{keys}_keys"] = accuracy(learner, test)
            if isinstance(learner.network, IDWClassifier):
                found[f"others_changed_{keys}_keys"] = repairs(learner.network, test, 100)[1]
    return found
