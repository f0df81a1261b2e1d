"""Propagation of features over the edges of a graph: normalisation, one step, and stacks of steps out of autograd."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn


def check_edges(edge_index: Tensor, num_nodes: int) -> None:
    """Raises a `ValueError` unless `edge_index` is (2, E) int64 with ends in 0 … num_nodes − 1."""
    if edge_index.dtype != torch.int64 or edge_index.ndim != 2 or len(edge_index) != 2:
        raise ValueError(
            f"edge_index must be int64 of shape (2, edges), got {edge_index.dtype} of shape {tuple(edge_index.shape)}; "
            "convert it with .long() and put sources in the first row."
        )
    if edge_index.numel() and not edge_index.is_meta and not torch.compiler.is_compiling():
        low, high = torch.aminmax(edge_index)
        if low < 0 or high >= num_nodes:
            raise ValueError(
                f"edge_index names node {int(low if low < 0 else high)}, but there are nodes 0 to {num_nodes - 1} only; "
                "add the missing rows of features or drop those edges."
            )


def add_loops(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    self_loops: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"]]:
    """Edges and weights (ones where there are none) of A + γ I.

    Arguments:
        self_loops: γ, the weight of the loop that each node without one gets; a node's own loop keeps its weight. 0 adds none.
    """
    check_edges(edge_index, num_nodes)
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
    if not self_loops:
        return edge_index, edge_weight
    # Every node gets a loop, of weight zero where it has its own: no shape depends on the data.
    own = (edge_index[0] == edge_index[1]).to(edge_weight.dtype)
    nodes = torch.arange(num_nodes, device=edge_index.device)
    lacking = (degrees(edge_index[0], own, num_nodes) == 0).to(edge_weight.dtype)
    return torch.cat([edge_index, nodes.expand(2, -1)], 1), torch.cat([edge_weight, self_loops * lacking])


def degrees(ends: Int64[Tensor, " E"], edge_weight: Float[Tensor, " E"], num_nodes: int) -> Float[Tensor, " N"]:
    """Sum of the weights of the edges that end (or, given the sources, start) at each node."""
    return torch.zeros(num_nodes, dtype=edge_weight.dtype, device=ends.device).index_add(0, ends, edge_weight)


def power(degree: Float[Tensor, " N"], exponent: float) -> Float[Tensor, " N"]:
    """degree^exponent, and 0 for degrees that are not positive: a node without edges sends and takes nothing."""
    raised = degree.clamp_min(0) ** exponent
    return raised.masked_fill(degree <= 0, 0)


def gcn_norm(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    self_loops: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"]]:
    """Edges and weights of D^-1/2 (A + γ I) D^-1/2, where D holds the in-degrees of A + γ I.

    Arguments:
        self_loops: γ, the weight of the loop that each node without one gets; a node's own loop keeps its weight. 0 adds none.

    Nodes of degree zero get rows of zeros. T. Kipf, M. Welling, 2017, arXiv:1609.02907.
    """
    edge_index, edge_weight = add_loops(edge_index, edge_weight, num_nodes, self_loops, dtype)
    source, target = edge_index
    scale = power(degrees(target, edge_weight, num_nodes), -0.5)
    return edge_index, scale[source] * edge_weight * scale[target]


def mean_norm(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    self_loops: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"]]:
    """Edges and weights of D^-1 (A + γ I): what reaches a node is the mean over its neighbours and, for γ > 0, itself.

    Arguments as of `gcn_norm`. Rows sum to 1; nodes of degree zero get rows of zeros.
    """
    edge_index, edge_weight = add_loops(edge_index, edge_weight, num_nodes, self_loops, dtype)
    target = edge_index[1]
    return edge_index, edge_weight * power(degrees(target, edge_weight, num_nodes), -1.0)[target]


def propagate(
    x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"]
) -> Float[Tensor, "N F"]:
    """One step, y_t = Σ_{s → t} w_st x_s, differentiable in features and weights."""
    source, target = edge_index
    return torch.zeros_like(x).index_add(0, target, x[source] * edge_weight.unsqueeze(1))


@torch.no_grad()
def hop_stack(
    x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"], hops: int
) -> list[Float[Tensor, "N F"]]:
    """[x, S x, …, S^hops x] with sparse matrix products and without autograd: what decoupled networks compute once."""
    shape = (len(x), len(x))
    with warnings.catch_warnings():  # torch calls its CSR format beta, once a process
        warnings.simplefilter("ignore")
        weights = edge_weight.to(x.dtype)
        matrix = torch.sparse_coo_tensor(edge_index.flip(0), weights, shape, check_invariants=False).to_sparse_csr()
    stack = [x]
    for _ in range(hops):
        stack.append(matrix @ stack[-1])
    return stack


class APPNP(nn.Module):
    """Personalised PageRank in K steps: H_0 = X, H_{k+1} = (1 − α) S H_k + α X, with S the normalised adjacency with loops.

    Arguments:
        hops: K.
        alpha: α in [0, 1], the part of X that every step brings back.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, F). J. Gasteiger, A. Bojchevski, S. Günnemann, 2019, arXiv:1810.05997.
    """

    def __init__(self, hops: int = 10, alpha: float = 0.1) -> None:
        super().__init__()
        if hops < 0 or not 0 <= alpha <= 1:
            raise ValueError(f"hops must be 0 or more and alpha between 0 and 1, got {hops} and {alpha}.")
        self.hops, self.alpha = hops, alpha

    def forward(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"] | None = None
    ) -> Float[Tensor, "N F"]:
        edges, weight = gcn_norm(edge_index, edge_weight, len(x), dtype=x.dtype)
        h = x
        for _ in range(self.hops):
            h = (1 - self.alpha) * propagate(h, edges, weight) + self.alpha * x
        return h

    def extra_repr(self) -> str:
        return f"hops={self.hops}, alpha={self.alpha}"


def components(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> Int64[Tensor, " N"]:
    """The number of each node's connected component, direction ignored."""
    check_edges(edge_index, num_nodes)
    source, target = edge_index.cpu().numpy()
    matrix = sparse.coo_matrix((np.ones(len(source), np.int8), (source, target)), shape=(num_nodes, num_nodes))
    return torch.from_numpy(connected_components(matrix, directed=False)[1].astype(np.int64)).to(edge_index.device)


@torch.no_grad()
def stationary(
    x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], norm: Literal["symmetric", "mean"] = "symmetric"
) -> Float[Tensor, "N F"]:
    """lim S^k x of an undirected graph, where S is the normalised adjacency with loops, component by component.

        symmetric (`gcn_norm`): row i is Σ_j √((d_i + 1)(d_j + 1)) x_j / Σ_j (d_j + 1)
        mean (`mean_norm`):     row i is Σ_j (d_j + 1) x_j / Σ_j (d_j + 1)

    The sums run over the component of i, and d + 1 counts the loop.
    """
    edges, weight = add_loops(edge_index, None, len(x), dtype=x.dtype)
    degree, part = degrees(edges[1], weight, len(x)), components(edge_index, len(x))
    count = int(part.max()) + 1 if len(part) else 0
    left, right = (degree.sqrt(), degree.sqrt()) if norm == "symmetric" else (torch.ones_like(degree), degree)
    total = degree.new_zeros(count).index_add(0, part, degree)
    pooled = x.new_zeros(count, x.shape[1]).index_add(0, part, right[:, None] * x)
    return left[:, None] * (pooled / total[:, None])[part]
