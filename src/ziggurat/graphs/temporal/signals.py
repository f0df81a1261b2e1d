"""What networks of signals on a graph share: a check of their inputs, and sparse products over batches."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from ziggurat.graphs.propagation import check_edges


def check_signals(x: Tensor, edge_index: Tensor, features: int) -> None:
    """Raises a `ValueError` unless x is (B, T, N, features) and the edges name its nodes."""
    if x.ndim != 4 or x.shape[3] != features:
        raise ValueError(
            f"signals must be (batch, time, nodes, {features}), got {tuple(x.shape)}; a single series takes x[None, :, :, None]."
        )
    check_edges(edge_index, x.shape[2])


def over_nodes(x: Float[Tensor, "*B N F"], operator: Callable[[Tensor], Tensor]) -> Float[Tensor, "*B N F"]:
    """Applies an operator of (N, M) matrices to every signal of a batch, all of them as columns side by side."""
    columns = x.movedim(-2, 0)
    return operator(columns.flatten(1)).view(columns.shape).movedim(0, -2)
