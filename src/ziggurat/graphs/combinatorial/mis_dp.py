"""Independent sets by a recursion whose one branch a network chooses, trained on the outcomes of its own choices.

For any vertex v with a neighbour, MIS(G) = max(MIS(G − v), MIS(G − N(v))). A rollout takes such a v at random, lets a comparator say which
of the two graphs has the larger independent set, and goes on with that one until no edge is left: what remains is independent. Training
rolls out, estimates the sets of the graphs met by the best of several rollouts, and teaches the comparator to order them.

L. Brusca, L. Quaedvlieg, S. Skoulakis, G. Chrysos, V. Cevher, Maximum Independent Set: Self-Training through Dynamic Programming, 2023,
arXiv:2310.18672.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import cross_entropy

from ziggurat.data.seeds import derive, generator
from ziggurat.graphs.combinatorial.comparator import MISComparator
from ziggurat.graphs.combinatorial.dense import DenseGraphs, dense_graphs, greedy_completion
from ziggurat.graphs.combinatorial.rollouts import Met, best_of, by_score, rollout


class Pairs(NamedTuple):
    """Pairs of graphs of one root each, and which one has the larger set: (1, 0), (0, 1) or (½, ½)."""

    root: Int64[Tensor, " P"]
    first: Bool[Tensor, "P n"]
    second: Bool[Tensor, "P n"]
    label: Float[Tensor, "P 2"]


def labelled_pairs(
    graphs: DenseGraphs, prefer: Prefer, rollouts: int, steps: int, pairs: int, mixed: bool, draws: torch.Generator
) -> Pairs:
    """Rolls out every graph once, estimates sets of what it met, and compares.

    Arguments:
        rollouts: the best of so many estimates each set; every graph gets as many, since the best of more is larger.
        steps: of each root, drawn among all of its rollout; the two graphs of each are compared.
        pairs: a root, about: those of its steps, and beyond them random graphs of the same root.
        mixed: the estimate is at least what the min-degree greedy finds.
    """
    met: list[Met] = []
    rollout(graphs, prefer, draws, met)
    if not met:
        raise ValueError("no graph has an edge, so there is nothing to compare; train on graphs with edges.")
    root, without, taken = _few_of_each(Met(*(torch.cat(parts) for parts in zip(*met, strict=True))), steps, draws)
    own = len(root)
    met_graphs = DenseGraphs(graphs.adjacency[root.repeat(2)], torch.cat([without, taken]))
    size = best_of(met_graphs, prefer, rollouts, draws).sum(1)
    if mixed:
        size = torch.maximum(size, greedy_completion(met_graphs).sum(1))
    a = torch.randint(own, (max(pairs - steps, 0) * len(graphs.present),), generator=draws)
    counts = torch.bincount(root)
    start = (counts.cumsum(0) - counts)[root[a]]
    b = start + (torch.rand(len(a), generator=draws) * counts[root[a]]).long()
    sides = own * torch.randint(2, (2, len(a)), generator=draws)
    first = torch.cat([torch.arange(own), a + sides[0]])
    second = torch.cat([torch.arange(own, 2 * own), b + sides[1]])
    sign = torch.sign(size[first] - size[second])
    present = met_graphs.present
    return Pairs(root[first % own], present[first], present[second], torch.stack([1 + sign, 1 - sign], 1) / 2)


def _few_of_each(met: Met, steps: int, draws: torch.Generator) -> Met:
    """At most so many random steps of every root, sorted by root."""
    order = torch.randperm(len(met.root), generator=draws)
    order = order[met.root[order].argsort(stable=True)]
    counts = torch.bincount(met.root)
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[met.root[order]]
    return Met(*(part[order[rank < steps]] for part in met))


def self_train_mis(
    comparator: MISComparator,
    graphs: DenseGraphs,
    rounds: int = 10,
    roots: int = 40,
    rollouts: int = 5,
    steps: int = 32,
    pairs: int = 128,
    buffer: int = 3 * 5120,
    updates: int = 200,
    batch_size: int = 32,
    lr: float = 1e-3,
    mixed: bool = False,
    seed: int = 0,
    rolling: int | None = None,
) -> MISComparator:
    """Trains a comparator by what it finds itself; returns it with the weights of its best round.

    The best round is the one behind which one rollout of every training graph leaves the most vertices: no optimum has to be known. Without
    this choice the last round would count, and rounds differ by much.

    Arguments:
        rounds: of rolling out and learning.
        roots: graphs that a round rolls out.
        rollouts, steps, pairs, mixed: of `labelled_pairs`.
        buffer: pairs kept; the oldest ones leave.
        updates: steps of Adam in each round, on `batch_size` pairs of the buffer each.
        rolling: rounds that roll out; later ones learn from the pairs there are. None: all of them do.
    """
    if rounds < 1 or (rolling is not None and rolling < 1):
        raise ValueError(f"rounds, and those that roll out, must be 1 or more, got {rounds} and {rolling}.")
    draws = generator(seed, "mis")
    optimizer = torch.optim.Adam([p for p in comparator.parameters() if p.requires_grad], lr)
    kept = Pairs(
        *(x.new_zeros(0, *x.shape[1:]) for x in (torch.zeros(0).long(), *[graphs.present] * 2, torch.zeros(0, 2)))
    )
    most, best = -1, comparator.state_dict()
    for step in range(rounds):
        if rolling is None or step < rolling:
            chosen = torch.randperm(len(graphs.present), generator=draws)[:roots]
            batch = DenseGraphs(graphs.adjacency[chosen], graphs.present[chosen])
            new = labelled_pairs(batch, by_score(comparator), rollouts, steps, pairs, mixed, draws)
            new = new._replace(root=chosen[new.root])
            kept = Pairs(*(torch.cat(both)[-buffer:] for both in zip(kept, new, strict=True)))
        for _ in range(updates):
            rows = torch.randint(len(kept.root), (batch_size,), generator=draws)
            linked = graphs.adjacency[kept.root[rows]]
            logits = comparator.compare(DenseGraphs(linked, kept.first[rows]), DenseGraphs(linked, kept.second[rows]))
            optimizer.zero_grad()
            cross_entropy(logits, kept.label[rows]).backward()
            optimizer.step()
        found = int(rollout(graphs, by_score(comparator), generator(seed, "look")).sum())
        if found > most:
            most, best = found, copy.deepcopy(comparator.state_dict())
    comparator.load_state_dict(best)
    return comparator


class DPIndependentSet(BaseEstimator):
    """Learns on some graphs to find large independent sets, and finds them in others.

    Arguments:
        width, rounds, roots, rollouts, steps, pairs, buffer, updates, batch_size, lr, mixed: of `MISComparator` and `self_train_mis`.
        best_of: rollouts of which the largest set is returned.
        complete: adds vertices that can still be added; a rollout's set need not be maximal.
        random_state: of the weights and every draw.

    After `fit`: `comparator_`.
    """

    def __init__(
        self,
        width: int = 32,
        rounds: int = 10,
        roots: int = 40,
        rollouts: int = 5,
        steps: int = 32,
        pairs: int = 128,
        buffer: int = 3 * 5120,
        updates: int = 200,
        batch_size: int = 32,
        lr: float = 1e-3,
        mixed: bool = False,
        best_of: int = 1,
        complete: bool = False,
        random_state: int = 0,
    ) -> None:
        self.width, self.rounds, self.roots, self.rollouts, self.steps = width, rounds, roots, rollouts, steps
        self.pairs, self.buffer, self.updates, self.batch_size, self.lr = pairs, buffer, updates, batch_size, lr
        self.mixed, self.best_of, self.complete, self.random_state = mixed, best_of, complete, random_state

    def fit(self, graphs: Any, y: Any = None) -> DPIndependentSet:
        """Trains on one graph or a list of graphs."""
        dense = dense_graphs(graphs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.random_state, "comparator"))
            comparator = MISComparator(self.width)
        self.comparator_ = self_train_mis(
            comparator, dense, self.rounds, self.roots, self.rollouts, self.steps, self.pairs, self.buffer,
            self.updates, self.batch_size, self.lr, self.mixed, self.random_state,
        ).eval()  # fmt: skip
        return self

    def predict(self, graph: Any) -> np.ndarray | list[np.ndarray]:
        """Bools (n,), True in the independent set of a graph; a list of them for a list of graphs."""
        if not hasattr(self, "comparator_"):
            raise ValueError("this DPIndependentSet has not learned yet; call fit(graphs) first.")
        if self.best_of < 1:
            raise ValueError(f"best_of must be 1 rollout or more, got {self.best_of}.")
        dense = dense_graphs(graph)
        draws = generator(self.random_state, "predict")
        sets = best_of(dense, by_score(self.comparator_), self.best_of, draws)
        sets = greedy_completion(dense, sets) if self.complete else sets
        found = [chosen[there].numpy() for chosen, there in zip(sets, dense.present, strict=True)]
        return found if isinstance(graph, list | tuple) else found[0]

    def vertex_cover(self, graph: Any) -> np.ndarray | list[np.ndarray]:
        """What is not in the set: every edge has an end in it."""
        found = self.predict(graph)
        return [~one for one in found] if isinstance(found, list) else ~found
