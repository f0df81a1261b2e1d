"""FaceNet: triplets with semi-hard negatives give 128 bytes whose distance alone verifies, better than a classifier's bottleneck.

Measured on Omniglot's two small background sets at 28 × 28. An identity is a character; the four rotations of a character are four
identities. Training on four fifths of the characters of the first set, choosing on the rest, verifying on 20,000 pairs of characters of the
alphabets of the second set that are not in the first. Four convolutional layers of 16 … 128 channels and a linear layer to 128; 150 batches
of 32 identities with 4 images. Arms that differ in the negatives alone: semi-hard, random, hardest; and a classifier of the training
identities, on as many images, whose 128-dimensional layer in front of the classes is taken. Each takes its rate from three by VAL at
FAR = 1 % on the characters held out. Every embedding is brought to length one.

Harmonic: the old network is half as wide, the new one is the semi-hard arm; both were trained on their own. Then the new one is trained
against the old for twice as many batches, its embedding layer first, at the better of two rates on the characters held out. Recall of the
nearest of ten drawings of each unseen character in the old network's gallery; the same version is the old network in its own gallery. On
seed 100, 150 batches came to 0.63 of the same version at a rate of 0.01 and to 0.47 at 0.03, and 300 at 0.03 to 0.56.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import feed
from ziggurat.data.seeds import generator
from ziggurat.learning.features import encode
from ziggurat.learning.metric.facenet import (
    FaceNet,
    HarmonicFaceNet,
    hardest_triplets,
    random_triplets,
    semi_hard_triplets,
    to_bytes,
)
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.metrics.retrieval import nearest_labels, recall_at
from ziggurat.metrics.verification import Verification, verify
from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.fitting import fit
from ziggurat.nn.learner import Learner

STEPS, HARMONIC_STEPS, BATCH, WIDTH, DIM, PAIRS, FAR = 150, 300, 128, 16, 128, 20_000, 1e-2
MINERS = {"semi_hard": semi_hard_triplets, "random": random_triplets, "hardest": hardest_triplets}
TRIPLET_RATES, CLASSIFIER_RATES, HARMONIC_RATES = (0.003, 0.01, 0.03), (3e-3, 1e-2, 3e-2), (0.003, 0.01)

published = {
    6: "LFW 98.87 % (centre crop), 99.63 % (aligned); YouTube Faces 95.12 %; NN1 140M, NN2 7.5M parameters, 1.6 GFLOPS each",
}
notes = Notes(
    scope="Drawn characters at 28 × 28 and 150 batches; the paper has 100 to 200 million faces and thousands of hours.",
    methodology="Same network, images and batches for every arm; each arm's rate chosen on characters held out; test alphabets are new.",
    origin="2, 1 and 0.5 points, 0.9 and 0.2 are the specification's; the accuracies beside ours are the paper's sections 5.6 and 5.7.",
    easy="Mining all pairs of a batch is a few tensor operations.",
    hard="Which rate suits depends on the miner, so that one rate for all would decide the comparison.",
    why=(
        "scale",
        "Semi-hard negatives, bytes and the independent version are as in the paper. The new network keeps coming nearer to the old "
        "one's gallery as it is trained against it for longer (support); the paper trains for thousands of hours.",
    ),
)


class Encoder(nn.Sequential):
    """3×3 convolutions with pooling between them, averaged: (B, 1, 28, 28) -> (B, 8 · width)."""

    def __init__(self, width: int) -> None:
        widths = (1, width, 2 * width, 4 * width, 8 * width)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            layers += [ConvNormAct(a, b, 3), *([nn.MaxPool2d(2)] if i < 3 else [])]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = widths[-1]


class Bottleneck(nn.Module):
    """The rival: the same encoder and linear layer, and classes behind it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = Encoder(WIDTH)
        self.embedding, self.head = nn.Linear(self.body.num_features, DIM), nn.Linear(DIM, classes)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [self.embedding(self.body(x))]

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return features[-1] if pre_logits else self.head(features[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def rotated(data: Images) -> Images:
    """Every class four times, each quarter turn a class of its own."""
    turned = torch.cat([data.images.rot90(k, (2, 3)) for k in range(4)])
    labels = torch.cat([data.labels + k * len(data.classes) for k in range(4)])
    return Images(turned, labels, tuple(f"{name}@{90 * k}" for k in range(4) for name in data.classes), data.name)


def parts(run: Run, seed: int) -> tuple[Images, Images, Images]:
    """Training, choosing and verifying: other characters in each."""
    first, second = run.data("omniglot", "small1"), run.data("omniglot", "small2")
    order = torch.randperm(len(first.classes), generator=generator(seed, "characters"))
    held = torch.isin(first.labels, order[: len(order) // 5])
    new = torch.tensor([group not in set(first.groups) for group in second.groups])
    return rotated(first.subset(~held)), rotated(first.subset(held)), second.subset(new[second.labels])


def verification(z: Float[Tensor, "N D"], data: Images, seed: int) -> tuple[Verification, float]:
    """VAL at the FAR on random pairs, half of them of one character, and the mean squared distance of pairs of two."""
    one, two = torch.triu_indices(len(z), len(z), 1)
    same, drawn = data.labels[one] == data.labels[two], []
    for kind in (same, ~same):
        rows = kind.nonzero().flatten()
        drawn.append(rows[torch.randperm(len(rows), generator=generator(seed, "pairs"))[: PAIRS // 2]])
    chosen = torch.cat(drawn)
    distance = (z[one[chosen]] - z[two[chosen]]).square().sum(1)
    return verify(distance, same[chosen], FAR), float(distance[~same[chosen]].mean())


def unit(learner: Learner, data: Images) -> Float[Tensor, "N D"]:
    """Embeddings of length one."""
    return normalize(encode(learner, data), dim=1)


def train(learner: Learner, data: Images, seed: int, steps: int = STEPS) -> Learner:
    return fit(learner, feed(data, learner.feed, BATCH, seed), steps=steps, seed=seed)


def recall(queries: Float[Tensor, "N D"], gallery: Float[Tensor, "N D"], data: Images) -> float:
    """Of every second image among the others."""
    found = nearest_labels(queries[::2], gallery[1::2], data.labels[1::2], 1)
    return recall_at(found, data.labels[::2], 1)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """VAL of every arm at the rate that validation chose, and the recalls across versions."""
    first, held, test = parts(run, seed)
    values: dict[str, float] = {}
    chosen: dict[str, Learner] = {}
    for arm in run.progress((*MINERS, "classifier"), "arms"):
        found = []
        for rate in CLASSIFIER_RATES if arm == "classifier" else TRIPLET_RATES:
            torch.manual_seed(seed)
            learner: Learner
            if arm == "classifier":
                learner = Supervised(Bottleneck(len(first.classes)), rate)
            else:
                learner = FaceNet(Encoder(WIDTH), DIM, miner=MINERS[arm], lr=rate)
            train(learner, first, seed)
            found.append((verification(unit(learner, held), held, seed)[0].val, rate, learner))
        valid, values[f"{arm}_rate"], chosen[arm] = best_on_validation(found)
        z = unit(chosen[arm], test)
        result, values[f"{arm}_distance_of_two"] = verification(z, test, seed)
        values |= {f"{arm}_val": result.val, f"{arm}_accuracy": result.accuracy, f"{arm}_val_held": valid}
        if arm == "semi_hard":
            values["bytes_val"] = verification(to_bytes(z).float() / 127, test, seed)[0].val

    torch.manual_seed(seed)
    old = FaceNet(Encoder(WIDTH // 2), DIM, lr=values["semi_hard_rate"])
    train(old, first, seed)
    new = chosen["semi_hard"]
    before, gallery = unit(new, test), unit(old, test)
    versions = []
    for rate in HARMONIC_RATES:
        torch.manual_seed(seed)
        harmonic = HarmonicFaceNet(deepcopy(new.network), old, lr=rate)
        train(harmonic, first, seed, HARMONIC_STEPS)
        versions.append((recall(unit(harmonic, held), unit(old, held), held), rate, harmonic))
    _, values["harmonic_rate"], harmonic = best_on_validation(versions)
    after = unit(harmonic, test)
    return values | {
        "recall_old_in_old": recall(gallery, gallery, test),
        "recall_new_in_new": recall(before, before, test),
        "recall_independent_in_old": recall(before, gallery, test),
        "recall_harmonic_in_old": recall(after, gallery, test),
        "recall_harmonic_in_harmonic": recall(after, after, test),
    }


def measure(run: Run) -> Finding:
    """Which negatives, against the classifier, in bytes, and across versions."""
    rows = run.each_seed(one_seed)
    val = {arm: 100 * rows[f"{arm}_val"] for arm in (*MINERS, "classifier", "bytes")}
    same = rows["recall_old_in_old"]
    return Finding(
        clauses=(
            at_least("VAL at FAR 1 %, semi-hard − random negatives", val["semi_hard"] - val["random"], 2.0, "points"),
            at_least("VAL at FAR 1 %, semi-hard − classifier", val["semi_hard"] - val["classifier"], 1.0, "points"),
            at_most("VAL at FAR 1 %, lost by one byte a number", val["semi_hard"] - val["bytes"], 0.5, "points"),
            at_least("recall in the old gallery, harmonic / old", rows["recall_harmonic_in_old"] / same, 0.9),
            at_most("recall in the old gallery, independent / old", rows["recall_independent_in_old"] / same, 0.2),
        ),
        floors=(
            floor("random negatives, VAL", rows["random_val"], 0.1),
            floor("classifier, VAL", rows["classifier_val"], 0.1),
            floor("old network, recall in its own gallery", same, 0.2),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Recall in the old gallery, harmonic / old, after 300 and 900 batches against the old network at a rate of 0.01, seed 100."""
    first, _, test = parts(run, 100)
    torch.manual_seed(100)
    old = FaceNet(Encoder(WIDTH // 2), DIM, lr=TRIPLET_RATES[1])
    train(old, first, 100)
    torch.manual_seed(100)
    new = FaceNet(Encoder(WIDTH), DIM, lr=TRIPLET_RATES[1])
    train(new, first, 100)
    gallery, found = unit(old, test), dict[str, float]()
    for steps in run.progress((HARMONIC_STEPS, 3 * HARMONIC_STEPS), "steps"):
        torch.manual_seed(100)
        harmonic = HarmonicFaceNet(deepcopy(new.network), old, lr=HARMONIC_RATES[1])
        train(harmonic, first, 100, steps)
        found[f"harmonic_over_old_{steps}_batches"] = recall(unit(harmonic, test), gallery, test) / recall(
            gallery, gallery, test
        )
    return found
