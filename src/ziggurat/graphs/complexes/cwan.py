"""Attention on cell complexes: a cell attends to those of its dimension with which it shares a face or a coface, and to itself.

    signed:    e_ij = o_ij (Q h_i) · (K h_j) / √d,   h_i' = Σ_j softmax_j(e_ij) o_ij W h_j,   o_ij = sign of D_k[i, j]
    unsigned:  e_ij = LeakyReLU(a · [W h_i ‖ W h_j]),  h_i' = Σ_j softmax_j(e_ij) W h_j

The bilinear score with o_ij does not change when a cell is turned over, and the value turns with it; an additive score would change. In a
filled triangle two sides meet at a node and along the triangle, the two terms of D_1 cancel, and o_ij is 0.

R. Khorana, CW-CNN & CW-AN: Convolutional Networks and Attention Networks for CW-Complexes, 2024, arXiv:2408.16686. The signed score is this
library's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch_geometric.utils import scatter, softmax

from ziggurat.data.graphs.complexes import CWComplex
from ziggurat.graphs.complexes.cwcnn import CellNetwork, Cells, check_dimension, widths


def joined(
    middle: Int64[Tensor, " M"], ends: Int64[Tensor, " M"], sign: Float[Tensor, " M"]
) -> tuple[Int64[Tensor, "2 P"], Float[Tensor, " P"]]:
    """All pairs of ends that have a middle in common, and the product of their signs."""
    order = middle.argsort(stable=True)
    middle, ends, sign = middle[order], ends[order], sign[order]
    counts = torch.bincount(middle)
    each = counts[middle]
    first = torch.arange(len(ends), device=ends.device).repeat_interleave(each)
    begin = (each.cumsum(0) - each).repeat_interleave(each)
    second = (counts.cumsum(0) - counts)[middle[first]] + torch.arange(len(first), device=ends.device) - begin
    return torch.stack([ends[first], ends[second]]), sign[first] * sign[second]


def sharing(cells: CWComplex, k: int) -> tuple[Int64[Tensor, "2 P"], Float[Tensor, " P"]]:
    """Pairs (i, j) of cells of dimension k that share a face or a coface, (i, i) included, and o_ij, the sign of D_k[i, j]."""
    n, here = cells.sizes[k], torch.arange(cells.sizes[k], device=cells.x[k].device)
    found, products = [here.expand(2, -1)], [cells.x[k].new_ones(n)]
    for level, row in ((k, 0), (k + 1, 1)):
        if 1 <= level <= len(cells.faces):
            faces, sign = cells.faces[level - 1], cells.signs[level - 1].to(cells.x[k].dtype)
            pairs, product = joined(faces[row], faces[1 - row], sign)
            found.append(pairs)
            products.append(product)
    pairs = torch.cat(found, 1)
    code, place = torch.unique(pairs[0] * n + pairs[1], return_inverse=True)
    total = scatter(torch.cat(products), place, 0, len(code))
    return torch.stack([code // max(n, 1), code % max(n, 1)]), total.sign()


class CWAttention(nn.Module):
    """Signed attention, without biases: turning a cell over turns its own output and nothing else.

    Arguments:
        in_channels: width of the cells, one number or one for each dimension.
        out_channels: of every dimension, a multiple of `heads`.
        heads: of the attention.
        dimension: K.

    Shapes: `CWComplex` of features (n_k, in_channels) -> one (n_k, out_channels) for each dimension.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int, heads: int = 4, dimension: int = 2) -> None:
        super().__init__()
        if out_channels % heads:
            raise ValueError(f"out_channels must be a multiple of heads, got {out_channels} and {heads}.")
        self.heads, self.dimension = heads, dimension
        self.value = self.per_dimension(widths(in_channels, dimension), out_channels)
        self.make_scores(widths(in_channels, dimension), out_channels)

    @staticmethod
    def per_dimension(sizes: Sequence[int], out_channels: int) -> nn.ModuleList:
        """A linear map without bias for each dimension."""
        return nn.ModuleList(nn.Linear(size, out_channels, bias=False) for size in sizes)

    def make_scores(self, sizes: Sequence[int], out_channels: int) -> None:
        """The parameters of the scores."""
        self.query = self.per_dimension(sizes, out_channels)
        self.key = self.per_dimension(sizes, out_channels)

    def scores(self, k: int, h: Tensor, value: Tensor, pairs: Tensor, sign: Tensor) -> Float[Tensor, "P heads"]:
        """e_ij of each pair."""
        query = self.query[k](h).unflatten(1, (self.heads, -1))
        key = self.key[k](h).unflatten(1, (self.heads, -1))
        return sign[:, None] * (query[pairs[0]] * key[pairs[1]]).sum(2) / math.sqrt(query.shape[2])

    def carried(self, value: Float[Tensor, "P h d"], sign: Float[Tensor, " P"]) -> Float[Tensor, "P h d"]:
        """What comes over each pair."""
        return sign[:, None, None] * value

    def forward(self, data: CWComplex) -> Cells:
        check_dimension(data, self.dimension)
        out = []
        for k, h in enumerate(data.x):
            pairs, sign = sharing(data, k)
            value = self.value[k](h).unflatten(1, (self.heads, -1))
            weight = softmax(self.scores(k, h, value, pairs, sign), pairs[0], num_nodes=len(h))
            message = weight[:, :, None] * self.carried(value[pairs[1]], sign)
            out.append(torch.zeros_like(value).index_add(0, pairs[0], message).flatten(1))
        return tuple(out)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, dimension={self.dimension}"


