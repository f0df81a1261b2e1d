"""A weighted graph as one sparse matrix for many products: sorted once, and far faster than gathering and scattering edge by edge."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Inexact, Int64
from scipy import sparse
from torch import Tensor

from ziggurat.graphs.propagation import propagate


@dataclass(frozen=True)
class SparseOperator:
    """S with y_t = Σ_{s → t} w_st x_s; call it with x (N, F), real or complex. Made by `sparse_operator`.

    `matrix` is S, `adjoint` its transpose, which the backward pass needs, as CSR; both are None where `propagate` does the work.
    Differentiable once, in features and weights.
    """

    edge_index: Tensor
    edge_weight: Tensor
    matrix: Tensor | None = None
    adjoint: Tensor | None = None

    @property
    def transposed(self) -> SparseOperator:
        """Sᵀ, without sorting again: messages run against the edges."""
        return SparseOperator(self.edge_index.flip(0), self.edge_weight, self.adjoint, self.matrix)

    def __call__(self, x: Inexact[Tensor, "N F"]) -> Inexact[Tensor, "N F"]:
        if x.is_complex():  # real and imaginary parts as columns side by side
            parts = self(torch.view_as_real(x).flatten(1))
            return torch.view_as_complex(parts.unflatten(1, (-1, 2)))
        if self.matrix is None or x.dtype != self.matrix.dtype:
            return propagate(x, self.edge_index, self.edge_weight.to(x.dtype))
        return _Product.apply(x, self.edge_weight, self)


class _Product(torch.autograd.Function):
    """S x with the gradient Sᵀ g for x, and g_t · x_s for the weight of s → t."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, operator: SparseOperator) -> Tensor:
        ctx.operator = operator
        ctx.save_for_backward(x if weight.requires_grad else x[:0])
        return operator.matrix @ x  # type: ignore[operator]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad, (x,), operator = grads[0], ctx.saved_tensors, ctx.operator
        to_x = operator.adjoint @ grad if ctx.needs_input_grad[0] else None
        source, target = operator.edge_index
        return to_x, (x[source] * grad[target]).sum(1) if ctx.needs_input_grad[1] else None, None


def sparse_operator(
    edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"], num_nodes: int
) -> SparseOperator:
    """The operator of `propagate(x, edge_index, edge_weight)`, for several products with the same edges.

    Repeated edges add up. On other devices than the CPU, in half precision and while a program is exported, each product is a
    `propagate`. Check the edges first.
    """
    plain = edge_index.device.type != "cpu" or edge_weight.dtype not in (torch.float32, torch.float64)
    if plain or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return SparseOperator(edge_index, edge_weight)
    source, target = edge_index.numpy()
    shape = (num_nodes, num_nodes)
    matrix = sparse.coo_matrix((edge_weight.detach().numpy(), (target, source)), shape=shape).tocsr()
    return SparseOperator(edge_index, edge_weight, _torch(matrix), _torch(matrix.T.tocsr()))


def _torch(matrix: sparse.csr_matrix) -> Tensor:
    with warnings.catch_warnings():  # torch calls its CSR format beta, once a process
        warnings.simplefilter("ignore")
        row, col = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
        values = torch.from_numpy(matrix.data)
        return torch.sparse_csr_tensor(row, col, values, size=matrix.shape, check_invariants=False)
