"""Patches of a graph: parts of a partition, each grown by its neighbourhood, so that they overlap and no edge is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Batch as GraphsAsOne
from torch_geometric.data import Data

from ziggurat.data.batch import Batch
from ziggurat.data.datasets import Graphs
from ziggurat.data.feeds import Labelled
from ziggurat.data.graphs._partition import halves
from ziggurat.data.seeds import derive

POWERS, PASSES = 8, 4


def links(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> sparse.csr_matrix:
    """Who touches whom (n, n), whatever the direction; ones, without loops."""
    source, target = edge_index.cpu().numpy()
    other = source != target
    shape = (num_nodes, num_nodes)
    matrix = sparse.csr_matrix((np.ones(int(other.sum()), np.float32), (source[other], target[other])), shape=shape)
    matrix = (matrix + matrix.T).tocsr()
    matrix.data[:] = 1
    return matrix


def partition(edge_index: Int64[Tensor, "2 E"], num_nodes: int, parts: int, seed: int = 0) -> Int64[Tensor, " N"]:
    """The part of each node: the graph is cut in two again and again, the halves improved by exchanges (B. Kernighan, S. Lin, 1970).

    Arguments:
        edge_index: the direction of an edge plays no part.
        parts: at most as many as there are nodes; their sizes are equal up to rounding at each cut.
        seed: of the nodes that the halves grow from.
    """
    if not 1 <= parts <= num_nodes:
        raise ValueError(f"a graph of {num_nodes} nodes has 1 to {num_nodes} parts, got {parts}.")
    matrix, rng = links(edge_index, num_nodes), np.random.default_rng(derive(seed, "partition"))
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    label, open_parts = np.zeros(num_nodes, np.int64), [(0, parts)]
    while open_parts:
        first, count = open_parts.pop()
        if count == 1:
            continue
        nodes, left = np.flatnonzero(label == first), count // 2
        quota = round(len(nodes) * left / count)
        _, far = halves(indptr, indices, nodes, quota, label, first, rng.integers(len(nodes)), PASSES)
        label[far] = first + left
        open_parts += [(first, left), (first + left, count - left)]
    return torch.from_numpy(label).to(edge_index.device)


class PatchData(Data):
    """A graph with its patches. M counts copies: a node has one in every patch that it belongs to.

    Fields besides those of the graph:
        patch_node (M,): the node of each copy; patch_of (M,): its patch.
        patch_edges (2, K): the edges inside patches, between copies; patch_edge (K,): the edge of the graph that each one is.
        patch_adjacency (1, P, P): how many nodes two patches share.
        patch_code (1, P, 8): the diagonals of the first 8 powers of D⁻¹ patch_adjacency.
        patch_mask (1, P): which patches have nodes.
    """

    def __inc__(self, key: str, value: Any, *args: Any) -> Any:
        if key == "patch_node":
            return self.num_nodes
        if key == "patch_of":
            return self.patch_mask.shape[1]
        if key == "patch_edges":
            return len(self.patch_node)
        return self.edge_index.shape[1] if key == "patch_edge" else super().__inc__(key, value, *args)

    def __cat_dim__(self, key: str, value: Any, *args: Any) -> Any:
        return 1 if key == "patch_edges" else super().__cat_dim__(key, value, *args)


def return_code(adjacency: Float[Tensor, "P P"], powers: int = POWERS) -> Float[Tensor, "P k"]:
    """The diagonals of (D⁻¹ A)¹ … (D⁻¹ A)ᵏ: how probably a walk over patches is back where it began."""
    step = adjacency / adjacency.sum(1, keepdim=True).clamp_min(1)
    walk, found = step, [step.diagonal()]
    for _ in range(powers - 1):
        walk = walk @ step
        found.append(walk.diagonal())
    return torch.stack(found, 1)


class GraphPatches:
    """A transform of `torch_geometric`: the same graph as `PatchData`.

    Arguments:
        patches: P. A graph of at most P nodes gets one patch a node, and the others stay empty.
        hops: by how many steps every part is grown; without growth the edges between parts would be lost.
        drop_rate: share of the edges that the partition does not see, so that another seed cuts elsewhere. Patches have all edges.
        shuffle: numbers the patches in random order; a mixer is not indifferent to it.
        seed: of all this; `__call__` takes another one, for instance in each epoch.
    """

    def __init__(
        self, patches: int = 32, hops: int = 1, drop_rate: float = 0.0, shuffle: bool = False, seed: int = 0
    ) -> None:
        if patches < 1 or hops < 0 or not 0 <= drop_rate < 1:
            raise ValueError(
                f"patches must be 1 or more, hops 0 or more and drop_rate in [0, 1), got {patches}, {hops} and {drop_rate}."
            )
        self.patches, self.hops, self.drop_rate, self.shuffle, self.seed = patches, hops, drop_rate, shuffle, seed

    def members(self, edge_index: Int64[Tensor, "2 E"], num_nodes: int, seed: int) -> sparse.csr_matrix:
        """Which node belongs to which patch (P, n), grown; rows and columns in ascending order."""
        rng = np.random.default_rng(derive(seed, "patches"))
        part = torch.arange(num_nodes)
        if num_nodes > self.patches:
            kept = torch.from_numpy(rng.random(edge_index.shape[1]) >= self.drop_rate)
            part = partition(edge_index[:, kept], num_nodes, self.patches, seed)
        number = part.numpy()
        if self.shuffle:
            number = rng.permutation(self.patches)[number]
        ones = np.ones(num_nodes, np.float32)
        inside = sparse.csr_matrix((ones, (number, np.arange(num_nodes))), shape=(self.patches, num_nodes))
        near = links(edge_index, num_nodes)
        for _ in range(self.hops):
            inside = (inside + inside @ near).tocsr()
            inside.data[:] = 1
        inside.sort_indices()
        return inside

    def __call__(self, data: Data, seed: int | None = None) -> PatchData:
        count = int(data.num_nodes)
        inside = self.members(data.edge_index.cpu(), count, self.seed if seed is None else seed)
        node = torch.from_numpy(inside.indices.astype(np.int64))
        patch = torch.repeat_interleave(torch.arange(self.patches), torch.from_numpy(np.diff(inside.indptr)).long())
        adjacency = torch.from_numpy((inside @ inside.T).toarray()).float()
        made = PatchData.from_dict(data.to_dict())
        made.num_nodes = count
        made.patch_node, made.patch_of = node, patch
        made.patch_edges, made.patch_edge = edges_inside(inside, patch * count + node, data.edge_index.cpu())
        made.patch_adjacency, made.patch_code = adjacency[None], return_code(adjacency)[None]
        made.patch_mask = (adjacency.diagonal() > 0)[None]
        return made.to(data.edge_index.device)


def edges_inside(
    inside: sparse.csr_matrix, keys: Int64[Tensor, " M"], edge_index: Int64[Tensor, "2 E"]
) -> tuple[Int64[Tensor, "2 K"], Int64[Tensor, " K"]]:
    """Every edge once in each patch that has both of its ends: as a pair of copies, and its number in the graph.

    Arguments:
        keys: patch · n + node of each copy, ascending.
    """
    columns, (source, target) = inside.tocsc(), edge_index
    begin, many = torch.from_numpy(columns.indptr[:-1]).long(), torch.from_numpy(np.diff(columns.indptr)).long()
    each = many[source]
    edge = torch.repeat_interleave(torch.arange(len(source)), each)
    step = torch.arange(len(edge)) - torch.repeat_interleave(each.cumsum(0) - each, each)
    patch = torch.from_numpy(columns.indices).long()[begin[source[edge]] + step]
    ends = [torch.searchsorted(keys, patch * inside.shape[1] + end[edge]) for end in (source, target)]
    there = keys[ends[1].clamp_max(len(keys) - 1)] == patch * inside.shape[1] + target[edge]
    return torch.stack([ends[0][there], ends[1][there]]), edge[there]


class InPatches:
    """A feed of several graphs as one `PatchData`, cut anew in every step: `Batch((data,), labels, index)`."""

    order = Labelled.order

    def __init__(self, cut: GraphPatches) -> None:
        self.cut = cut

    def batch(self, dataset: Graphs, index: Tensor, generator: torch.Generator) -> Batch:
        seeds = torch.randint(2**31, (len(index),), generator=generator).tolist()
        many = [self.cut(dataset.graphs[i], seed) for i, seed in zip(index.tolist(), seeds, strict=True)]
        return Batch((GraphsAsOne.from_data_list(many),), dataset.labels[index], index)
