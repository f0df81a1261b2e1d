"""The Mu-layer: a second-degree polynomial of its input, from two linear branches and their product.

    y = C [ a + α a ∘ b ],  a = norm(A x),  b = norm(B D x)

D squeezes to an eighth of the width of A, so that the second branch costs little. There is no activation function.
Y. Cheng, G. Chrysos, M. Georgopoulos, V. Cevher, Multilinear Operator Networks, 2024, arXiv:2401.17992.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.operators.spatial_shift import SpatialShift


class MuLayer(nn.Module):
    """Two linear branches, their elementwise product, and a linear layer.

    Biases of A, B and D start at one, so that the product starts near the first-order term; α is learned and starts at one.

    Arguments:
        in_features, hidden, out_features: d, m (8 or more) and o of A: d -> m, D: d -> m / 8, B: m / 8 -> m, C: m -> o.
        shift: moves the channels of A x and D x by one place (`SpatialShift`); x must then be a map (B, H, W, d).
        norm: layer normalisation of both branches; without it the layer is a polynomial of degree 2.

    Shapes: (*, in_features) -> (*, out_features).
    """

    def __init__(
        self, in_features: int, hidden: int, out_features: int, shift: bool = False, norm: bool = True
    ) -> None:
        super().__init__()
        if hidden < 8:
            raise ValueError(
                f"the hidden width must be 8 or more, as the second branch takes an eighth of it, got {hidden}."
            )
        self.first = nn.Linear(in_features, hidden)
        self.squeeze = nn.Linear(in_features, hidden // 8)
        self.second = nn.Linear(hidden // 8, hidden)
        self.shift_first, self.shift_second = (SpatialShift() if shift else nn.Identity() for _ in range(2))
        self.norm_first, self.norm_second = (
            nn.LayerNorm(hidden, eps=1e-6) if norm else nn.Identity() for _ in range(2)
        )
        self.alpha = nn.Parameter(torch.ones(()))
        self.project = nn.Linear(hidden, out_features)
        for linear in (self.first, self.squeeze, self.second):
            nn.init.kaiming_normal_(linear.weight)
            nn.init.ones_(linear.bias)

    def forward(self, x: Float[Tensor, "*places d"]) -> Float[Tensor, "*places o"]:
        a = self.norm_first(self.shift_first(self.first(x)))
        b = self.norm_second(self.second(self.shift_second(self.squeeze(x))))
        return self.project(a + self.alpha * a * b)
