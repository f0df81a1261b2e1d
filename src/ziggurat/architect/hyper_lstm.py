"""HyperLSTM: a small LSTM changes the weights of a large one at every step, by scaling the rows of its matrices.

For each gate y of (i, g, f, o), with hh the state of the small LSTM that reads [h, x]:

    z_h = A_h hh + b_h,   z_x = A_x hh + b_x,   z_b = A_b hh
    y = LN(D_h z_h ⊙ W_h h + D_x z_x ⊙ W_x x + D_b z_b + b₀)
    c = σ(f) c + σ(i) tanh(g),   h = σ(o) tanh(LN(c))

The small LSTM steps first, so its new state acts at the same step. At the start every scale is 0.1. LN is optional.

D. Ha, A. Dai, Q. V. Le, HyperNetworks, 2016, arXiv:1609.09106.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]
State = tuple[Pair, Pair]
GATES = 4


class HyperLSTMCell(nn.Module):
    """One step.

    Arguments:
        in_features: D.
        width: H, of the large LSTM.
        hyper: width of the small one.
        embedding: N_z, of the vector that each gate's scales come from.
        layer_norm: normalises every gate and the cell.
        dropout: of the candidate tanh(g).
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        hyper: int,
        embedding: int = 4,
        layer_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features, self.width, self.hyper, self.embedding = in_features, width, hyper, embedding
        self.hidden = nn.Linear(width, GATES * width, bias=False)
        self.input = nn.Linear(in_features, GATES * width, bias=False)
        self.small = nn.Linear(width + in_features + hyper, GATES * hyper)
        self.scales = nn.Linear(hyper, 2 * GATES * embedding)
        self.shift = nn.Linear(hyper, GATES * embedding, bias=False)
        self.to_hidden = nn.Parameter(torch.full((GATES, width, embedding), 0.1 / embedding))
        self.to_input = nn.Parameter(torch.full((GATES, width, embedding), 0.1 / embedding))
        self.to_bias = nn.Parameter(torch.zeros(GATES, width, embedding))
        self.bias = nn.Parameter(torch.zeros(GATES, width))
        self.gate_norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(GATES)) if layer_norm else None
        self.cell_norm = nn.LayerNorm(width) if layer_norm else None
        self.dropout = nn.Dropout(dropout)
        for gate in self.hidden.weight.data.split(width):
            nn.init.orthogonal_(gate)
        nn.init.xavier_uniform_(self.input.weight)
        nn.init.zeros_(self.scales.weight)
        nn.init.ones_(self.scales.bias)
        nn.init.normal_(self.shift.weight, std=0.01)
        with torch.no_grad():
            self.bias[2] = 1.0  # a new cell remembers

    def start(self, x: Float[Tensor, "B D"]) -> State:
        """The state of zeros."""
        large, small = x.new_zeros(len(x), self.width), x.new_zeros(len(x), self.hyper)
        return (large, large), (small, small)

    def small_step(self, x: Tensor, h: Tensor, state: Pair) -> Pair:
        """The small LSTM reads [h, x]."""
        hh, cc = state
        i, g, f, o = self.small(torch.cat([h, x, hh], 1)).chunk(GATES, 1)
        cc = torch.sigmoid(f + 1) * cc + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cc), cc

    def forward(self, x: Float[Tensor, "B D"], state: State, projected: Tensor | None = None) -> State:
        """The next state.

        Arguments:
            projected: W_x x (B, 4H), where it was computed for all steps at once.
        """
        (h, c), small = state
        hh, cc = self.small_step(x, h, small)
        z_h, z_x = self.scales(hh).unflatten(1, (2, GATES, self.embedding)).unbind(1)
        z_b = self.shift(hh).unflatten(1, (GATES, self.embedding))

        def rows(z: Tensor, table: Tensor) -> Tensor:
            return torch.einsum("bge,gne->bgn", z, table)

        hidden = self.hidden(h).unflatten(1, (GATES, -1))
        own = (self.input(x) if projected is None else projected).unflatten(1, (GATES, -1))
        y = rows(z_h, self.to_hidden) * hidden + rows(z_x, self.to_input) * own + rows(z_b, self.to_bias) + self.bias
        gates = y.unbind(1)
        if self.gate_norm is not None:
            gates = tuple(norm(gate) for norm, gate in zip(self.gate_norm, gates, strict=True))
        i, g, f, o = gates
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * self.dropout(torch.tanh(g))
        h = torch.sigmoid(o) * torch.tanh(c if self.cell_norm is None else self.cell_norm(c))
        return (h, c), (hh, cc)


class HyperLSTM(nn.Module):
    """The cell over sequences; called as `torch.nn.LSTM` with one layer and batch_first.

    Shapes: x (B, T, D), optional state ((h, c), (hh, hc)) -> (B, T, H), state.
    """

    def __init__(self, cell: HyperLSTMCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Float[Tensor, "B T D"], state: State | None = None) -> tuple[Float[Tensor, "B T H"], State]:
        if x.ndim != 3 or x.shape[2] != self.cell.in_features:
            raise ValueError(f"x must be (B, T, {self.cell.in_features}), got {tuple(x.shape)}.")
        state = self.cell.start(x[:, 0]) if state is None else state
        projected = self.cell.input(x)
        found = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state, projected[:, t])
            found.append(state[0][0])
        return torch.stack(found, 1), state
