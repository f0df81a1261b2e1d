"""Paths of a graph as index tensors: one shortest path to each node, all shortest paths, or all simple paths."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.data.graphs._paths import list_paths
from ziggurat.data.seeds import derive

PathKind = Literal["SP", "SP+", "AP"]


class Paths(NamedTuple):
    """Paths of k edges: `nodes` (P, k + 1), the end first and the node that a path starts at last; `distances` from that node."""

    nodes: Int64[Tensor, "P L"]
    distances: Int64[Tensor, "P L"]


def path_tensor(
    edge_index: Int64[Tensor, "2 E"], num_nodes: int, kind: PathKind, length: int, seed: int = 0
) -> list[Paths]:
    """The paths of 1, 2, … `length` edges from every node.

    Arguments:
        edge_index: both directions of an undirected graph; loops and repeated edges are left out.
        kind: "SP" one shortest path to each node, drawn among all with `seed`; "SP+" all shortest paths; "AP" all simple paths, whose
            number grows as degree^length.

    What "SP" keeps depends on the order of the nodes.
    """
    if kind not in ("SP", "SP+", "AP"):
        raise ValueError(f"kind must be 'SP', 'SP+' or 'AP', got {kind!r}.")
    if length < 1:
        raise ValueError(f"length must be 1 edge or more, got {length}.")
    source, target = edge_index.cpu().numpy()
    if edge_index.numel() and not 0 <= edge_index.min() <= edge_index.max() < num_nodes:
        raise ValueError(f"edge_index names node {int(edge_index.max())}, but there are {num_nodes} nodes only.")
    other = source != target
    matrix = sparse.csr_matrix((np.ones(other.sum()), (source[other], target[other])), shape=(num_nodes, num_nodes))
    matrix.sum_duplicates()
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    coins = np.random.default_rng(derive(seed, "paths")).random(max(2 * len(indices), 1))
    found = []
    for k in range(1, length + 1):
        given = (indptr, indices, kind == "AP", kind == "SP", k, coins)
        none = np.zeros((0, k + 1), np.int64)
        nodes = np.zeros((list_paths(*given, none, none), k + 1), np.int64)
        distances = np.zeros_like(nodes)
        list_paths(*given, nodes, distances)
        found.append(
            Paths(torch.from_numpy(nodes).to(edge_index.device), torch.from_numpy(distances).to(edge_index.device))
        )
    return found


class PathData(Data):
    """A graph with `path_1` … `path_K`, which name nodes and are numbered anew in a batch, and `dist_1` … `dist_K`."""

    def __inc__(self, key: str, value: Any, *args: Any) -> Any:
        return self.num_nodes if key.startswith("path_") else super().__inc__(key, value, *args)

    def paths(self) -> list[Paths]:
        """The paths, shortest first."""
        lengths = sorted(int(key.removeprefix("path_")) for key in self.keys() if key.startswith("path_"))
        return [Paths(self[f"path_{k}"], self[f"dist_{k}"]) for k in lengths]


class AddPaths:
    """A transform of `torch_geometric`: the same graph as `PathData` with the paths of 1 … `length` edges.

    Arguments as of `path_tensor`.
    """

    def __init__(self, kind: PathKind = "SP+", length: int = 3, seed: int = 0) -> None:
        self.kind, self.length, self.seed = kind, length, seed

    def __call__(self, data: Data) -> PathData:
        made = PathData.from_dict(data.to_dict())
        for k, (nodes, distances) in enumerate(
            path_tensor(data.edge_index, int(data.num_nodes), self.kind, self.length, self.seed), 1
        ):
            made[f"path_{k}"], made[f"dist_{k}"] = nodes, distances
        return made
