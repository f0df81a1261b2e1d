"""Incidence of hypergraphs as pairs: `hyperedge_index` (2, M), row 0 the nodes, row 1 the hyperedges, as in torch_geometric."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor

from ziggurat.graphs.propagation import degrees, power


def check_incidence(hyperedge_index: Tensor, num_nodes: int) -> None:
    """Raises a `ValueError` unless `hyperedge_index` is (2, M) int64 with nodes in 0 … num_nodes − 1 and hyperedges from 0."""
    if hyperedge_index.dtype != torch.int64 or hyperedge_index.ndim != 2 or len(hyperedge_index) != 2:
        raise ValueError(
            f"hyperedge_index must be int64 of shape (2, memberships), got {hyperedge_index.dtype} of shape "
            f"{tuple(hyperedge_index.shape)}; put nodes in the first row and hyperedges in the second."
        )
    if hyperedge_index.numel() and not hyperedge_index.is_meta and not torch.compiler.is_compiling():
        low, high = hyperedge_index.min(1).values.tolist(), int(hyperedge_index[0].max())
        if low[0] < 0 or high >= num_nodes:
            raise ValueError(
                f"hyperedge_index names node {low[0] if low[0] < 0 else high}, but there are nodes 0 to {num_nodes - 1} only; "
                "add the missing rows of features or drop those memberships."
            )
        if low[1] < 0:
            raise ValueError(f"hyperedge_index names hyperedge {low[1]}; hyperedges are numbered from 0.")


def count_hyperedges(hyperedge_index: Int64[Tensor, "2 M"], hyperedge_weight: Tensor | None = None) -> int:
    """How many hyperedges there are: one for each weight, or up to the largest number that is named."""
    if hyperedge_weight is not None:
        return len(hyperedge_weight)
    return int(hyperedge_index[1].max()) + 1 if hyperedge_index.shape[1] else 0


def node_degrees(
    hyperedge_index: Int64[Tensor, "2 M"], num_nodes: int, hyperedge_weight: Float[Tensor, " E"] | None = None
) -> Float[Tensor, " N"]:
    """d(v) = Σ_{e ∋ v} w_e."""
    node, edge = hyperedge_index
    weight = torch.ones(len(node), device=node.device) if hyperedge_weight is None else hyperedge_weight[edge]
    return degrees(node, weight, num_nodes)


def hyperedge_sizes(hyperedge_index: Int64[Tensor, "2 M"], num_hyperedges: int) -> Int64[Tensor, " E"]:
    """Members of each hyperedge."""
    return torch.bincount(hyperedge_index[1], minlength=num_hyperedges)


def to_hyperedges(
    x: Float[Tensor, "N F"],
    hyperedge_index: Int64[Tensor, "2 M"],
    num_hyperedges: int,
    how: Literal["sum", "mean"] = "mean",
    value: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "E F"]:
    """What the members of each hyperedge have in sum or on average; `value` weighs each membership. Empty ones get zeros."""
    return _gather(x, hyperedge_index, num_hyperedges, how, value)


def to_nodes(
    z: Float[Tensor, "E F"],
    hyperedge_index: Int64[Tensor, "2 M"],
    num_nodes: int,
    how: Literal["sum", "mean"] = "mean",
    value: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "N F"]:
    """What the hyperedges of each node have in sum or on average; the same in the other direction."""
    return _gather(z, hyperedge_index.flip(0), num_nodes, how, value)


def _gather(x: Tensor, pairs: Tensor, count: int, how: str, value: Tensor | None) -> Tensor:
    source, target = pairs
    value = x.new_ones(len(source)) if value is None else value.to(x.dtype)
    total = x.new_zeros(count, x.shape[1]).index_add(0, target, x[source] * value[:, None])
    return total if how == "sum" else total * power(degrees(target, value, count), -1.0)[:, None]


def add_singletons(hyperedge_index: Int64[Tensor, "2 M"], num_nodes: int) -> Int64[Tensor, "2 K"]:
    """A hyperedge of its own for every node that is in none, numbered behind the others: else such a node has no output."""
    check_incidence(hyperedge_index, num_nodes)
    inside = torch.bincount(hyperedge_index[0], minlength=num_nodes) > 0
    alone = (~inside).nonzero().flatten()
    fresh = count_hyperedges(hyperedge_index) + torch.arange(len(alone), device=alone.device)
    return torch.cat([hyperedge_index, torch.stack([alone, fresh])], 1)


def clique_expansion(
    hyperedge_index: Int64[Tensor, "2 M"], num_nodes: int, weights: Literal["one", "share"] = "one"
) -> tuple[Int64[Tensor, "2 E"], Float[Tensor, " E"]]:
    """The graph that joins all members of a hyperedge with each other, both directions, without loops; sorted.

    Arguments:
        weights: "one" for every edge, or "share", Σ_e 1 / (|e| − 1) over the hyperedges that two nodes have in common.
    """
    check_incidence(hyperedge_index, num_nodes)
    node, edge = hyperedge_index.cpu().numpy()
    count = count_hyperedges(hyperedge_index)
    incidence = sparse.csr_matrix((np.ones(len(node)), (node, edge)), shape=(num_nodes, count))
    incidence.data[:] = 1  # a member that is named twice is a member
    size = np.asarray(incidence.sum(0)).ravel()
    part = np.where(size > 1, 1 / np.maximum(size - 1, 1), 0.0)
    joined = sparse.csr_matrix(incidence @ sparse.diags_array(part) @ incidence.T)
    joined.setdiag(0)
    joined.eliminate_zeros()
    joined.sort_indices()
    coo = joined.tocoo()
    index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    value = torch.from_numpy(coo.data).float()
    device = hyperedge_index.device
    return index.to(device), (torch.ones_like(value) if weights == "one" else value).to(device)


def star_expansion(hyperedge_index: Int64[Tensor, "2 M"], num_nodes: int) -> Int64[Tensor, "2 E"]:
    """The bipartite graph of nodes and hyperedges, both directions; hyperedge e is node num_nodes + e."""
    check_incidence(hyperedge_index, num_nodes)
    there = torch.stack([hyperedge_index[0], hyperedge_index[1] + num_nodes])
    return torch.cat([there, there.flip(0)], 1)
