"""Prediction of hyperedges: a score from the members' embeddings, and three kinds of groups that are none.

    score(e) = MLP( max_{v ∈ e} z_v − min_{v ∈ e} z_v )

Sized negatives are random groups; motif negatives grow from a node along neighbours of the clique graph, so that they hang together;
clique negatives exchange one member of a true hyperedge for a node that is joined to all the others. The last are the hardest.

S. Kim et al., A Survey on Hypergraph Neural Networks, 2024, arXiv:2404.01039; P. Patil, G. Sharma, M. N. Murty, Negative Sampling for
Hyperlink Prediction in Networks, 2020.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.hypergraphs.incidence import check_incidence, clique_expansion, count_hyperedges, hyperedge_sizes

TRIES = 20
"""How often a negative that turns out to be a true hyperedge, or that cannot be completed, is drawn again before it is drawn at random."""


def max_min_pool(
    z: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"], num_hyperedges: int
) -> Float[Tensor, "E F"]:
    """The span of the members' embeddings in every dimension; zeros for a hyperedge of one member or none."""
    check_incidence(hyperedge_index, len(z))
    node, edge = hyperedge_index
    zeros, place = z.new_zeros(num_hyperedges, z.shape[1]), edge.unsqueeze(1).expand(-1, z.shape[1])
    high, low = (zeros.scatter_reduce(0, place, z[node], how, include_self=False) for how in ("amax", "amin"))
    return high - low


class HyperedgeScore(nn.Module):
    """How likely each group of nodes is a hyperedge, from their embeddings.

    Arguments:
        in_features: width of the embeddings.
        width: of the hidden layer.

    Shapes: z (N, in_features), hyperedge_index (2, M) of the groups -> logits (E,).
    """

    def __init__(self, in_features: int, width: int = 64) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, z: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"]) -> Float[Tensor, " E"]:
        return self.mlp(max_min_pool(z, hyperedge_index, count_hyperedges(hyperedge_index))).squeeze(1)


def negative_hyperedges(
    hyperedge_index: Int64[Tensor, "2 M"],
    num_nodes: int,
    kind: Literal["sized", "motif", "clique"] = "sized",
    seed: int = 0,
) -> Int64[Tensor, "2 M"]:
    """One group for each hyperedge, of its size, that is not a hyperedge itself.

    Arguments:
        kind: "sized", "motif" or "clique"; where no motif or clique is found in a few tries, the group is one of random nodes.
        seed: of the draws.
    """
    if kind not in ("sized", "motif", "clique"):
        raise ValueError(f"kind must be sized, motif or clique, got {kind!r}.")
    check_incidence(hyperedge_index, num_nodes)
    rng = np.random.default_rng(seed)
    sizes = hyperedge_sizes(hyperedge_index, count_hyperedges(hyperedge_index)).tolist()
    if any(size >= num_nodes for size in sizes):
        raise ValueError("a hyperedge has all nodes, so that no other group has its size; leave it out.")
    order = hyperedge_index[1].argsort(stable=True)
    groups = [set(part.tolist()) for part in hyperedge_index[0, order].split(sizes)]
    known = {frozenset(group) for group in groups}
    near: list[set[int]] = [set() for _ in range(num_nodes)]
    for a, b in clique_expansion(hyperedge_index, num_nodes)[0].T.tolist():
        near[a].add(b)
    drawn = []
    for group in groups:
        for attempt in range(10 * TRIES):
            how = kind if attempt < TRIES else "sized"
            found = _draw(how, group, near, num_nodes, rng)
            if found is not None and frozenset(found) not in known:
                break
        else:
            raise ValueError(f"no group of {len(group)} nodes was found that is not a hyperedge.")
        drawn.append(sorted(found))
    members = torch.tensor([v for group in drawn for v in group], dtype=torch.int64)
    counts = torch.tensor([len(group) for group in drawn], dtype=torch.int64)
    return torch.stack([members, torch.arange(len(drawn)).repeat_interleave(counts)])


def _draw(how: str, group: set[int], near: list[set[int]], num_nodes: int, rng: np.random.Generator) -> set[int] | None:
    """A group of the size of `group`, or None where this try failed."""
    size = len(group)
    if how == "sized" or size < 2:
        return set(rng.choice(num_nodes, size, replace=False).tolist())
    if how == "clique":
        rest = group - {int(rng.choice(sorted(group)))}
        fits = set.intersection(*(near[v] for v in rest)) - group
        return rest | {int(rng.choice(sorted(fits)))} if fits else None
    found = {int(rng.integers(num_nodes))}
    while len(found) < size:
        around = set().union(*(near[v] for v in found)) - found
        if not around:
            return None
        found.add(int(rng.choice(sorted(around))))
    return found
