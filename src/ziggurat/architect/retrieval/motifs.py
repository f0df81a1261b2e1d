"""Repeated parts of a computation graph, found in the sequence of how its operators are wired.

An operator's type is the sorted tuple of how far back its inputs are; kinds of operators have no say. Along the topological order each
window of two types has a frequency, and a motif ends where that frequency jumps by more than a threshold. Edges that touch a motif's
operators belong to it, so neighbouring motifs share edges; motifs that do are linked in the macro graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.graphs.propagation import check_edges

Starts = Callable[[Int64[Tensor, "2 E"], int], np.ndarray]
"""Where the motifs of a graph begin, from its edges and its number of operators."""


def wiring_types(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> np.ndarray:
    """A number for the tuple of offsets i − p to the inputs p of each operator i, in the order of first occurrence."""
    check_edges(edge_index, num_nodes)
    source, target = edge_index.numpy()
    if (source >= target).any():
        raise ValueError("operators must stand in topological order: every edge leads to a later one.")
    order = np.lexsort((target - source, target))
    target, offset = target[order], (target - source)[order]
    counts = np.bincount(target, minlength=num_nodes)
    rank = np.arange(len(target)) - (np.cumsum(counts) - counts)[target]
    tuples = np.zeros((num_nodes, max(int(counts.max(initial=0)), 1)), np.int64)
    tuples[target, rank] = offset
    _, first, kind = np.unique(tuples, axis=0, return_index=True, return_inverse=True)
    return first.argsort().argsort()[kind.ravel()]


def motif_starts(edge_index: Int64[Tensor, "2 E"], num_nodes: int, threshold: float | None = None) -> np.ndarray:
    """Where motifs begin, the first at 0.

    Arguments:
        threshold: a jump of a window's frequency must be larger to end a motif; None takes the commonest jump that is not 0, of
            equally common ones the smallest.

    Window i holds operators i and i + 1. Where the frequency rises at operator i, that one begins a motif; where it falls, it still
    belongs to the old one, and the next begins.
    """
    types = wiring_types(edge_index, num_nodes)
    if num_nodes < 3:
        return np.zeros(min(num_nodes, 1), np.int64)
    _, window, count = np.unique(types[:-1] * (types.max() + 1) + types[1:], return_inverse=True, return_counts=True)
    jump = np.diff(count[window.ravel()])
    sizes, times = np.unique(np.abs(jump[jump != 0]), return_counts=True)
    if threshold is None:
        threshold = sizes[times.argmax()] if len(sizes) else 0
    at = np.flatnonzero(np.abs(jump) > threshold)
    starts = at + 1 + (jump[at] < 0)
    return np.unique(np.concatenate([[0], starts[starts < num_nodes]]))


def find_motifs(edge_index: Int64[Tensor, "2 E"], num_nodes: int, threshold: float | None = None) -> list[list[int]]:
    """The operators of each motif; every operator is in exactly one, and one after the other they are the topological order."""
    starts = motif_starts(edge_index, num_nodes, threshold)
    return [part.tolist() for part in np.split(np.arange(num_nodes), starts[1:])] if num_nodes else []


class Parts(NamedTuple):
    """Subgraphs of one graph, which may overlap: nodes (P,) by their number in the graph, edges among those P, and each one's part."""

    nodes: Int64[Tensor, " P"]
    edge_index: Int64[Tensor, "2 Q"]
    owner: Int64[Tensor, " P"]


def touching(member: sparse.csr_matrix, edge_index: Int64[Tensor, "2 E"]) -> tuple[Parts, sparse.csr_matrix]:
    """Of each row of `member` (parts, nodes) the edges that touch its nodes, and the ends of those; also as a matrix like `member`."""
    source, target = edge_index.numpy()
    count, edges = member.shape[1], len(source)
    incidence = sparse.csr_matrix(
        (np.ones(2 * edges), (np.concatenate([source, target]), np.tile(np.arange(edges), 2))), shape=(count, edges)
    )
    owner, edge = sparse.csr_matrix(member @ incidence).nonzero()
    own = sparse.csr_matrix(member).nonzero()
    codes = np.unique(
        np.concatenate(
            [
                own[0].astype(np.int64) * count + own[1],
                *(owner.astype(np.int64) * count + end[edge] for end in (source, target)),
            ]
        )
    )
    ends = [np.searchsorted(codes, owner.astype(np.int64) * count + end[edge]) for end in (source, target)]
    parts = Parts(*(torch.from_numpy(np.asarray(a, np.int64)) for a in (codes % count, np.stack(ends), codes // count)))
    grown = sparse.csr_matrix((np.ones(len(codes)), (codes // count, codes % count)), shape=member.shape)
    return parts, grown


class MotifGraphs(NamedTuple):
    """Several architectures, cut into motifs and made ready for the encoder.

    Arguments:
        x: one-hot kinds of all operators.
        motif, context: the subgraph of each motif, and the same one step wider.
        macro_edges: (2, L) between motifs that share an edge, the earlier one first.
        owner: the architecture of each motif.
        count: of architectures.
    """

    x: Float[Tensor, "N F"]
    motif: Parts
    context: Parts
    macro_edges: Int64[Tensor, "2 L"]
    owner: Int64[Tensor, " M"]
    count: int


def motif_graphs(graphs: list[Data], starts: Starts = motif_starts) -> MotifGraphs:
    """Cuts architectures into motifs.

    Arguments:
        starts: where motifs begin, `motif_starts` by default.
    """
    if not graphs:
        raise ValueError("there are no architectures; give at least one.")
    sizes = np.array([int(graph.num_nodes) for graph in graphs])
    shift = np.cumsum(sizes) - sizes
    begun = np.zeros(int(sizes.sum()), np.int64)
    for graph, first in zip(graphs, shift, strict=True):
        begun[first + starts(graph.edge_index, int(graph.num_nodes))] = 1
    segment = np.cumsum(begun) - 1
    edges = torch.cat([g.edge_index + int(s) for g, s in zip(graphs, shift, strict=True)], 1)
    member = sparse.csr_matrix(
        (np.ones(len(segment)), (segment, np.arange(len(segment)))), shape=(segment[-1] + 1, len(segment))
    )
    motif, grown = touching(member, edges)
    context, _ = touching(grown, edges)
    ends = torch.from_numpy(segment)[edges]
    between = torch.unique(ends[:, ends[0] != ends[1]], dim=1)
    owner = torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes)[begun == 1])
    return MotifGraphs(torch.cat([g.x for g in graphs]), motif, context, between, owner, len(graphs))
