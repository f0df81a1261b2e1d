"""The first graph neural network: states of nodes are the fixed point of one contractive map, which all nodes share.

    h_v = Σ_{u ∈ N(v)} f(x_v, x_u, h_u),   f(x_v, x_u, h_u) = tanh(W h_u + U x_u + V x_v + b) / |N(v)|

No row of W has a sum of absolute values above μ < 1. The map is then a contraction by μ in the largest absolute value, whatever the
graph, and iterating it converges from every start to the same states (Banach). The gradient does not run through the iterations. With
J = ∂F/∂h at the fixed point, the gradient g that arrives becomes the solution of y = g + Jᵀ y, which is again found by iterating
(Almeida and Pineda): memory does not grow with the number of iterations.

A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596. F. Scarselli, M. Gori, A. C. Tsoi, M. Hagenbuchner, G. Monfardini, The
Graph Neural Network Model, IEEE Transactions on Neural Networks, 2009 (no arXiv), which keeps its map contractive by a penalty.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear

from ziggurat.graphs.propagation import mean_norm
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class FixedPoint(nn.Module):
    """The states that the map leaves as they are.

    Arguments:
        in_channels: of x.
        width: of the states.
        contraction: μ in (0, 1).
        tolerance: iterations end when no entry changes by more.
        max_steps: and at the latest after so many.

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,), not negative -> (N, width). Nodes without neighbours have the state 0.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        contraction: float = 0.9,
        tolerance: float = 1e-4,
        max_steps: int = 200,
    ) -> None:
        super().__init__()
        if not 0 < contraction < 1 or tolerance <= 0 or max_steps < 1:
            raise ValueError(
                "contraction must be between 0 and 1, tolerance positive and max_steps 1 or more, got "
                f"{contraction}, {tolerance} and {max_steps}."
            )
        self.contraction, self.tolerance, self.max_steps = contraction, tolerance, max_steps
        self.state = nn.Parameter(torch.empty(width, width))
        self.sent = nn.Parameter(torch.empty(width, in_channels))
        self.own = nn.Parameter(torch.empty(width, in_channels))
        self.bias = nn.Parameter(torch.zeros(width))
        for matrix in (self.state, self.sent, self.own):
            nn.init.xavier_uniform_(matrix)

    def contractive(self) -> Float[Tensor, "W W"]:
        """W: the free weights, rows whose absolute values sum to more than μ scaled down to it."""
        size = self.state.abs().sum(1, keepdim=True)
        return self.state * (self.contraction / size.clamp_min(self.contraction))

    def solve(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        start: Float[Tensor, "N W"] | None = None,
    ) -> tuple[Float[Tensor, "N W"], int]:
        """The fixed point, without gradient, and how many iterations it took from `start` (zeros)."""
        edges, weight = mean_norm(edge_index, edge_weight, len(x), 0.0, x.dtype)
        with torch.no_grad():
            state, fixed = self.contractive(), self.inputs(x)
            h = x.new_zeros(len(x), len(state)) if start is None else start
            steps, moved = 0, float("inf")
            while steps < self.max_steps and moved > self.tolerance:
                new = aggregate(h, state, fixed, edges, weight)
                steps, moved, h = steps + 1, float((new - h).abs().max()) if len(h) else 0.0, new
        return h, steps

    def inputs(self, x: Float[Tensor, "N F"]) -> tuple[Float[Tensor, "N W"], Float[Tensor, "N W"]]:
        """U x and V x + b, which no iteration changes."""
        return linear(x, self.sent), linear(x, self.own, self.bias)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N W"]:
        edges, weight = mean_norm(edge_index, edge_weight, len(x), 0.0, x.dtype)
        h, _ = self.solve(x, edge_index, edge_weight)
        state, fixed = self.contractive(), self.inputs(x)
        found = aggregate(h, state, fixed, edges, weight)  # one step with gradient, from the fixed point to itself
        if not found.requires_grad:
            return found
        point = h.detach().requires_grad_()
        around = aggregate(point, state.detach(), (fixed[0].detach(), fixed[1].detach()), edges, weight.detach())

        def through_the_fixed_point(gradient: Tensor) -> Tensor:
            y = gradient
            for _ in range(self.max_steps):
                (back,) = torch.autograd.grad(around, point, y, retain_graph=True)
                moved = (gradient + back - y).abs().max()
                y = gradient + back
                if moved <= self.tolerance * gradient.abs().max():
                    break
            return y

        found.register_hook(through_the_fixed_point)
        return found

    def extra_repr(self) -> str:
        return f"contraction={self.contraction}, tolerance={self.tolerance}, max_steps={self.max_steps}"


def aggregate(
    h: Float[Tensor, "N W"],
    state: Float[Tensor, "W W"],
    fixed: tuple[Float[Tensor, "N W"], Float[Tensor, "N W"]],
    edge_index: Int64[Tensor, "2 E"],
    share: Float[Tensor, " E"],
) -> Float[Tensor, "N W"]:
    """One application of the map; `share` are the parts 1 / |N(v)| of the edges."""
    source, target = edge_index
    messages = ((linear(h, state) + fixed[0])[source] + fixed[1][target]).tanh()
    return torch.zeros_like(h).index_add(0, target, share[:, None] * messages)


class FixedPointGNN(StagedGraph):
    """The fixed point and a classifier.

    Arguments:
        in_features: columns of x.
        num_classes: 0 gives the states.
        width: of the states.
        contraction, tolerance, max_steps: as of `FixedPoint`.
        dropout: on the features and on the states.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (graphs, num_classes).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 16,
        contraction: float = 0.9,
        tolerance: float = 1e-4,
        max_steps: int = 200,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.stem = nn.Dropout(dropout)
        self.stages = nn.ModuleList([FixedPoint(in_features, width, contraction, tolerance, max_steps)])
        self.channels, self.num_features = (width,), width
        self.head = Classifier(width, num_classes, pool="none", dropout=dropout)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        return [self.stages[0](self.stem(x), edge_index, edge_weight)]

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam at 0.01 with weight decay, as for citation graphs."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))
