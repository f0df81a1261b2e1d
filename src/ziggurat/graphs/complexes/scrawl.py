"""SCRaWl: random walks over simplices are read by 1-D convolutions, and a simplex takes the mean over the places where walks pass it.

    X_i = [h(w_i) ‖ h(face) ‖ h(coface) ‖ w_i = w_{i−j}? ‖ w_i shares a face, a coface with w_{i−j}?],   j up to s
    h_σ ← h_σ + MLP([h_σ ‖ mean over walks and places whose receptive field has σ at its centre of conv(conv(X))])

One module for each dimension; all dimensions move together, so that faces and cofaces carry information between them. The cost is set by
the number m and length l of the walks, and what walks see is not what messages see: neither can tell apart all that the other can.

F. Frantzen, M. Schaub, Learning From Simplicial Data Based on Random Walks and 1D Convolutions, 2024, arXiv:2404.03434.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch_geometric.utils import scatter

from ziggurat.data.graphs.complexes import CWComplex
from ziggurat.data.seeds import derive
from ziggurat.graphs.complexes.cwan import Lift
from ziggurat.graphs.complexes.cwcnn import CellNetwork, Cells, check_dimension, widths
from ziggurat.graphs.complexes.walks import Sampling, SimplicialWalks, simplicial_walks, walk_codes


class CodedWalks(NamedTuple):
    """Walks over the simplices of one dimension and their codes (m, l, 3s − 2)."""

    walks: SimplicialWalks
    codes: UInt8[Tensor, "m l c"]


def taken(states: Float[Tensor, "n d"] | None, index: Int64[Tensor, "m l"], width: int, like: Tensor) -> Tensor:
    """states[index] (m, l, width), zeros where the index is −1 or there are no states at all."""
    if states is None:
        return like.new_zeros(*index.shape, width)
    return torch.cat([states, states.new_zeros(1, width)])[index]


class WalkConv(nn.Module):
    """What the simplices of one dimension learn from walks over them.

    Arguments:
        width: of the states.
        window: s; two convolutions of s + 1 steps see 2s + 1.
        dropout: in the perceptron.

    Shapes: states (n, width) of the simplices, of their faces and of their cofaces (None where there are none), coded walks with the same
    window -> (n, width).
    """

    def __init__(self, width: int, window: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.window = width, window
        self.conv = nn.Sequential(
            nn.Conv1d(3 * width + 3 * window - 2, width, window + 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, window + 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))

    def features(self, h: Tensor, faces: Tensor | None, cofaces: Tensor | None, given: CodedWalks) -> Tensor:
        """The walk feature matrices (m, l, 3 · width + 3s − 2)."""
        walks = given.walks
        pairs = ((h, walks.simplices), (faces, walks.faces), (cofaces, walks.cofaces))
        parts = [taken(states, index, self.width, h) for states, index in pairs]
        return torch.cat([*parts, given.codes.to(h.dtype)], 2)

    def pooled(self, h: Tensor, faces: Tensor | None, cofaces: Tensor | None, given: CodedWalks) -> Tensor:
        """The mean over the places where a simplex stood at the centre; zeros where no walk came."""
        length = given.walks.simplices.shape[1]
        if length <= 2 * self.window:
            raise ValueError(
                f"walks must be longer than twice the window, got {length} steps and a window of {self.window}; take longer walks or "
                "a smaller window."
            )
        if not len(given.walks.simplices):
            return torch.zeros_like(h)
        read = self.conv(self.features(h, faces, cofaces, given).transpose(1, 2)).transpose(1, 2)
        centre = given.walks.simplices[:, self.window : length - self.window]
        centre = torch.where(centre < 0, len(h), centre)  # behind a dead end: a row that is dropped
        return scatter(read.flatten(0, 1), centre.flatten(), 0, len(h) + 1, "mean")[:-1]

    def forward(
        self,
        h: Float[Tensor, "n d"],
        faces: Float[Tensor, "p d"] | None,
        cofaces: Float[Tensor, "q d"] | None,
        given: CodedWalks,
    ) -> Float[Tensor, "n d"]:
        return h + self.mlp(torch.cat([h, self.pooled(h, faces, cofaces, given)], 1))


class SCRaWlLayer(nn.Module):
    """A `WalkConv` for each dimension, all from the same old states.

    Shapes: `CWComplex` of states (n_k, width) and coded walks for each dimension -> one (n_k, width) for each dimension.
    """

    def __init__(self, width: int, window: int, dimension: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(WalkConv(width, window, dropout) for _ in range(dimension + 1))

    def forward(self, data: CWComplex, walks: Sequence[CodedWalks]) -> Cells:
        around = (None, *data.x, None)
        return tuple(
            conv(h, around[k], around[k + 2], walks[k])
            for k, (conv, h) in enumerate(zip(self.convs, data.x, strict=True))
        )


class SCRaWl(CellNetwork):
    """Layers of walks over the simplices of all dimensions.

    Arguments:
        in_features: width of the simplices, one number or one for each dimension.
        num_classes: 0 gives features; 1 is for regression.
        width, depth: of the layers.
        dimension: K, the largest dimension of a simplex.
        window: s.
        length: l of the walks, longer than 2s.
        count: m for each dimension; None starts a walk at each simplex.
        sampling, non_backtracking: of `simplicial_walks`.
        dropout: in the perceptrons.

    Shapes: `CWComplex` -> (complexes, num_classes), from the means over the simplices of each dimension. `forward_cells(data, walks)` gives
    the states of the simplices after each layer. Draw new walks for every epoch with `sample(data, seed)`, lest the network learns them by
    heart, and average over a few draws to predict; without `walks` they are those of seed 0.
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        num_classes: int,
        width: int = 64,
        depth: int = 3,
        dimension: int = 2,
        window: int = 8,
        length: int = 50,
        count: Sequence[int] | None = None,
        sampling: Sampling = "connection",
        non_backtracking: bool = False,
        dropout: float = 0.1,
    ) -> None:
        if window < 1 or length <= 2 * window:
            raise ValueError(f"length must be above twice the window, and that 1 or more, got {length} and {window}.")
        if count is not None and len(count) != dimension + 1:
            raise ValueError(f"count needs a number for each dimension 0 to {dimension}, got {len(count)}.")
        stem = Lift(widths(in_features, dimension), width, bias=True)
        layers = [SCRaWlLayer(width, window, dimension, dropout) for _ in range(depth)]
        super().__init__(stem, layers, width, dimension, num_classes, False, dropout)
        self.window, self.length, self.count = window, length, count
        self.sampling, self.non_backtracking = sampling, non_backtracking

    def sample(self, data: CWComplex, seed: int = 0) -> tuple[CodedWalks, ...]:
        """New walks for each dimension, for all layers."""
        found = []
        for k in range(self.dimension + 1):
            count = None if self.count is None else self.count[k]
            draw = derive(seed, "dimension", k)
            walks = simplicial_walks(data, k, count, self.length, draw, self.sampling, self.non_backtracking)
            found.append(CodedWalks(walks, walk_codes(data, k, walks.simplices, self.window)))
        return tuple(found)

    def forward_cells(self, data: CWComplex, walks: Sequence[CodedWalks] | None = None) -> list[Cells]:
        """The states of the simplices of each dimension after each layer."""
        check_dimension(data, self.dimension)
        walks = self.sample(data) if walks is None else walks
        z, found = self.stem(data), []
        for stage in self.stages:
            z = self.run(stage, data._replace(x=z), walks)
            found.append(z)
        return found