class AdditiveCWAttention(CWAttention):
    """Attention for features without orientation, with additive scores. Arguments and shapes as of `CWAttention`."""

    def make_scores(self, sizes: Sequence[int], out_channels: int) -> None:
        head = out_channels // self.heads
        self.weight = nn.Parameter(torch.empty(len(sizes), 2, self.heads, head))
        nn.init.uniform_(self.weight, -1 / math.sqrt(head), 1 / math.sqrt(head))

    def scores(self, k: int, h: Tensor, value: Tensor, pairs: Tensor, sign: Tensor) -> Float[Tensor, "P heads"]:
        one, two = (value[:, None] * self.weight[k]).sum(3).unbind(1)
        return leaky_relu(one[pairs[0]] + two[pairs[1]], 0.2)

    def carried(self, value: Float[Tensor, "P h d"], sign: Float[Tensor, " P"]) -> Float[Tensor, "P h d"]:
        return value


class AttentionBlock(nn.Module):
    """y = h + attention(h), then y + perceptron(norm(y)), dimension by dimension.

    Arguments:
        width: of the cells, in and out.
        heads, dimension: of the attention.
        signed: tanh, no bias and a norm without shift; else ReLU with biases.

    Shapes: `CWComplex` of features (n_k, width) -> one (n_k, width) for each dimension.
    """

    def __init__(self, width: int, heads: int, dimension: int, signed: bool) -> None:
        super().__init__()
        kind = CWAttention if signed else AdditiveCWAttention
        self.attention = kind(width, width, heads, dimension)
        bias = not signed
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width, bias=bias),
                nn.Linear(width, 2 * width, bias=bias),
                nn.Tanh() if signed else nn.ReLU(),
                nn.Linear(2 * width, width, bias=bias),
            )
            for _ in range(dimension + 1)
        )

    def forward(self, data: CWComplex) -> Cells:
        y = tuple(h + new for h, new in zip(data.x, self.attention(data), strict=True))
        return tuple(h + mix(h) for h, mix in zip(y, self.mix, strict=True))


class Lift(nn.Module):
    """A linear map of the cells of each dimension to one width."""

    def __init__(self, sizes: Sequence[int], width: int, bias: bool) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(size, width, bias=bias) for size in sizes)

    def forward(self, data: CWComplex) -> Cells:
        return tuple(linear(x) for linear, x in zip(self.linear, data.x, strict=True))


class CWAN(CellNetwork):
    """Blocks of attention and a readout.

    Arguments:
        in_features: width of the cells, one number or one for each dimension.
        num_classes: 0 gives features; 1 is for regression.
        width, depth, heads: of the blocks.
        dimension: K.
        signed: the signed attention and a readout of squares, for flows; else the additive one and means.
        dropout: in the perceptron.

    Shapes: `CWComplex` -> (complexes, num_classes).
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        num_classes: int,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        dimension: int = 2,
        signed: bool = True,
        dropout: float = 0.0,
    ) -> None:
        stem = Lift(widths(in_features, dimension), width, bias=not signed)
        layers = [AttentionBlock(width, heads, dimension, signed) for _ in range(depth)]
        super().__init__(stem, layers, width, dimension, num_classes, signed, dropout)
