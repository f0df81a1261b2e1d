"""Sums over an incidence that is used many times: sorted once into sparse matrices, far faster than scattering membership by membership."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from ziggurat.graphs.hypergraphs.incidence import to_hyperedges, to_nodes


class _Product(torch.autograd.Function):
    """A x, whose gradient is Aᵀ g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, adjoint: Tensor) -> Tensor:
        ctx.adjoint = adjoint
        return matrix @ x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.adjoint @ grads[0], None, None


class IncidenceProduct:
    """H z and Hᵀ x, differentiable (once) in z and x.

    Where the sparse product does not serve (another type than float32 and float64, a device other than the processor, `value`
    with a gradient, a tracer) the sums of `incidence` do the same.

    Arguments:
        hyperedge_index: memberships (2, M); one that is named twice counts twice.
        num_nodes, num_hyperedges: N and E.
        value: H at each membership, ones by default.
        dtype: of what will be summed.
    """

    def __init__(
        self,
        hyperedge_index: Int64[Tensor, "2 M"],
        num_nodes: int,
        num_hyperedges: int,
        value: Float[Tensor, " M"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.index, self.nodes, self.hyperedges = hyperedge_index, num_nodes, num_hyperedges
        self.value = value
        self.matrices: tuple[Tensor, Tensor] | None = None
        plain = value is None or not value.requires_grad
        if not plain or dtype not in (torch.float32, torch.float64) or hyperedge_index.device.type != "cpu":
            return
        if torch.compiler.is_compiling() or not hyperedge_index.numel():
            return
        ones = torch.ones(hyperedge_index.shape[1], dtype=dtype)
        values = ones if value is None else value.detach().to(dtype)
        with warnings.catch_warnings():  # torch calls its CSR format beta, once a process
            warnings.simplefilter("ignore")
            there, back = (
                torch.sparse_coo_tensor(pairs, values, shape, check_invariants=False).to_sparse_csr()
                for pairs, shape in (
                    (hyperedge_index, (num_nodes, num_hyperedges)),
                    (hyperedge_index.flip(0), (num_hyperedges, num_nodes)),
                )
            )
        self.matrices = (there, back)

    def to_nodes(self, z: Float[Tensor, "E F"]) -> Float[Tensor, "N F"]:
        """H z: what the hyperedges of each node have in sum."""
        if self.matrices is None:
            return to_nodes(z, self.index, self.nodes, "sum", self.value)
        return _Product.apply(z.contiguous(), *self.matrices)

    def to_hyperedges(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "E F"]:
        """Hᵀ x: what the members of each hyperedge have in sum."""
        if self.matrices is None:
            return to_hyperedges(x, self.index, self.hyperedges, "sum", self.value)
        return _Product.apply(x.contiguous(), *self.matrices[::-1])
