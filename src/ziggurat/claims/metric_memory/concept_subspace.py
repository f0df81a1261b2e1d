"""Concept subspaces: one prototype network is fair where the planes of two concepts are pushed to be orthogonal, and hierarchical where
they are pushed to be parallel.

Three experiments, each against the same network with alignment weight 0, for 15 epochs of Adam at 3e-3. Every arm takes its KL weights from
two by validation, by accuracy − disparity, where there is a KL term. Other weights are those of the official runs.
Tint: Fashion-MNIST at 14 × 14 pixels (6,000 to train on, 2,000 for validation, 4,000 for the test) in one of two colours. Classes that
are easily confused are in different halves, and while training 85 % of each half have its colour; on the validation and test images
colours are drawn by lot. Concepts: the ten classes, and the colour. Disparity is the difference of how often the two colours are put
into the first half; the probe is a logistic regression of the colour on the coordinates in the plane of the classes, by halves of the test.
Z = 10, the least that holds both planes. At Z = 32, where any two are nearly orthogonal, alignment made less of a difference. The KL term
is a mean over Z, so that the official weights of 10 and 50 leave no class to be told at Z = 10 (accuracy 0.34 on seed 100); a tenth of
them is taken here. On seed 100 and at equal weights alignment took disparity from 0.340 to 0.267 and from 0.451 to 0.307.
Adult: the 16,281 rows (half to train on, a quarter for validation and for the test), income and sex, Z = 2 and no decoder, as in the
official run. Hierarchy: the same images in grey, in 2, 6 and 10 classes; edges by which the spanning tree differs from the taxonomy, and
the mean number of edges between the predicted and the true class of errors. The recipe is that of the official run on the five levels of
CIFAR-100, which is the one that rewards alignment: every level learned among all its classes, weights 5 and 1, w_pd 0.1 on the finest
level only, w_fd 0.1, distances within the planes, no KL term, prototypes that start within ±0.05.
An earlier experiment could not tell. It learned each level among siblings only, with w_pd and w_fd of 1 in the whole space. Three of the
six groups have one class, so that their finest prototypes were pulled by no label (19 edits on seed 100, 29 ± 3 by chance); and without
alignment the planes already held each other, at the largest value that there is (0.422). Learned among all classes, that value stayed
and the edits were 4 to 9. With the present recipe the planes are free to differ: on seeds 100 to 102 alignment 0.15 to 0.19 and 3 to 5
edits at weight 0, 0.41 and 3 edits at weight −1; on seed 100 a weight of −10 left 3 (all with normal starts of the same deviation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.label_tree import LabelTree
from ziggurat.data.loading import stratified
from ziggurat.data.seeds import generator
from ziggurat.learning.hierarchy.concept_subspace import (
    ConceptSubspaceLearner,
    ConceptSubspaceNetwork,
    tree_edit_distance,
)
from ziggurat.learning.probes import linear_probe, probe_accuracy
from ziggurat.metrics.fairness import demographic_disparity, disparate_impact
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.nn.fitting import fit

TRAIN, VALID, TEST, EPOCHS, BATCH = 6_000, 2_000, 4_000, 15, 128
RATE, FAIR, ADULT, PARALLEL = 3e-3, 100.0, 1000.0, -1.0
Weight = float | tuple[float, float]
KL: dict[str, dict[str, Weight]] = {
    "tint": {"small": (1.0, 1.0), "large": (1.0, 10.0)},
    "adult": {"small": 0.05, "large": 0.5},
    "tree": {"none": 0.0},
}
MATCH, HALF = (
    0.85,
    torch.tensor([0, 0, 0, 1, 1, 0, 1, 0, 1, 1]),
)  # T-shirt and shirt, pullover and coat, sneaker and boot part
COLOURS = torch.tensor([[1.0, 0.5, 0.5], [0.5, 0.5, 1.0]])
LEVELS = tuple(
    (int(g > 3), g, c) for c, g in enumerate((0, 2, 1, 3, 1, 4, 0, 4, 5, 4))
)  # light and warm tops, trousers, dress; shoes, bag
NEAR = 0.05  # prototypes of the tree start between −NEAR and NEAR
LARGEST = 1 / 5 + 1 / 9 + 1 / 9  # alignment of the planes of 2, 6 and 10 prototypes when each holds those above

published: dict[int, str] = {}
notes = Notes(
    scope="Coloured and grey Fashion-MNIST and a third of Adult, perceptrons; the paper takes German, Adult, CIFAR-100 and iNaturalist.",
    methodology="Same network, data, epochs and choices for the aligned arm and for alignment weight 0.",
    origin="0.6, 0.8, 0.5, 10 points, 2 points and 1 point are the specification's.",
    easy="Within one concept the plane changes no probability, so that the classifier is nearest prototype.",
    hard="The official KL term covers the variances in all directions, not only off the plane; this one does as well.",
    why=(
        "recipe",
        "On Adult the alignment weight does to the planes what it should: the squared cosine of the two lines is 0.91 and 1.00 without "
        "it, by KL weight, and below 1e-8 with it (support). But disparity does not fall: at equal KL weights it changes by +0.011 ± "
        "0.033 and +0.012 ± 0.030 (support), and it is higher with alignment on all three measured seeds. The larger KL weight alone "
        "lowers it by 0.045 ± 0.023 (support), and that weight is what the arm without alignment chooses on all seeds and the other on "
        "one. On the tinted images alignment does lower the disparity, at equal KL weights to 0.63 to 0.94 of what it is without, on "
        "average to 0.86 and 0.77, not to 0.6. The tree without alignment is 3 edits from the taxonomy (28 to 29 by chance); with it "
        "the alignment goes from 0.18 and 0.19 to 0.41, and the tree to 1, 3 and 3 edits.",
    ),
)


@dataclass(frozen=True)
class Rows:
    """Samples with a label in every concept, or one label."""

    x: Tensor
    labels: Tensor
    name: str = "rows"

    def __len__(self) -> int:
        return len(self.x)

    def inputs(self, index: Any) -> Tensor:
        return self.x[index]


def small(data: Images) -> Tensor:
    """Grey images at half the size, in [0, 1]."""
    return avg_pool2d(data.inputs(slice(None)), 2)


def tinted(data: Images, match: float, seed: int) -> Rows:
    """Coloured images: a share `match` in the colour of its half."""
    half = HALF[data.labels]
    same = torch.rand(len(data), generator=generator(seed, "tint", data.name)) < match
    tint = torch.where(same, half, 1 - half)
    return Rows(small(data) * COLOURS[tint][:, :, None, None], torch.stack([data.labels, tint], 1))


def parts(run: Run, seed: int) -> tuple[Images, Images, Images]:
    """Images to train on, to choose by, and to look at."""
    train, test = run.data("fashion_mnist", "train"), run.data("fashion_mnist", "test")
    some = train.subset(stratified(train.labels, (TRAIN + VALID) / len(train), seed)[1])
    keep, held = stratified(some.labels, VALID / len(some), seed)
    return some.subset(keep), some.subset(held), test.subset(stratified(test.labels, TEST / len(test), seed)[1])


def disparity(said: Tensor, rows: Rows) -> float:
    """Between the two groups of the second concept."""
    return demographic_disparity(said.bool(), rows.labels[:, 1].bool())


Learn = Callable[[float, Weight], ConceptSubspaceLearner]
Judge = Callable[[ConceptSubspaceLearner, Rows], tuple[float, dict[str, float]]]


def arm(
    make: Learn, weight: float, choices: dict[str, Weight], rows: Sequence[Rows], judge: Judge, seed: int
) -> dict[str, float]:
    """What the arm of an alignment weight shows on the test rows: at each of the KL weights, and at those that are best on validation."""
    train, valid, test = rows
    found = []
    for name, kl in choices.items():
        torch.manual_seed(seed)
        learner = make(weight, kl)
        fit(learner, feed(train, Labelled(), BATCH, seed), epochs=EPOCHS, seed=seed)
        with torch.no_grad():
            found.append((judge(learner, valid)[0], judge(learner, test)[1], name))
    _, shown, chosen = best_on_validation(found)
    if len(choices) == 1:
        return shown
    each = {f"{name}_{what}": value for _, values, name in found for what, value in values.items()}
    return {**shown, **each, **{f"{name}_chosen": float(name == chosen) for name in choices}}


def judge_tint(learner: ConceptSubspaceLearner, rows: Rows) -> tuple[float, dict[str, float]]:
    """Accuracy − disparity; and all that is reported."""
    said = learner.predict(rows.x).argmax(1)
    accuracy = float((said == rows.labels[:, 0]).float().mean())
    apart = disparity(HALF[said], rows)
    z = learner.network.concepts[0].coordinates(learner.represent(rows.x))  # type: ignore[operator]
    half, tint = len(rows) // 2, rows.labels[:, 1]
    probe = probe_accuracy(linear_probe(), (z[:half], tint[:half]), (z[half:], tint[half:]))
    return accuracy - apart, {"accuracy": accuracy, "disparity": apart, "probe": probe}


def judge_adult(learner: ConceptSubspaceLearner, rows: Rows) -> tuple[float, dict[str, float]]:
    """Accuracy − disparity; and all that is reported."""
    said = learner.predict(rows.x).argmax(1)
    accuracy, apart = float((said == rows.labels[:, 0]).float().mean()), disparity(said, rows)
    impact = disparate_impact(said.bool(), rows.labels[:, 1].bool())
    return accuracy - apart, {"accuracy": accuracy, "disparity": apart, "impact": impact}


def judge_tree(learner: ConceptSubspaceLearner, rows: Rows) -> tuple[float, dict[str, float]]:
    """Accuracy; and the edit distance of the tree, the mean way between the true class of an error and the predicted one, the alignment."""
    network, labels = learner.network, rows.labels[:, -1]
    said = network.concepts[-1](learner.represent(rows.x)).argmax(1)
    wrong = said != labels
    groups = [[c for c, (_, g, _) in enumerate(LEVELS) if g == group] for group in range(6)]
    cost = LabelTree.from_groups(groups).distance[said[wrong], labels[wrong]].double().mean()
    accuracy, edits = 1 - float(wrong.float().mean()), tree_edit_distance(network.tree(), torch.tensor(LEVELS))
    parallel = float(network.alignment().triu(1).sum())
    return accuracy, {"accuracy": accuracy, "edits": float(edits), "cost": float(cost), "alignment": parallel}


def edits_by_chance(seed: int, count: int = 20) -> float:
    """Mean edits of the trees of networks that have learned nothing."""
    torch.manual_seed(seed)
    trees = [of_tree(0.0, 0.0).network.tree() for _ in range(count)]
    return sum(tree_edit_distance(tree, torch.tensor(LEVELS)) for tree in trees) / count


def adult(run: Run, seed: int) -> tuple[Rows, Rows, Rows]:
    """The three parts of Adult, standardised by the first."""
    table = run.data("tabular_uci", "adult_test")
    sex = table.x[:, table.columns.index("c9=Male")].long()
    labels = torch.stack([table.labels, sex], 1)
    rest, train = stratified(2 * table.labels + sex, 0.5, seed)
    order = rest[torch.randperm(len(rest), generator=generator(seed, "adult"))]
    deviation, mean = torch.std_mean(table.x[train], 0)
    x = (table.x - mean) / deviation.clamp_min(1e-6)
    valid, test = order.chunk(2)
    return tuple(Rows(x[rows].clamp(-5, 5), labels[rows]) for rows in (train, valid, test))  # type: ignore[return-value]


def of_tint(weight: float, kl: Weight) -> ConceptSubspaceLearner:
    """The network of the tinted images."""
    network = ConceptSubspaceNetwork((3, 14, 14), (10, 2), 10)
    return ConceptSubspaceLearner(network, (3.0, 1.0), 0.1, 0.001, 0.001, kl, weight, RATE)


def of_adult(columns: int, weight: float, kl: Weight) -> ConceptSubspaceLearner:
    """The network of Adult."""
    network = ConceptSubspaceNetwork((columns,), (2, 2), 2, (64, 64))
    return ConceptSubspaceLearner(network, (1.0, 0.1), 0.0, 1.0, 1.0, kl, weight, RATE)


def of_tree(weight: float, kl: Weight) -> ConceptSubspaceLearner:
    """The network of the three levels."""
    network = ConceptSubspaceNetwork((1, 14, 14), (2, 6, 10), 32)
    for concept in network.concepts:
        nn.init.uniform_(concept.prototypes, -NEAR, NEAR)  # type: ignore[arg-type]
    return ConceptSubspaceLearner(network, (1.0, 1.0, 5.0), 0.1, (0.0, 0.0, 0.1), 0.1, kl, weight, RATE)


def tints(images: Sequence[Images], seed: int) -> list[Rows]:
    """Tinted: most of the first part in the colour of its half, the others by lot."""
    return [tinted(data, match, seed) for data, match in zip(images, (MATCH, 0.5, 0.5), strict=True)]


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """All three experiments, with alignment and without."""
    images, people = parts(run, seed), adult(run, seed)
    grey = [Rows(small(data), torch.tensor(LEVELS)[data.labels]) for data in images]
    values = {"tree_chance_edits": edits_by_chance(seed)}
    experiments: Sequence[tuple[str, Learn, float, Sequence[Rows], Judge]] = (
        ("tint", of_tint, FAIR, tints(images, seed), judge_tint),
        ("adult", partial(of_adult, people[0].x.shape[1]), ADULT, people, judge_adult),
        ("tree", of_tree, PARALLEL, grey, judge_tree),
    )
    for name, make, weight, rows, judge in run.progress(experiments, "experiments"):
        for which, w in (("aligned", weight), ("free", 0.0)):
            shown = arm(make, w, KL[name], rows, judge, seed)
            values |= {f"{name}_{which}_{what}": value for what, value in shown.items()}
    return values


def measure(run: Run) -> Finding:
    """Each experiment against alignment weight 0."""
    rows = run.each_seed(one_seed)

    def points(name: str) -> Any:
        return 100 * (rows[name.format("aligned")] - rows[name.format("free")])

    def ratio(name: str) -> Any:
        return rows[name.format("aligned")] / rows[name.format("free")].clip(1e-6)

    edits = rows["tree_aligned_edits"] - 0.5 * rows["tree_free_edits"]
    return Finding(
        clauses=(
            at_most("tint: disparity, orthogonal / free", ratio("tint_{}_disparity"), 0.6),
            at_most("tint: probe of the colour, orthogonal − free", points("tint_{}_probe"), -10.0, "points"),
            at_least("tint: accuracy, orthogonal − free", points("tint_{}_accuracy"), -2.0, "points"),
            at_most("Adult: disparity, orthogonal / free", ratio("adult_{}_disparity"), 0.8),
            at_least("Adult: accuracy, orthogonal − free", points("adult_{}_accuracy"), -2.0, "points"),
            at_most("tree: edits, parallel − half of those of free", edits, 0.0, "edges"),
            at_least("tree: accuracy, parallel − free", points("tree_{}_accuracy"), -1.0, "points"),
        ),
        floors=(
            floor("tint: accuracy without alignment", rows["tint_free_accuracy"], 0.7),
            floor("tint: disparity without alignment", rows["tint_free_disparity"], 0.05),
            floor("tree: accuracy without alignment", rows["tree_free_accuracy"], 0.7),
            floor(
                "tree: edits by chance − those without alignment",
                rows["tree_chance_edits"] - rows["tree_free_edits"],
                10.0,
            ),
            floor("tree: largest alignment − that without alignment", LARGEST - rows["tree_free_alignment"], 0.05),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """Adult, seeds 100 to 102: alignment and disparity of each arm at each KL weight; and what the alignment and the KL weight change
    about the disparity, with the deviation of these paired differences."""
    found: dict[str, list[float]] = {}

    def judged(learner: ConceptSubspaceLearner, rows: Rows) -> tuple[float, dict[str, float]]:
        score, shown = judge_adult(learner, rows)
        return score, {**shown, "alignment": float(learner.network.alignment().triu(1).sum())}

    for seed in run.progress((100, 101, 102), "seeds"):
        people = adult(run, seed)
        for which, weight in (("orthogonal", ADULT), ("free", 0.0)):
            shown = arm(partial(of_adult, people[0].x.shape[1]), weight, KL["adult"], people, judged, seed)
            for kl in KL["adult"]:
                for what in ("alignment", "disparity", "accuracy"):
                    found.setdefault(f"{what}_{which}_{kl}", []).append(shown[f"{kl}_{what}"])
    each = {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}
    changes = {
        "by_alignment_at_small_kl": each["disparity_orthogonal_small"] - each["disparity_free_small"],
        "by_alignment_at_large_kl": each["disparity_orthogonal_large"] - each["disparity_free_large"],
        "by_kl_without_alignment": each["disparity_free_large"] - each["disparity_free_small"],
    }
    return {
        **{f"adult_{name}": float(values.mean()) for name, values in each.items()},
        **{f"disparity_{name}": float(values.mean()) for name, values in changes.items()},
        **{f"deviation_{name}": float(values.std()) for name, values in changes.items()},
    }
