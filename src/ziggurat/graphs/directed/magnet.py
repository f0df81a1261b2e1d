"""MagNet: direction as the phase of a complex, Hermitian Laplacian, whose polynomials filter complex features.

    L = I − H,   H = D_s^-1/2 A_s D_s^-1/2 ⊙ exp(iΘ),   Θ = 2πq (A − Aᵀ),   Y = Σ_k T_k(L − I) X W_k

One of the eigenpolynomial networks of the survey of directed graphs (`profile.directed_taxonomy`).
X. Zhang, Y. He, N. Brugnone, M. Perlmutter, M. Hirn, 2021, arXiv:2102.11391.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.directed.operators import magnetic_adjacency
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.sparse_operator import sparse_operator
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class MagNetConv(nn.Module):
    """A Chebyshev polynomial of the magnetic Laplacian with real weights, which real and imaginary parts share.

    Arguments:
        in_channels, out_channels: widths.
        order: K, the highest polynomial.
        charge: q in [0, 1/4]; 0 forgets the direction.

    Shapes: x (N, in_channels) or (real, imaginary), edge_index (2, E) directed, edge_weight (E,) -> (real, imaginary), each
    (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, order: int = 1, charge: float = 0.25) -> None:
        super().__init__()
        if order < 0 or not 0 <= charge <= 0.25:
            raise ValueError(f"order must be 0 or more and charge between 0 and 1/4, got {order} and {charge}.")
        self.order, self.charge = order, charge
        self.weight = nn.Parameter(torch.empty(order + 1, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self,
        x: Float[Tensor, "N F"] | tuple[Float[Tensor, "N F"], Float[Tensor, "N F"]],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
        real, imaginary = x if isinstance(x, tuple) else (x, torch.zeros_like(x))
        nodes, width = real.shape
        check_edges(edge_index, nodes)
        entries, cos, sin = magnetic_adjacency(edge_index, edge_weight, nodes, self.charge, real.dtype)
        # Entry (u, v) takes from v and gives to u.
        even, odd = (sparse_operator(entries.flip(0), part.to(real.dtype), nodes) for part in (cos, sin))

        def shifted(both: Tensor) -> Tensor:
            """(L − I) z = −H z of real and imaginary parts side by side."""
            straight, turned = even(both), odd(both)
            return -straight - torch.cat([-turned[:, width:], turned[:, :width]], 1)

        before, now = torch.zeros_like(torch.cat([real, imaginary], 1)), torch.cat([real, imaginary], 1)
        parts = [now]
        for k in range(1, self.order + 1):
            before, now = now, shifted(now) if k == 1 else 2 * shifted(now) - before
            parts.append(now)
        sums = [sum(p[:, a : a + width] @ w for p, w in zip(parts, self.weight, strict=True)) for a in (0, width)]
        return sums[0] + self.bias, sums[1] + self.bias

    def extra_repr(self) -> str:
        return f"order={self.order}, charge={self.charge}"


def complex_relu(
    real: Float[Tensor, "*s"], imaginary: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Keeps numbers in the right half of the plane, and makes others zero."""
    kept = (real >= 0).to(real.dtype)
    return real * kept, imaginary * kept


class MagNet(StagedGraph):
    """Magnetic convolutions with complex ReLU; real and imaginary parts go side by side to a linear classifier.

    Arguments:
        in_features, num_classes: 0 classes gives features.
        width, depth: of the layers and how many.
        order, charge: of each `MagNetConv`.
        dropout: in front of the classifier.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` the mean over each graph's nodes is
    classified.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 16,
        depth: int = 2,
        order: int = 1,
        charge: float = 0.25,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        self.stem = nn.Identity()
        self.stages = nn.ModuleList(MagNetConv(width if i else in_features, width, order, charge) for i in range(depth))
        self.channels, self.num_features = (2 * width,) * depth, 2 * width
        self.head = Classifier(2 * width, num_classes, pool="none", dropout=dropout)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        x = self.stem(x)
        pair = (x, torch.zeros_like(x))
        features: list[Tensor] = []
        for stage in self.stages:
            pair = complex_relu(*self.run(stage, pair, edge_index, edge_weight))
            features.append(torch.cat(pair, 1))
        return features

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam at 0.01, full-batch."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))
