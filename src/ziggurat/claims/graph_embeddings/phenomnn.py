"""PhenomNN: unrolled descent on an energy of the hypergraph beats stacked hypergraph convolutions, and depth helps it.

Measured on HyperGCN's hypergraphs: Cora's co-authorship and co-citation, Citeseer's co-citation; published split of the seed's number
(about 20 labels a class), 500 nodes held out of the test part to choose by, the 500 most frequent words, rows summing to one, singletons
for nodes in no hyperedge. PhenomNNSimple with K = 16 steps and the official λ of each set (Citeseer as Cora's co-citation) against HGNN
with 2 and with 16 convolutions, the same steps without the anchor (Y₀ is only where they start), and the perceptron without hypergraph.
All have 64 hidden units and 100 full-batch steps of Adam at 0.01 with weight decay 5e-4 and dropout 0.5; the step is chosen, out of every
fourth, on the held-out nodes. (Cut for time: the specification's 200 steps, and the words, which are what a step costs. Its dropout of
0.6 to 0.8 for PhenomNN is 0.5 for all.) The energy is looked at on the trained network, step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import GraphLoader
from ziggurat.data.graphs.holding_out import hold_out
from ziggurat.data.transforms import row_normalize
from ziggurat.graphs.hypergraphs.hgnn import HGNN
from ziggurat.graphs.hypergraphs.incidence import add_singletons
from ziggurat.graphs.hypergraphs.phenomnn import PhenomNNSimple
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.best_step import BestStep
from ziggurat.nn.fitting import fit
from ziggurat.nn.mlp import MLP
from ziggurat.nn.recipe import Recipe

SETS = {
    "cora_coauthorship": (20.0, 80.0, 0.1),
    "cora_cocitation": (0.0, 20.0, 1.0),
    "citeseer_cocitation": (0.0, 20.0, 1.0),
}
"""λ₀, λ₁ and α of the official code."""
WIDTH, DROPOUT, DEPTH, HELD, WORDS = 64, 0.5, 16, 500, 500
STEPS, RATE, DECAY = 100, 0.01, 5e-4

published: dict[int, str] = {}
notes = Notes(
    scope="Three of the paper's hypergraphs and its simple energy; the paper adds seven other sets and compares with eight methods.",
    methodology="Equal width, dropout, steps, rate, decay and choice of the step for every arm; λ and α are the official ones.",
    origin="1, 10 and 3 points are the specification's.",
    easy="The energy: it falls at every step, as the preconditioner promises.",
    hard="Nothing was tuned for HGNN with 16 layers: plain stacks of that depth are known not to train.",
    why=(
        "scale",
        "Sixteen steps with α of 0.1 to 1 hardly leave where they started, so that the start anchors as well as the energy's own "
        "term does; the term is worth one to two points here. How it is at 128 steps is looked at in support.",
    ),
)


class Plain(Supervised):
    """Any network, with Adam at a constant rate."""

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or RATE, weight_decay=DECAY))


class Unanchored(PhenomNNSimple):
    """The steps without Y₀ in the bracket: smoothing only, from where the features are."""

    def anchor(self, y0: Tensor) -> Tensor:
        return torch.zeros_like(y0)


def chosen(make: Callable[[], nn.Module], inputs: tuple, graph: Any, seed: int) -> tuple[float, nn.Module]:
    """Test accuracy in percent at the step that does best on the held-out nodes, and that network."""
    nodes = graph.train_mask.nonzero().flatten()
    batch = GraphBatch(inputs, graph.y[nodes], nodes, mask=graph.train_mask)

    def accuracy(learner: Supervised, mask: Tensor) -> float:
        return 100 * float((learner.predict(*inputs).argmax(1) == graph.y)[mask].float().mean())

    torch.manual_seed(seed)
    learner = Plain(make())
    keep = BestStep(lambda one: accuracy(one, graph.val_mask), every=4)
    fit(learner, GraphLoader(batch), STEPS, seed=seed, callbacks=[keep])
    with torch.inference_mode():
        return accuracy(learner, graph.test_mask), learner.network


def documents(run: Run, name: str, seed: int) -> Any:
    """This seed's split of a set, with its most frequent words only."""
    graph = hold_out(run.data(name, seed % 10), HELD, seed)
    words = (graph.x > 0).sum(0).topk(WORDS).indices
    graph.x = graph.x[:, words]
    return row_normalize(graph)


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Test accuracies of every arm on every set, and how often the energy rose."""
    values: dict[str, float] = {}
    for name, (clique, star, alpha) in run.progress(list(SETS.items()), "sets"):
        graph = documents(run, name, seed)
        sizes = (graph.x.shape[1], int(graph.y.max()) + 1)
        inputs = (graph.x, add_singletons(graph.hyperedge_index, len(graph.y)))
        unrolled = (*sizes, WIDTH, DEPTH, clique, star, alpha, DROPOUT)
        values[f"{name}_phenomnn"], network = chosen(lambda a=unrolled: PhenomNNSimple(*a), inputs, graph, seed)
        assert isinstance(network, PhenomNNSimple)
        path = network.double().eval().energies(graph.x.double(), inputs[1])
        values[f"{name}_rises"] = float(sum(after > before * (1 + 1e-12) for before, after in pairwise(path)))
        values[f"{name}_energy_left"] = path[-1] / path[0]
        values[f"{name}_unanchored"], _ = chosen(lambda a=unrolled: Unanchored(*a), inputs, graph, seed)
        for depth in (2, DEPTH):
            plain = (*sizes, WIDTH, depth, DROPOUT)
            values[f"{name}_hgnn{depth}"], _ = chosen(lambda a=plain: HGNN(*a), inputs, graph, seed)
        values[f"{name}_mlp"], _ = chosen(lambda a=sizes: MLP(*a, (WIDTH,), DROPOUT), inputs[:1], graph, seed)
    return values


def measure(run: Run) -> Finding:
    """Differences in points of test accuracy, as means over the sets."""
    rows = run.each_seed(one_seed)

    def mean(arm: str) -> np.ndarray:
        return np.mean([rows[f"{name}_{arm}"] for name in SETS], axis=0)

    rises = np.sum([rows[f"{name}_rises"] for name in SETS], axis=0)
    return Finding(
        clauses=(
            at_least("PhenomNNSimple − HGNN of 2 layers", mean("phenomnn") - mean("hgnn2"), 1.0, "points"),
            at_least("PhenomNNSimple − HGNN of 16 layers", mean("phenomnn") - mean("hgnn16"), 10.0, "points"),
            at_least("PhenomNNSimple − the same without anchor", mean("phenomnn") - mean("unanchored"), 3.0, "points"),
            exactly("steps at which the energy rises", rises, 0.0),
        ),
        floors=(floor("HGNN of 2 layers", mean("hgnn2"), 60.0), floor("MLP", mean("mlp"), 48.0)),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """With and without the anchor at 16 and 128 steps on Cora's co-citation, seed 100."""
    name, found = "cora_cocitation", {}
    graph = documents(run, name, 100)
    inputs = (graph.x, add_singletons(graph.hyperedge_index, len(graph.y)))
    sizes = (graph.x.shape[1], int(graph.y.max()) + 1)
    for depth in run.progress((DEPTH, 128), "depths"):
        for arm, make in (("anchored", PhenomNNSimple), ("unanchored", Unanchored)):
            unrolled = (*sizes, WIDTH, depth, *SETS[name], DROPOUT)
            found[f"{arm}_{depth}"], _ = chosen(lambda m=make, a=unrolled: m(*a), inputs, graph, 100)
    return found
