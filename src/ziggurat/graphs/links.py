"""Links: parts of a graph's edges to train on and to predict, pairs that are no edges, and what two nodes have in common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, connected_components
from torch import Tensor

from ziggurat.data.seeds import derive
from ziggurat.graphs.propagation import check_edges


class Pairs(NamedTuple):
    """Pairs of nodes that are linked and pairs that are not, (2, P) each."""

    positive: Int64[Tensor, "2 P"]
    negative: Int64[Tensor, "2 Q"]


class LinkSplit(NamedTuple):
    """Hidden links. `edge_index` holds the edges that may be seen, both directions; every undirected pair stands once in one part."""

    edge_index: Int64[Tensor, "2 E"]
    train: Pairs
    valid: Pairs
    test: Pairs


def undirected_pairs(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> Int64[Tensor, "2 P"]:
    """Every linked pair once, the smaller node first, without loops; sorted."""
    check_edges(edge_index, num_nodes)
    low, high = edge_index.min(0).values, edge_index.max(0).values
    code = torch.unique((low * num_nodes + high)[low != high])
    return torch.stack([code // max(num_nodes, 1), code % max(num_nodes, 1)])


def random_non_edges(
    edge_index: Int64[Tensor, "2 E"], num_nodes: int, count: int, seed: int = 0
) -> Int64[Tensor, "2 count"]:
    """Distinct pairs of different nodes, the smaller one first, that no edge links in either direction.

    Raises a `ValueError` where the graph has fewer such pairs.
    """
    linked = undirected_pairs(edge_index, num_nodes)
    total = num_nodes * (num_nodes - 1) // 2
    if count > total - linked.shape[1]:
        raise ValueError(
            f"{count} unlinked pairs were asked for, but {num_nodes} nodes leave {total - linked.shape[1]}; ask for fewer."
        )
    taken = (linked[0] * num_nodes + linked[1]).numpy()
    rng, found = np.random.default_rng(derive(seed, "non-edges")), np.zeros(0, np.int64)
    if 2 * count > total - len(taken):  # few are left over: list them all
        low, high = np.triu_indices(num_nodes, 1)
        free = np.setdiff1d(low * num_nodes + high, taken, assume_unique=True)
        found = rng.permutation(free)[:count]
    while len(found) < count:
        ends = np.sort(rng.integers(num_nodes, size=(2, 2 * (count - len(found)) + 8)), 0)
        code = ends[0] * num_nodes + ends[1]
        fresh = code[(ends[0] != ends[1]) & ~np.isin(code, taken)]
        found = np.concatenate([found, fresh])
        found = found[np.sort(np.unique(found, return_index=True)[1])][:count]
    return torch.from_numpy(np.stack([found // num_nodes, found % num_nodes]).astype(np.int64))


def split_links(
    edge_index: Int64[Tensor, "2 E"],
    num_nodes: int,
    valid: float = 0.05,
    test: float = 0.1,
    seed: int = 0,
    connected: bool = False,
) -> LinkSplit:
    """Hides a part of the links of an undirected graph, with as many unlinked pairs beside every part.

    Arguments:
        valid, test: fractions of the linked pairs.
        connected: never hides an edge of a spanning forest, so that no component falls apart.

    Negative pairs are no edges of the whole graph, and no pair stands in two parts. Raises a `ValueError` for a part without links.
    """
    pairs = undirected_pairs(edge_index, num_nodes)
    total = pairs.shape[1]
    hidden = [round(valid * total), round(test * total)]
    if min(valid, test) < 0 or valid + test >= 1 or not hidden[1] or (valid and not hidden[0]):
        raise ValueError(
            f"valid {valid} and test {test} of {total} links leave a part empty; give fractions that hide at least one each."
        )
    rng = np.random.default_rng(derive(seed, "links"))
    kept = _forest(pairs, num_nodes) if connected else np.zeros(total, bool)
    free = rng.permutation(np.flatnonzero(~kept))
    if sum(hidden) > len(free):
        raise ValueError(
            f"only {len(free)} links can be hidden while every component stays whole, {sum(hidden)} were asked for; hide fewer."
        )
    parts = np.split(free[: sum(hidden)], [hidden[0]])
    train = np.setdiff1d(np.arange(total), np.concatenate(parts))
    negative = random_non_edges(edge_index, num_nodes, total, seed)
    starts = np.cumsum([0, len(train), *hidden])
    made = [
        Pairs(pairs[:, torch.from_numpy(rows)], negative[:, a:b])
        for rows, a, b in zip((train, *parts), starts[:-1], starts[1:], strict=True)
    ]
    seen = made[0].positive
    return LinkSplit(torch.cat([seen, seen.flip(0)], 1), *made)


def _forest(pairs: Int64[Tensor, "2 P"], num_nodes: int) -> np.ndarray:
    """Which pairs (P,) belong to a spanning forest."""
    low, high = pairs.numpy()
    matrix = sparse.csr_matrix((np.ones(len(low)), (low, high)), shape=(num_nodes, num_nodes))
    matrix = (matrix + matrix.T).tocsr()
    code, kept = low * num_nodes + high, np.zeros(len(low), bool)
    place = code.argsort()
    _, part = connected_components(matrix, directed=False)
    for root in np.unique(part, return_index=True)[1]:
        order, before = breadth_first_order(matrix, root, directed=False)
        child, parent = order[1:], before[order[1:]]
        used = np.minimum(child, parent) * num_nodes + np.maximum(child, parent)
        kept[place[code.searchsorted(used.astype(np.int64), sorter=place)]] = True
    return kept


class Neighbours:
    """Sorted neighbours of every node, for what pairs have in common; never a dense matrix.

    Arguments:
        edge_index: both directions of an undirected graph; loops and repeated edges count once.
    """

    def __init__(self, edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> None:
        check_edges(edge_index, num_nodes)
        source, target = edge_index.cpu().numpy()
        matrix = sparse.csr_matrix((np.ones(len(source), np.float32), (source, target)), shape=(num_nodes, num_nodes))
        matrix.data[:] = 1
        matrix.sort_indices()
        self.matrix = matrix

    def common(self, pairs: Int64[Tensor, "2 P"]) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"]]:
        """(pair, node) of every common neighbour, by pair and then by node."""
        left, right = self.matrix[pairs[0].cpu().numpy()], self.matrix[pairs[1].cpu().numpy()]
        return _entries(left.multiply(right), pairs.device)

    def only(
        self, pairs: Int64[Tensor, "2 P"]
    ) -> tuple[tuple[Int64[Tensor, " M"], Int64[Tensor, " M"]], tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]]:
        """(pair, node) of the neighbours of the first end alone, and of those of the second alone."""
        left, right = self.matrix[pairs[0].cpu().numpy()], self.matrix[pairs[1].cpu().numpy()]
        both = left.multiply(right)
        return _entries(left - both, pairs.device), _entries(right - both, pairs.device)


def _entries(matrix: sparse.csr_matrix, device: torch.device) -> tuple[Tensor, Tensor]:
    found = sparse.csr_matrix(matrix)
    found.eliminate_zeros()
    found.sort_indices()
    found = found.tocoo()
    row, col = found.row.astype(np.int64), found.col.astype(np.int64)
    return torch.from_numpy(row).to(device), torch.from_numpy(col).to(device)


def without_links(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    pairs: Int64[Tensor, "2 P"],
    num_nodes: int,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"] | None]:
    """The edges, less both directions of the given pairs: the target links of a step must not be seen by it."""
    low, high = pairs.min(0).values, pairs.max(0).values
    own = edge_index.min(0).values * num_nodes + edge_index.max(0).values
    keep = ~torch.isin(own, low * num_nodes + high)
    return edge_index[:, keep], None if edge_weight is None else edge_weight[keep]
