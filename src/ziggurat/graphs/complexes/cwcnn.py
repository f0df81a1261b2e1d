"""Convolution on cell complexes: features of nodes, edges and polygons mix along the Hodge Laplacian of their dimension.

    D_k = B_kᵀ B_k + B_{k+1} B_{k+1}ᵀ,   h_k' = ρ(D_k h_k W_k + h_k W_k⁰ + B_kᵀ h_{k−1} U_k + B_{k+1} h_{k+1} V_k)

The orientation of edges and polygons is a convention. With an odd ρ and no bias, turning a cell over turns the sign of its own output and
changes nothing else, so that a readout of squares does not see the convention at all.

R. Khorana, CW-CNN & CW-AN: Convolutional Networks and Attention Networks for CW-Complexes, 2024, arXiv:2408.16686. The skip W⁰ and the
messages U and V between dimensions are this library's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.nn import global_mean_pool
from torch_geometric.utils import scatter

from ziggurat.data.graphs.complexes import CWComplex
from ziggurat.graphs.complexes.hodge import hodge, to_cofaces, to_faces
from ziggurat.graphs.pooling.sparse_hgc import HiddenClassifier
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Staged

Cells = tuple[Tensor, ...]
"""A representation: one tensor (n_k, F) for each dimension k."""


def check_dimension(cells: CWComplex, dimension: int) -> None:
    """Raises a `ValueError` where the complex has cells of more or of fewer dimensions than the layer."""
    if len(cells.x) != dimension + 1:
        raise ValueError(
            f"the layer is for cells of dimension 0 to {dimension}, the complex has dimension {len(cells.x) - 1}; "
            "take its skeleton, or build the layer with another dimension."
        )


def widths(in_channels: int | Sequence[int], dimension: int) -> tuple[int, ...]:
    """The width of each dimension's cells, where one number stands for all."""
    sizes = (in_channels,) * (dimension + 1) if isinstance(in_channels, int) else tuple(in_channels)
    if len(sizes) != dimension + 1:
        raise ValueError(
            f"cells of dimension 0 to {dimension} need {dimension + 1} widths, got {len(sizes)}; give one for each dimension."
        )
    return sizes


def bound(cells: CWComplex, k: int) -> Float[Tensor, "n 1"]:
    """For each cell the largest row sum of |B_k|ᵀ|B_k| + |B_{k+1}||B_{k+1}|ᵀ in its complex, at least 1: no eigenvalue of D_k is above."""
    ones = cells.x[k].new_ones(cells.sizes[k], 1)
    sums = torch.stack(hodge(cells.unsigned(), k, ones)).sum(0)
    if cells.batch is None:
        return sums.amax(0, keepdim=True).clamp_min(1).expand_as(sums) if len(sums) else sums
    return scatter(sums, cells.batch[k], 0, reduce="max").clamp_min(1)[cells.batch[k]]


def readout(cells: CWComplex, z: Cells, squared: bool) -> Float[Tensor, "B D"]:
    """Means over the cells of each dimension, or means of their squares, side by side; zeros where a complex has no cell."""
    if cells.batch is None:
        batch = tuple(torch.zeros(n, dtype=torch.int64, device=z[0].device) for n in cells.sizes)
        count = 1
    else:
        batch, count = cells.batch, int(torch.cat(cells.batch).max()) + 1
    parts = zip(z, batch, strict=True)
    return torch.cat([global_mean_pool(h.square() if squared else h, own, count) for h, own in parts], 1)


