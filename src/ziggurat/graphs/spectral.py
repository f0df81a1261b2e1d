"""What a propagation matrix does to the frequencies of a graph."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.graphs.propagation import gcn_norm


def laplacian_spectrum(
    edge_index: Int64[Tensor, "2 E"], num_nodes: int, self_loops: float = 0.0
) -> Float[Tensor, " N"]:
    """Ascending eigenvalues of I − D^-1/2 (A + γ I) D^-1/2 of an undirected graph, float64; γ = `self_loops`."""
    edges, weights = gcn_norm(edge_index, None, num_nodes, self_loops, dtype=torch.float64)
    dense = torch.zeros(num_nodes, num_nodes, dtype=torch.float64).index_put(
        (edges[1], edges[0]), weights, accumulate=True
    )
    return torch.linalg.eigvalsh(torch.eye(num_nodes, dtype=torch.float64) - dense)


def response(eigenvalues: Float[Tensor, " N"], hops: int) -> Float[Tensor, " N"]:
    """Filter of `hops` propagation steps: g(λ) = (1 − λ)^hops over eigenvalues λ of the normalised Laplacian."""
    return (1 - eigenvalues) ** hops
