"""ChebNet: a spectral convolution without a spectrum, as a polynomial of the Laplacian is a local operator.

    Y = Σ_{k < K} T_k(L̃) X W_k + b,   L̃ = 2 L / λ_max − I,   L = I − D^-1/2 A D^-1/2
    T_0 = 1,   T_1(L̃) = L̃,   T_k(L̃) = 2 L̃ T_{k−1}(L̃) − T_{k−2}(L̃)

K is the number of terms; K − 1 hops are seen. A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596.
M. Defferrard, X. Bresson, P. Vandergheynst, Convolutional Neural Networks on Graphs with Fast Localized Spectral Filtering, 2016,
arXiv:1606.09375.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.baselines import GraphNetwork
from ziggurat.graphs.propagation import gcn_norm
from ziggurat.graphs.sparse_operator import sparse_operator

Operator = Callable[[Tensor], Tensor]


def scaled_laplacian(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    lambda_max: float = 2.0,
    dtype: torch.dtype = torch.float32,
) -> Operator:
    """x (N, M) -> L̃ x. With λ_max = 2, which no eigenvalue exceeds, it is −D^-1/2 A D^-1/2 x."""
    step = sparse_operator(*gcn_norm(edge_index, edge_weight, num_nodes, 0.0, dtype), num_nodes)
    scale = 2 / lambda_max
    return lambda x: (scale - 1) * x - scale * step(x)


def chebyshev_terms(x: Float[Tensor, "N M"], scaled: Operator, order: int) -> list[Float[Tensor, "N M"]]:
    """[T_0(L̃) x, …, T_{K−1}(L̃) x]."""
    terms = [x]
    for k in range(1, order):
        terms.append(scaled(x) if k == 1 else 2 * scaled(terms[-1]) - terms[-2])
    return terms


def chebyshev_sum(parts: list[Float[Tensor, "N M"]], scaled: Operator) -> Float[Tensor, "N M"]:
    """Σ_k T_k(L̃) parts_k by Clenshaw's recurrence: the products are as wide as the parts, not as the input that they were made of."""
    if len(parts) == 1:
        return parts[0]
    after, beyond = parts[-1], torch.zeros_like(parts[-1])
    for part in parts[-2:0:-1]:
        after, beyond = part + 2 * scaled(after) - beyond, after
    return parts[0] + scaled(after) - beyond


class ChebConv(nn.Module):
    """The convolution.

    Arguments:
        in_channels, out_channels: widths.
        order: K, terms of the polynomial.
        lambda_max: the largest eigenvalue of L, or a bound of it.

    Shapes: x (N, in_channels), edge_index (2, E) both directions, edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, order: int = 3, lambda_max: float = 2.0) -> None:
        super().__init__()
        if order < 1 or lambda_max <= 0:
            raise ValueError(f"order must be 1 or more and lambda_max positive, got {order} and {lambda_max}.")
        self.order, self.lambda_max = order, lambda_max
        self.weight = nn.Parameter(torch.empty(order, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        scaled = scaled_laplacian(edge_index, edge_weight, len(x), self.lambda_max, x.dtype)
        side_by_side = x @ self.weight.permute(1, 0, 2).flatten(1)
        return chebyshev_sum(list(side_by_side.chunk(self.order, 1)), scaled) + self.bias

    def extra_repr(self) -> str:
        return f"order={self.order}, lambda_max={self.lambda_max}"


class ChebTerms(nn.Module):
    """[T_0(L̃) x ‖ … ‖ T_{K−1}(L̃) x]: a convolution whose weights a linear layer behind it has.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, K F).
    """

    def __init__(self, order: int, lambda_max: float = 2.0) -> None:
        super().__init__()
        self.order, self.lambda_max = order, lambda_max

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        scaled = scaled_laplacian(edge_index, edge_weight, len(x), self.lambda_max, x.dtype)
        return torch.cat(chebyshev_terms(x, scaled, self.order), 1)

    def extra_repr(self) -> str:
        return f"order={self.order}, lambda_max={self.lambda_max}"


class ChebNet(GraphNetwork):
    """Two convolutions with a ReLU between them; the second one's weights are the classifier's.

    Arguments:
        in_features: columns of x.
        num_classes: 0 gives the terms of the hidden layer.
        width: of the hidden layer.
        order: K of both.
        lambda_max: of both.
        dropout: on the features and on the hidden layer.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (graphs, num_classes).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 16,
        order: int = 3,
        lambda_max: float = 2.0,
        dropout: float = 0.5,
    ) -> None:
        layers: list[nn.Module] = [ChebConv(in_features, width, order, lambda_max), ChebTerms(order, lambda_max)]
        widths = (width, order * width)
        super().__init__(layers, [nn.ReLU(), nn.Identity()], widths, num_classes, dropout, weighted=True)