class CWConv(nn.Module):
    """One convolution of cells of dimension 0 to K.

    Arguments:
        in_channels: width of the cells, one number or one for each dimension.
        out_channels: of every dimension.
        dimension: K.
        signed: tanh without bias, for flows; else ReLU with bias, for features without orientation (and `cells.unsigned()`).
        across: whether messages go between dimensions, too (U and V).
        separate: W for the way through faces and another one for the way through cofaces, instead of one for their sum.
        bounded: divides D_k by a bound of its largest eigenvalue in each complex.

    Shapes: `CWComplex` of features (n_k, in_channels) -> one (n_k, out_channels) for each dimension.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        dimension: int = 2,
        signed: bool = True,
        across: bool = True,
        separate: bool = False,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        sizes = widths(in_channels, dimension)
        self.dimension, self.signed, self.separate, self.bounded = dimension, signed, separate, bounded

        def linear(widths: Sequence[int], bias: bool = False) -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(width, out_channels, bias=bias) for width in widths)

        self.own = linear(sizes, bias=not signed)
        self.through_faces = linear(sizes[1:] if separate else ())
        self.through_cofaces = linear(sizes[:-1] if separate else ())
        self.laplacian = linear(() if separate or not dimension else sizes)
        self.from_faces = linear(sizes[:-1] if across else ())
        self.from_cofaces = linear(sizes[1:] if across else ())
        self.act = nn.ModuleList(nn.Tanh() if signed else nn.ReLU() for _ in sizes)

    def linear(self, cells: CWComplex, k: int) -> Float[Tensor, "n G"]:
        """What goes into the activation of dimension k."""
        z, top = cells.x, self.dimension
        out = self.own[k](z[k])
        if top:
            down, up = hodge(cells, k, z[k])
            scale = bound(cells, k) if self.bounded else 1.0
            if not self.separate:
                out = out + self.laplacian[k]((down + up) / scale)
            if self.separate and k > 0:
                out = out + self.through_faces[k - 1](down / scale)
            if self.separate and k < top:
                out = out + self.through_cofaces[k](up / scale)
        if len(self.from_faces) and k > 0:
            out = out + self.from_faces[k - 1](to_cofaces(cells, k, z[k - 1]))
        if len(self.from_cofaces) and k < top:
            out = out + self.from_cofaces[k](to_faces(cells, k + 1, z[k + 1]))
        return out

    def forward(self, data: CWComplex) -> Cells:
        check_dimension(data, self.dimension)
        return tuple(act(self.linear(data, k)) for k, act in enumerate(self.act))

    def extra_repr(self) -> str:
        return f"dimension={self.dimension}, signed={self.signed}, separate={self.separate}, bounded={self.bounded}"


class CellNetwork(Staged):
    """Layers on cells, whose last readout goes through a perceptron; what `CWCNN` and `CWAN` share.

    Arguments:
        stem: `CWComplex` -> cells, or the identity.
        layers: modules `CWComplex` -> cells.
        width: of every layer.
        dimension: K.
        num_classes: 0 gives features.
        squared: whether the readout takes squares.
        dropout: in the perceptron.

    Features are the readouts (complexes, (K + 1) · width) of each layer; `forward_cells` gives the cells themselves.
    """

    input = "complex"
    sequential = False

    def __init__(
        self,
        stem: nn.Module,
        layers: Sequence[nn.Module],
        width: int,
        dimension: int,
        num_classes: int,
        squared: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        if not layers:
            raise ValueError("depth must be 1 or more, got 0.")
        self.stem, self.stages = stem, nn.ModuleList(layers)
        self.squared, self.dimension = squared, dimension
        self.channels, self.num_features = ((dimension + 1) * width,) * len(layers), width
        self.head = HiddenClassifier((dimension + 1) * width, width, num_classes, dropout)

    def forward_cells(self, data: CWComplex) -> list[Cells]:
        """What every layer makes of the cells of each dimension."""
        check_dimension(data, self.dimension)
        z, found = self.stem(data), []
        for stage in self.stages:
            z = z if isinstance(z, CWComplex) else data._replace(x=z)
            z = self.run(stage, z)
            found.append(z)
        return found

    def forward_features(self, data: CWComplex) -> list[Tensor]:
        return [readout(data, z, self.squared) for z in self.forward_cells(data)]

    def forward(self, data: CWComplex) -> Tensor:
        return self.forward_head(self.forward_features(data))

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at 1e-3."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-3))


class CWCNN(CellNetwork):
    """Convolutions of cells and a readout.

    Arguments:
        in_features: width of the cells, one number or one for each dimension.
        num_classes: 0 gives features; 1 is for regression.
        width, depth: of the convolutions.
        dimension: K.
        signed: tanh without bias and a readout of squares, for flows; else ReLU, bias and means.
        across, separate, bounded: of each `CWConv`.
        dropout: in the perceptron.

    Shapes: `CWComplex` -> (complexes, num_classes).
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        num_classes: int,
        width: int = 32,
        depth: int = 3,
        dimension: int = 2,
        signed: bool = True,
        across: bool = True,
        separate: bool = False,
        bounded: bool = False,
        dropout: float = 0.0,
    ) -> None:
        sizes = [widths(in_features, dimension), *[(width,) * (dimension + 1)] * (depth - 1)]
        layers = [CWConv(size, width, dimension, signed, across, separate, bounded) for size in sizes[:depth]]
        super().__init__(nn.Identity(), layers, width, dimension, num_classes, signed, dropout)
