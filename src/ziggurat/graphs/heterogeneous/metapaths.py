"""Meta-paths of heterogeneous graphs: who is reached through which kinds of nodes, and what lies on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor
from torch_geometric.data import HeteroData

DENSE = 0.05
"""Share of entries above which a matrix is kept dense."""


class Context(NamedTuple):
    """What lies on a meta-path: the means over nodes of one kind, and these nodes' features (None: they have none)."""

    mean: Float[Tensor, "N n"]
    x: Float[Tensor, "n F"] | None


class MetaGraph(NamedTuple):
    """The target nodes of a heterogeneous graph and their meta-paths, ready to be multiplied with.

    Fields:
        x: features of the target nodes.
        paths: for each meta-path its binary adjacency, with loops, symmetrically normalised.
        coarse: the same of the mean of the meta-paths' adjacencies.
        contexts: for each meta-path the kinds of nodes on the way.
    """

    x: Float[Tensor, "N F"]
    paths: tuple[Tensor, ...]
    coarse: Tensor
    contexts: tuple[tuple[Context, ...], ...]


def relation(data: HeteroData, source: str, target: str) -> sparse.csr_matrix:
    """The binary matrix of all edges between two kinds of nodes, whichever way they point."""
    matrix = sparse.csr_matrix((data[source].num_nodes, data[target].num_nodes), dtype=np.float64)
    known = False
    for a, name, b in data.edge_types:
        for ends in {(a, b), (b, a)} if a == b else ((a, b), (b, a)):
            if ends != (source, target):
                continue
            edges = data[a, name, b].edge_index.numpy()
            row, col = edges if ends == (a, b) else edges[::-1]
            matrix, known = matrix + sparse.csr_matrix((np.ones(len(row)), (row, col)), shape=matrix.shape), True
    if not known:
        raise ValueError(f"no edges join {source!r} and {target!r}; the graph has {data.edge_types}.")
    return (matrix > 0).astype(np.float64)


def metapath_adjacency(data: HeteroData, path: Sequence[str]) -> sparse.csr_matrix:
    """The binary adjacency of a meta-path's two ends, without loops.

    Arguments:
        path: the kinds of nodes along it, such as ("paper", "author", "paper"); it must end where it starts.
    """
    if len(path) < 2 or path[0] != path[-1]:
        raise ValueError(f"a meta-path has two or more kinds of nodes and ends with its first one, got {tuple(path)}.")
    matrix = relation(data, path[0], path[1])
    for source, target in pairwise(path[1:]):
        matrix = matrix @ relation(data, source, target)
    matrix = (matrix > 0).astype(np.float64).tolil()
    matrix.setdiag(0)
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    return matrix


def tensor(matrix: sparse.spmatrix) -> Tensor:
    """A float32 matrix: dense where many entries are not zero, else sparse (COO)."""
    rows, columns = matrix.shape
    if matrix.nnz > DENSE * rows * columns:
        return torch.from_numpy(matrix.toarray().astype(np.float32))
    coo = matrix.tocoo()
    index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    return torch.sparse_coo_tensor(index, values, (rows, columns), check_invariants=False).coalesce()


def normalized(matrix: sparse.spmatrix) -> Tensor:
    """D^-1/2 (A + I) D^-1/2."""
    looped = matrix + sparse.identity(matrix.shape[0])
    scale = sparse.diags(np.asarray(looped.sum(1)).ravel() ** -0.5)
    return tensor(scale @ looped @ scale)


def meta_graph(data: HeteroData, paths: Sequence[Sequence[str]]) -> MetaGraph:
    """A heterogeneous graph seen through meta-paths that all start and end at the kind of node that is to be represented.

    The context of a longer, symmetric path are the kinds up to its middle, each reached along the path.
    """
    target = paths[0][0]
    if any(path[0] != target for path in paths):
        raise ValueError(f"all meta-paths must start at one kind of node, got {sorted({path[0] for path in paths})}.")
    adjacencies = [metapath_adjacency(data, path) for path in paths]
    contexts = []
    for path in paths:
        reach, found = sparse.identity(data[target].num_nodes, format="csr"), []
        for source, kind in pairwise(path[: len(path) // 2 + 1]):
            reach = ((reach @ relation(data, source, kind)) > 0).astype(np.float64)
            share = sparse.diags(1 / np.maximum(np.asarray(reach.sum(1)).ravel(), 1))
            found.append(Context(tensor(share @ reach), data[kind].x if "x" in data[kind] else None))
        contexts.append(tuple(found))
    mean = sum(adjacencies[1:], adjacencies[0]) / len(paths)
    return MetaGraph(data[target].x, tuple(map(normalized, adjacencies)), normalized(mean), tuple(contexts))
