"""Gated graph networks: every node has the same gated recurrent unit, and reads its neighbours' states for a fixed number of steps.

    h^0 = [x ‖ 0],   h^{t+1} = GRU(Σ_{u ∈ N(v)} W h_u^t, h_v^t),   t < T

All steps share W and the unit; with weights of their own they would be the layers of a convolutional network. Inputs that are narrower
than the state are padded with zeros, wider ones, such as bags of words, pass a linear layer first.

A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596. Y. Li, D. Tarlow, M. Brockschmidt, R. Zemel, Gated Graph Sequence Neural
Networks, 2016, arXiv:1511.05493.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from ziggurat.graphs.propagation import add_loops
from ziggurat.graphs.sparse_operator import sparse_operator
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class ToState(nn.Module):
    """Makes inputs as wide as the state: by zeros, or where they are wider by a linear layer.

    Shapes: x (N, in_features) -> (N, width).
    """

    def __init__(self, in_features: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.lacking = width - in_features
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_features, width) if self.lacking < 0 else nn.Identity()

    def forward(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N W"]:
        return pad(self.linear(self.dropout(x)), (0, max(self.lacking, 0)))


class GatedSteps(nn.Module):
    """T steps of message passing by one gated recurrent unit.

    Arguments:
        width: of the states.
        steps: T.

    Shapes: h (N, width), edge_index (2, E), edge_weight (E,) -> (N, width).
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be 1 or more, got {steps}.")
        self.steps = steps
        self.message = nn.Parameter(torch.empty(width, width))
        self.cell = nn.GRUCell(width, width)  # holds the weights; the steps use them as functions
        nn.init.xavier_uniform_(self.message)

    def forward(
        self,
        h: Float[Tensor, "N W"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N W"]:
        total = sparse_operator(*add_loops(edge_index, edge_weight, len(h), 0.0, h.dtype), len(h))
        cell = self.cell
        for _ in range(self.steps):
            heard = total(linear(h, self.message))
            h = torch.gru_cell(heard, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        return h

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class GatedGNN(StagedGraph):
    """Inputs as states, T gated steps, and a classifier.

    Arguments:
        in_features: columns of x.
        num_classes: 0 gives the states.
        width: of the states.
        steps: T.
        dropout: on the features and on the last states.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (graphs, num_classes).
    """

    def __init__(
        self, in_features: int, num_classes: int, width: int = 16, steps: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.stem = ToState(in_features, width, dropout)
        self.stages = nn.ModuleList([GatedSteps(width, steps)])
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
