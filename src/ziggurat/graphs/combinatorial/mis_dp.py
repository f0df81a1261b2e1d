"""Independent sets by a recursion whose one branch a network chooses, trained on the outcomes of its own choices.

For any vertex v with a neighbour, MIS(G) = max(MIS(G − v), MIS(G − N(v))). A rollout takes such a v at random, lets a comparator say which
of the two graphs has the larger independent set, and goes on with that one until no edge is left: what remains is independent. Training
rolls out, estimates the sets of the graphs met by the best of several rollouts, and teaches the comparator to order them.

L. Brusca, L. Quaedvlieg, S. Skoulakis, G. Chrysos, V. Cevher, Maximum Independent Set: Self-Training through Dynamic Programming, 2023,
arXiv:2310.18672.
"""

from __future__ import annotations

from collections.abc import Callable
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

Prefer = Callable[[DenseGraphs, DenseGraphs], Tensor]
"""Says for each pair whether the second graph has the larger set: bools (B,)."""
CHUNK = 512
"""Graphs that are scored at once."""


def by_score(comparator: MISComparator) -> Prefer:
    """The choice of a comparator."""

    @torch.no_grad()
    def prefer(first: DenseGraphs, second: DenseGraphs) -> Tensor:
        parts = zip(*(x.split(CHUNK) for x in (*first, *second)), strict=True)
        logits = [comparator.compare(DenseGraphs(a, b), DenseGraphs(c, d)) for a, b, c, d in parts]
        return torch.cat(logits).argmax(1) == 1

    return prefer


class Met(NamedTuple):
    """The two graphs of one step of a rollout: of which root, and which vertices each of them has."""

    root: Int64[Tensor, " B"]
    without: Bool[Tensor, "B n"]
    taken: Bool[Tensor, "B n"]


def rollout(
    graphs: DenseGraphs, prefer: Prefer, draws: torch.Generator, met: list[Met] | None = None
) -> Bool[Tensor, "B n"]:
    """One rollout of each graph, all step by step together: an independent set of each, whatever `prefer` says.

    Arguments:
        prefer: of (G − v, G − N(v)); v stays in the second, without neighbours.
        draws: which v each step takes.
        met: a list that each step's two graphs are added to.
    """
    linked, present = graphs.adjacency, graphs.present.clone()
    while True:
        # absent vertices may have links in the matrix: only those with a present neighbour, and present themselves, can be drawn
        active = ((linked @ present.to(linked.dtype)[..., None])[..., 0] > 0) & present
        rows = active.any(1).nonzero().flatten()
        if not len(rows):
            return present
        coins = 1 + torch.rand(len(rows), present.shape[1], generator=draws)
        v = (coins * active[rows]).argmax(1)
        own = linked if len(rows) == len(linked) else linked[rows]
        every = torch.arange(len(rows))
        without = present[rows].index_put((every, v), torch.tensor(False))
        taken = present[rows] & ~(own[every, v] > 0)
        second = prefer(DenseGraphs(own, without), DenseGraphs(own, taken))
        present[rows] = torch.where(second[:, None], taken, without)
        if met is not None:
            met.append(Met(rows, without, taken))


def best_of(
    graphs: DenseGraphs, prefer: Prefer, rollouts: int, draws: torch.Generator
) -> Bool[Tensor, "B n"]:
    """The largest set of several rollouts of each graph; of equals the first."""
    count = len(graphs.present)
    many = DenseGraphs(*(x.repeat(rollouts, *[1] * (x.ndim - 1)) for x in graphs))
    sets = rollout(many, prefer, draws).view(rollouts, count, -1)
    return sets[sets.sum(2).argmax(0), torch.arange(count)]


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
        pairs: a root, at most: beyond those two graphs of one step, random ones of the same root.
        mixed: the estimate is at least what the min-degree greedy finds.
    """
    met: list[Met] = []
    rollout(graphs, prefer, draws, met)
    if not met:
        raise ValueError("no graph has an edge, so there is nothing to compare; train on graphs with edges.")
    all_met = Met(*(torch.cat(parts) for parts in zip(*met, strict=True)))
    order = torch.randperm(len(all_met.root), generator=draws)
    order = order[all_met.root[order].argsort(stable=True)]
    counts = torch.bincount(all_met.root, minlength=len(graphs.present))
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(order)) - starts[all_met.root[order]]
    kept = order[rank < steps]
    root, own = all_met.root[kept].repeat(2), len(kept)
    present = torch.cat([all_met.without[kept], all_met.taken[kept]])
    met_graphs = DenseGraphs(graphs.adjacency[root], present)
    size = best_of(met_graphs, prefer, rollouts, draws).sum(1)
    if mixed:
        size = torch.maximum(size, greedy_completion(met_graphs).sum(1))
    first, second = torch.arange(own), torch.arange(own, 2 * own)
    here = root[:own]
    extra = (pairs - torch.bincount(here, minlength=len(graphs.present)).clamp_max(pairs))[here].max().item()
    if extra > 0:  # any two graphs of one root
        a = torch.randint(2 * own, (len(graphs.present) * int(extra),), generator=draws)
        first_of, members = here.new_zeros(len(graphs.present)), torch.bincount(here, minlength=len(graphs.present))
        first_of[1:] = members.cumsum(0)[:-1]
        b = first_of[root[a]] + (torch.rand(len(a), generator=draws) * members[root[a]]).long()
        b = b + own * torch.randint(2, b.shape, generator=draws)
        first, second = torch.cat([first, a[a != b]]), torch.cat([second, b[a != b]])
    sign = torch.sign(size[first] - size[second])
    return Pairs(root[first], present[first], present[second], torch.stack([1 + sign, 1 - sign], 1) / 2)


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
) -> MISComparator:
    """Trains a comparator by what it finds itself; returns it.

    Arguments:
        rounds: of rolling out and learning.
        roots: graphs that a round rolls out.
        rollouts, steps, pairs, mixed: of `labelled_pairs`.
        buffer: pairs kept; the oldest ones leave.
        updates: steps of Adam in each round, on `batch_size` pairs of the buffer each.
    """
    draws = generator(seed, "mis")
    optimizer = torch.optim.Adam([p for p in comparator.parameters() if p.requires_grad], lr)
    kept: Pairs | None = None
    for _ in range(rounds):
        chosen = torch.randperm(len(graphs.present), generator=draws)[:roots]
        batch = DenseGraphs(graphs.adjacency[chosen], graphs.present[chosen])
        new = labelled_pairs(batch, by_score(comparator), rollouts, steps, pairs, mixed, draws)
        new = new._replace(root=chosen[new.root])
        kept = new if kept is None else Pairs(*(torch.cat(both)[-buffer:] for both in zip(kept, new, strict=True)))
        for _ in range(updates):
            rows = torch.randint(len(kept.root), (batch_size,), generator=draws)
            linked = graphs.adjacency[kept.root[rows]]
            logits = comparator.compare(
                DenseGraphs(linked, kept.first[rows]), DenseGraphs(linked, kept.second[rows])
            )
            optimizer.zero_grad()
            cross_entropy(logits, kept.label[rows]).backward()
            optimizer.step()
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
