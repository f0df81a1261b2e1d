"""SpaGBOL: a short walk tells a junction better than one picture of it, and the directions of its roads sort most wrong ones out.

Measured on real junctions of two OpenStreetMap extracts from Finland, places where three roads or more meet, on a drawn ground
(`drawn_city`): 900 of Helsinki's south train, 331 of its north choose, with 770 between them, and all 331 of another town test. A tile
shows 48 m at 32 × 32 pixels; a street view looks 12 to 17 m far, unrolled to 16 × 64 pixels from a random heading, with other colours and
noise. Junctions that are near share the photograph that the ground is made of.

Arms: walks of four junctions with the geographic curriculum, the same with random negatives, and single images, which are walks of one and
take the better of both kinds of negatives, too. All train the same encoders, two convolutions each, on as many images in as many steps:
batches of 16 walks, or of 64 images. Each takes its rate from two by recall@1 on the junctions kept to choose by. A query is one random
walk, seen from the street, the gallery all walks that do not turn back, its own among them, seen from above; a place is as far as the
nearest of its walks.

The filter takes bearings in `BINS` bins. A camera that does not know its heading sees them turned by a random number of bins. Then each bin
of a query is wrong with a probability of 10 %; the exact filter and one with a tolerance of two bins know the heading, as in the authors'
code. The number of bins is chosen by the latter's recall@1 on the junctions kept to choose by; the specification has 36, of which with
10 % wrong a tolerance of two would keep 29 % of the true places.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.feeds import feed
from ziggurat.data.graphs.city_graph import CityGraph, drawn_city
from ziggurat.data.seeds import derive, generator
from ziggurat.learning.metric.spagbol import (
    BearingVectorMatching,
    Negatives,
    SpaGBOL,
    Walks,
    all_walks,
    bearing_vectors,
    geographic_negatives,
    place_distances,
    random_negatives,
)
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.metrics.retrieval import recall_at
from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.fitting import fit

TRAIN, VALID, WALK, IMAGES, EPOCHS, EVERY = 900, 331, 4, 64, 20, 2
RATES, BINS, WRONG, TOLERANCE = (3e-4, 6e-4), (8, 12, 16, 24), 0.1, 2

published: dict[int, str] = {
    6: "top-1 on the unseen test graph 11 % better, relatively, than earlier techniques, and 50 % with bearing vector matching (abstract)"
}
notes = Notes(
    scope="Real junctions of two Finnish towns under a drawn ground; the paper has photographs of ten cities, and ConvNeXt-T.",
    methodology="Same encoders, images, steps and optimiser for all arms; rates and number of bins chosen in another district.",
    origin="1.10 and 1.25 times and half are the specification's; the paper's 11 % and 50 % are against other methods.",
    easy="A walk is a small graph, and the filter a comparison of bits.",
    hard="Street views must differ from the tiles, or colours alone give the place away. In the pilots the curriculum, which begins with "
    "the farthest walks, was behind random negatives.",
)


class Encoder(nn.Sequential):
    """Two convolutions, the first of which cuts the image into patches, and a linear layer on a coarse map.

    Arguments:
        cells: of the map; a street view keeps its distances only, so that its heading does not count.
    """

    num_features = 64

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__(
            ConvNormAct(3, 24, 4, 4, padding=0),
            ConvNormAct(24, 48, 3, 2),
            nn.AdaptiveAvgPool2d(cells),
            nn.Flatten(),
            nn.Linear(48 * cells[0] * cells[1], self.num_features),
        )


class Cities(NamedTuple):
    """Where the arms learn, choose and are tested."""

    train: CityGraph
    valid: CityGraph
    test: CityGraph


def cities(run: Run, seed: int) -> Cities:
    """The south and the north of Helsinki, and another town under other photographs."""
    photographs = run.data("photographs")
    helsinki = drawn_city(run.data("roads_helsinki"), photographs[100:], seed=derive(seed, "helsinki"))
    order = helsinki.position[:, 0].argsort()
    test = drawn_city(run.data("roads_test_area"), photographs[:100], seed=derive(seed, "test"))
    return Cities(helsinki.subset(order[:TRAIN]), helsinki.subset(order[-VALID:]), test)


def train(walk: int, negatives: Negatives, rate: float, city: CityGraph, seed: int) -> SpaGBOL:
    """A trained arm. An epoch of single images has a fourth of the steps of one of walks; what is counted in epochs is made up for that."""
    torch.manual_seed(seed)
    times = WALK // walk
    learner = SpaGBOL(
        Encoder((2, 1)), Encoder((4, 4)), (64, 64), walk, negatives, every=EVERY * times, patience=4 * times, lr=rate
    )
    fit(learner, feed(city, learner.feed, IMAGES // walk, seed), epochs=EPOCHS * times, seed=seed)
    return learner


def distances(learner: SpaGBOL, city: CityGraph, seed: int) -> Float[Tensor, "Q P"]:
    """From a random walk at each junction, seen from the street, to all junctions."""
    places = torch.arange(len(city))
    walks, place = all_walks(city.roads, len(city), places, learner.walk)
    queries = Walks(learner.walk).draw(city, places, generator(seed, "queries"))
    return place_distances(
        learner.embed(city, queries, "street"), learner.embed(city, walks, "satellite"), place, len(city)
    )


def recalls(ranked: Tensor, name: str) -> dict[str, float]:
    """Recall at 1, 5, 10 and 1 % of the places; query i is of place i."""
    count = ranked.shape[1]
    at = {"1": 1, "5": 5, "10": 10, "percent": math.ceil(count / 100)}
    return {f"{name}_recall{key}": recall_at(ranked, torch.arange(count), k) for key, k in at.items()}


def filtered(distance: Float[Tensor, "Q P"], vectors: Bool[Tensor, "P B"], seed: int) -> dict[str, float]:
    """Recalls with exact bearings, heading unknown and known, and with wrong ones."""
    draw, (count, bins) = generator(seed, "bearings"), vectors.shape
    turn = torch.randint(bins, (count, 1), generator=draw)
    turned = vectors.gather(1, (torch.arange(bins) + turn) % bins)
    wrong = vectors ^ (torch.rand(vectors.shape, generator=draw) < WRONG)
    exact, tolerant = BearingVectorMatching(vectors), BearingVectorMatching(vectors, TOLERANCE)
    return (
        recalls(exact.rank(distance, turned), "unknown")
        | recalls(exact.rank(distance, vectors, known_heading=True), "known")
        | recalls(exact.rank(distance, wrong, known_heading=True), "wrong_exact")
        | recalls(tolerant.rank(distance, wrong, known_heading=True), "wrong_tolerant")
    )


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Recalls of all arms, and with the filter those of walks."""
    where, values = cities(run, seed), dict[str, float]()
    arms = {
        "graph": (WALK, (geographic_negatives,)),
        "graph_random": (WALK, (random_negatives,)),
        "single": (1, (geographic_negatives, random_negatives)),
    }
    for arm, (walk, kinds) in arms.items():
        found = []
        for negatives in kinds:
            for rate in run.progress(RATES, f"{arm}: rates"):
                learner = train(walk, negatives, rate, where.train, seed)
                valid, test = (distances(learner, city, seed) for city in where[1:])
                found.append((recalls(valid.argsort(1), arm)[f"{arm}_recall1"], rate, valid, test))
        _, values[f"{arm}_rate"], valid, test = best_on_validation(found)
        values |= recalls(test.argsort(1), arm)
        if arm == "graph":
            choices = []
            for bins in BINS:
                vectors = [bearing_vectors(city.at, city.bearing, len(city), bins) for city in where[1:]]
                chosen = filtered(valid, vectors[0], seed)["wrong_tolerant_recall1"]
                choices.append((chosen, {"bins": bins} | filtered(test, vectors[1], seed)))
            values |= best_on_validation(choices)[1]
    return values


def measure(run: Run) -> Finding:
    """Walks against single images, and what the filter adds."""
    rows = run.each_seed(one_seed)
    graph, known = rows["graph_recall1"], rows["known_recall1"]
    wrong, tolerant = rows["wrong_exact_recall1"], rows["wrong_tolerant_recall1"]
    return Finding(
        clauses=(
            at_least("recall@1, walks / single images", graph / rows["single_recall1"], 1.10),
            at_least(
                "recall@1 of walks, filter with unknown heading / no filter", rows["unknown_recall1"] / graph, 1.25
            ),
            at_least("recall@1, known − unknown heading", 100 * (known - rows["unknown_recall1"]), 0, "points"),
            at_least("recall@1 that wrong bearings cost the exact filter", 100 * (known - wrong), 0, "points"),
            at_least("of that, won back by a tolerance of 2 bins", (tolerant - wrong) / (known - wrong), 0.5),
        ),
        floors=(floor("single images, recall@1", rows["single_recall1"], 0.15),),
        measurements=rows,
    )
