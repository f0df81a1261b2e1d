"""ForwardGNN: layers that learn one by one from forward passes, without negatives, are on a par with backpropagation.

Measured on Cora and Citeseer with their 300 commonest words, rows summing to one, random splits of 64/16/20%, graph convolutions 32 wide,
depths 2, 3 and 4. Single forward trains layer after layer, each by full-batch steps of Adam at 0.01; its first layers are those of the
shallower networks too. Forward-Forward with labels in the features or in the wiring, and single forward's layers with a linear probe
each in place of the virtual nodes, train all four layers at once, each on its own loss; they are read at each depth likewise.
Backpropagation trains the same convolutions with a linear classifier and dropout 0.5 for each depth. Every arm takes 60 or 150 steps a
layer, whichever does better on the validation nodes (the official code stops early): after 60 backpropagation has not yet learned to use
four layers, and after 150 single forward has begun to learn by heart.

Memory is the peak of the bytes that autograd holds for the backward pass in one training step on Cora, depths 2 and 8; weights and the
features that come in are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import Batch
from ziggurat.data.feeds import WholeGraph, feed
from ziggurat.data.graphs.thinning import commonest_features
from ziggurat.data.seeds import generator
from ziggurat.data.transforms import row_normalize
from ziggurat.graphs.baselines import GraphNetwork
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import saved_bytes
from ziggurat.nn.recipe import Recipe
from ziggurat.rules.forwardgnn import ForwardGNN, GraphForwardForward, SingleForwardLayer, fit_layer_by_layer
from ziggurat.rules.local import LocalLearner

SETS, WORDS, WIDTH, DEPTHS, STEPS, LR = ("cora", "citeseer"), 300, 32, (2, 3, 4), (60, 150), 0.01

published: dict[int, str] = {}
notes = Notes(
    scope="Two citation graphs and graph convolutions; the paper has five graphs, three convolutions and prediction of links.",
    methodology="Equal width, depth and rate, and the same choice of steps a layer, for all arms.",
    origin="2 points, 1 point, 1.2 and 2.5 are the specification's.",
    easy="One evaluation serves all depths: a layer does not depend on those above it.",
    hard="Top-down signals without state that outlives a step: the layers above are run first, out of autograd.",
)


class Probed(LocalLearner):
    """Detached layers like those of single forward, each with a linear classifier."""

    def __init__(self, in_features: int, classes: int, depth: int, lr: float) -> None:
        widths = [in_features, *[WIDTH] * (depth - 1)]
        super().__init__(nn.ModuleList(SingleForwardLayer(width, WIDTH) for width in widths), lr)
        self.probes = nn.ModuleList(nn.Linear(WIDTH, classes) for _ in widths)

    def scores(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Iterator[Tensor]:
        """Logits of each layer."""
        for layer, probe in zip(self.network.children(), self.probes, strict=True):
            x = layer(x, edge_index, edge_weight)
            yield probe(x)

    def stream(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        for i, score in enumerate(self.scores(*batch.inputs)):
            yield f"layer{i}", cross_entropy(batch.pick(score), batch.target, reduction="none")

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))


def stack(graph: Data, depth: int) -> GraphNetwork:
    """Convolutions and a linear classifier, for backpropagation."""
    widths = [graph.x.shape[1], *[WIDTH] * depth]
    layers = [GCNConv(a, b) for a, b in pairwise(widths)]
    acts = [nn.ReLU() for _ in layers]
    return GraphNetwork(layers, acts, (WIDTH,) * depth, int(graph.y.max()) + 1, 0.5, weighted=True)


def by_layer(arm: str, graph: Data, steps: int, seed: int) -> list[Tensor]:
    """What each layer of a trained learner says of all nodes, (N, C)."""
    features, classes, sizes = graph.x.shape[1], int(graph.y.max()) + 1, (WIDTH,) * max(DEPTHS)
    torch.manual_seed(seed)
    if arm == "single":
        single = ForwardGNN(features, classes, sizes, lr=LR)
        batch = feed(graph, single.feed).one
        fit_layer_by_layer(single, batch, steps, seed)
        with torch.no_grad():
            return [single.logits(h).softmax(1) for h in single.states(*batch.inputs)]
    if arm == "probes":
        probed = Probed(features, classes, len(sizes), LR)
        batch = feed(graph, WholeGraph()).one
        fit(probed, [batch], steps, seed=seed)
        with torch.no_grad():
            return [score.softmax(1) for score in probed.scores(*batch.inputs)]
    pairs = GraphForwardForward(features, classes, sizes, labels="features" if arm == "ff_la" else "virtual", lr=LR)
    batch = feed(graph, pairs.feed).one
    fit(pairs, [batch], steps, seed=seed)
    with torch.no_grad():
        return list(pairs.goodness(*batch.inputs))


def backpropagated(graph: Data, depth: int, steps: int, seed: int) -> Tensor:
    """What a network trained by backpropagation says of all nodes, (N, C)."""
    torch.manual_seed(seed)
    learner = Supervised(stack(graph, depth), lr=LR)
    batch = feed(graph, learner.feed).one
    fit(learner, [batch], steps, seed=seed)
    with torch.no_grad():
        return learner.predict(*batch.inputs)


def right(graph: Data, scores: Tensor) -> tuple[float, float]:
    """Accuracy on validation and on test nodes in per cent."""
    hit = (scores.argmax(1) == graph.y).double()
    return 100 * float(hit[graph.val_mask].mean()), 100 * float(hit[graph.test_mask].mean())


def memory(graph: Data, arm: str, depth: int) -> int:
    """Peak bytes held for backward in one step."""
    network = stack(graph, depth)
    sizes = (WIDTH,) * depth
    learner = ForwardGNN(graph.x.shape[1], int(graph.y.max()) + 1, sizes) if arm == "single" else Supervised(network)
    batch, free = feed(graph, learner.feed).one, nn.Module()
    free.register_parameter("x", nn.Parameter(batch.inputs[0], requires_grad=False))
    with saved_bytes(learner.eval(), free) as meter:
        terms = learner.stream(batch) if isinstance(learner, ForwardGNN) else learner.losses(batch).items()
        for _, loss in terms:
            loss.mean().backward()
    return meter.peak


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Test accuracies averaged over depths, by arm and graph, and bytes."""
    values: dict[str, float] = {}
    for name in SETS:
        graph = row_normalize(commonest_features(run.data(name), WORDS))
        part = torch.rand(len(graph.y), generator=generator(seed, "split", name))
        known = graph.y >= 0  # of some nodes of Citeseer the class is not known
        graph.train_mask, graph.val_mask, graph.test_mask = (
            known & (part < 0.64),
            known & (part >= 0.64) & (part < 0.8),
            known & (part >= 0.8),
        )
        for arm in ("single", "probes", "ff_la", "ff_vn"):
            tries = [torch.stack(by_layer(arm, graph, steps, seed)).cumsum(0) for steps in STEPS]
            for depth in DEPTHS:
                found = best_on_validation(right(graph, layers[depth - 1]) for layers in tries)
                values[f"{arm}_{depth}_{name}"] = found[1]
        for depth in DEPTHS:
            found = best_on_validation(right(graph, backpropagated(graph, depth, steps, seed)) for steps in STEPS)
            values[f"backprop_{depth}_{name}"] = found[1]
        if name == "cora":
            for arm in ("single", "backprop"):
                values |= {f"{arm}_bytes_{depth}": float(memory(graph, arm, depth)) for depth in (2, 8)}
    return values


def measure(run: Run) -> Finding:
    """Points of test accuracy, averaged over graphs and depths, and ratios of bytes."""
    rows = run.each_seed(one_seed)

    def mean(arm: str) -> np.ndarray:
        return np.mean([rows[f"{arm}_{depth}_{name}"] for depth in DEPTHS for name in SETS], 0)

    forward = np.maximum(mean("ff_la"), mean("ff_vn"))
    ratios = {arm: rows[f"{arm}_bytes_8"] / rows[f"{arm}_bytes_2"] for arm in ("single", "backprop")}
    return Finding(
        clauses=(
            at_least("single forward − backpropagation", mean("single") - mean("backprop"), -2.0, "points"),
            at_least("single forward − better Forward-Forward", mean("single") - forward, 1.0, "points"),
            at_most("single forward: bytes at depth 8 / depth 2", ratios["single"], 1.2),
            at_least("backpropagation: bytes at depth 8 / depth 2", ratios["backprop"], 2.5),
        ),
        floors=(floor("backpropagation", mean("backprop"), 70.0), floor("better Forward-Forward", forward, 40.0)),
        measurements=rows,
    )
