"""Rollouts of the recursion for independent sets: a vertex goes, or its neighbours go, until no edge is left.

Many graphs go on side by side, step by step. Who decides is an argument, so that an oracle, a network and chance can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from ziggurat.graphs.combinatorial.comparator import MISComparator
from ziggurat.graphs.combinatorial.dense import DenseGraphs

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


def best_of(graphs: DenseGraphs, prefer: Prefer, rollouts: int, draws: torch.Generator) -> Bool[Tensor, "B n"]:
    """The largest set of several rollouts of each graph; of equals the first."""
    count = len(graphs.present)
    many = DenseGraphs(*(x.repeat(rollouts, *[1] * (x.ndim - 1)) for x in graphs))
    sets = rollout(many, prefer, draws).view(rollouts, count, -1)
    return sets[sets.sum(2).argmax(0), torch.arange(count)]
