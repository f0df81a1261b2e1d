"""Matrices of directed graphs: normalised by both degrees, and the magnetic Laplacian, which keeps direction in complex phases."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from ziggurat.graphs.propagation import add_loops, degrees, power


def dir_norm(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    exponent: float = 0.5,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 E"], Float[Tensor, " E"]]:
    """Weights of D_out^-e A D_in^-e, where A_st is the edge s → t; flip the edges for the transposed operator.

    With `propagate(x, *dir_norm(…))` a node takes from those that point at it. Degrees of zero give zeros.
    """
    edge_index, edge_weight = add_loops(edge_index, edge_weight, num_nodes, 0, dtype)
    source, target = edge_index
    out, into = degrees(source, edge_weight, num_nodes), degrees(target, edge_weight, num_nodes)
    return edge_index, power(out, -exponent)[source] * edge_weight * power(into, -exponent)[target]


def magnetic_adjacency(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    charge: float,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"], Float[Tensor, " F"]]:
    """Entries (u, v), real and imaginary parts of H = D_s^-1/2 A_s D_s^-1/2 ⊙ exp(iΘ); the magnetic Laplacian is I − H.

        A_s = (A + Aᵀ) / 2,   Θ = 2π q (A − Aᵀ),   D_s = degrees of A_s

    Arguments:
        charge: q in [0, 1/4]; 0 forgets the direction. An edge u → v alone has the phase +2πq at (u, v) and −2πq at (v, u).

    H is Hermitian. X. Zhang, Y. He, N. Brugnone, M. Perlmutter, M. Hirn, MagNet, 2021, arXiv:2102.11391.
    """
    if not 0 <= charge <= 0.25:
        raise ValueError(f"charge must be between 0 and 1/4, got {charge}.")
    edge_index, edge_weight = add_loops(edge_index, edge_weight, num_nodes, 0, dtype)
    code = torch.cat([edge_index[0] * num_nodes + edge_index[1], edge_index[1] * num_nodes + edge_index[0]])
    entries, place = torch.unique(code, return_inverse=True)
    there, back = place.chunk(2)
    empty = edge_weight.new_zeros(len(entries))
    symmetric = empty.index_add(0, there, edge_weight / 2).index_add(0, back, edge_weight / 2)
    phase = 2 * math.pi * charge * (empty.index_add(0, there, edge_weight).index_add(0, back, -edge_weight))
    row, col = entries // max(num_nodes, 1), entries % max(num_nodes, 1)
    scale = power(degrees(row, symmetric, num_nodes), -0.5)
    value = scale[row] * symmetric * scale[col]
    return torch.stack([row, col]), value * phase.cos(), value * phase.sin()


def magnetic_laplacian(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    charge: float,
    dtype: torch.dtype = torch.float64,
) -> Complex[Tensor, "N N"]:
    """I − H as a dense Hermitian matrix, for its spectrum: positive semidefinite, eigenvalues in [0, 2]."""
    (row, col), real, imaginary = magnetic_adjacency(edge_index, edge_weight, num_nodes, charge, dtype)
    dense = torch.complex(real, imaginary).new_zeros(num_nodes, num_nodes)
    dense = dense.index_put((row, col), torch.complex(real, imaginary))
    return torch.eye(num_nodes, dtype=dense.dtype, device=dense.device) - dense
