"""Propagation of features over the edges of a graph: normalisation, one step, and stacks of steps out of autograd."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Int64
from torch import Tensor


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
    check_edges(edge_index, num_nodes)
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
    if self_loops:  # every node gets a loop, of weight zero where it has its own: no shape depends on the data
        own = (edge_index[0] == edge_index[1]).to(edge_weight.dtype)
        loops = torch.zeros(num_nodes, dtype=own.dtype, device=own.device).index_add(0, edge_index[0], own)
        nodes = torch.arange(num_nodes, device=edge_index.device)
        edge_index = torch.cat([edge_index, nodes.expand(2, -1)], 1)
        edge_weight = torch.cat([edge_weight, self_loops * (loops == 0).to(edge_weight.dtype)])
    source, target = edge_index
    degree = torch.zeros(num_nodes, dtype=edge_weight.dtype, device=edge_index.device).index_add(0, target, edge_weight)
    scale = degree.clamp_min(0).rsqrt()
    scale = scale.masked_fill(torch.isinf(scale), 0)
    return edge_index, scale[source] * edge_weight * scale[target]


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
