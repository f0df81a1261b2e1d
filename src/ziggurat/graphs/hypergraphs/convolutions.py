"""Convolutions of hypergraphs that differ in how a message passes from nodes to hyperedges and back; the survey sets them side by side.

    HNHN            h_e = σ(Σ_v d_v^β x_v W / Σ_v d_v^β),  x'_v = Σ_e |e|^α h_e W' / Σ_e |e|^α      weighted means, σ between them
    UniGCN          h_e = mean_v x_v W,  x'_v = d_v^-1/2 Σ_e d_e^-1/2 h_e                            d_e the mean degree of e's nodes
    AllDeepSets     h_e = ρ(Σ_v φ(x_v)),  x'_v = ρ'(Σ_e φ'(h_e))                                     any function of a set
    AllSet          the same with attention that a learned query pays to the set (PMA)
    ED-HNN          h_e = Σ_u φ(x_u),  x'_v = ψ(x_v, Σ_e ρ(x_v, h_e), x⁰_v)                          each member gets its own message

HGNN's own is in `hgnn`. None adds self-loops: `with_self_loops` gives every node a hyperedge of its own, to all or to none.

Y. Dong, W. Sawin, Y. Bengio, HNHN, 2020, arXiv:2006.12278. J. Huang, J. Yang, UniGNN, 2021, arXiv:2105.00956. E. Chien, C. Pan, J. Peng,
O. Milenkovic, You are AllSet, 2022, arXiv:2106.13264. P. Wang et al., ED-HNN, 2023, arXiv:2207.06680. S. Kim et al., A Survey on Hypergraph
Neural Networks, 2024, arXiv:2404.01039.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.utils import softmax

from ziggurat.graphs.hypergraphs.incidence import check_incidence, count_hyperedges
from ziggurat.graphs.hypergraphs.incidence_product import IncidenceProduct
from ziggurat.graphs.propagation import degrees, power


def with_self_loops(hyperedge_index: Int64[Tensor, "2 M"], num_nodes: int) -> Int64[Tensor, "2 K"]:
    """A hyperedge of its own for every node, numbered behind the others."""
    check_incidence(hyperedge_index, num_nodes)
    nodes = torch.arange(num_nodes, device=hyperedge_index.device)
    return torch.cat([hyperedge_index, torch.stack([nodes, count_hyperedges(hyperedge_index) + nodes])], 1)


def _perceptron(in_channels: int, width: int, norm: bool) -> nn.Sequential:
    """Two linear layers with a ReLU between them, and layer normalisation behind them where sums of any size come in."""
    layers: list[nn.Module] = [nn.Linear(in_channels, width), nn.ReLU(), nn.Linear(width, width)]
    return nn.Sequential(*layers, *([nn.LayerNorm(width)] if norm else []))


def _column(degree: Tensor, exponent: float) -> Tensor:
    """degree^exponent as a column, 0 for degrees of 0."""
    return power(degree.flatten(), exponent).unsqueeze(1)


class HNHNConv(nn.Module):
    """Means weighted by powers of degrees and sizes, with a nonlinearity at the hyperedges.

    Arguments:
        in_channels, out_channels: widths of X and of the result.
        alpha: power of a hyperedge's size; below 0 large ones count less.
        beta: power of a node's degree.

    Shapes: x (N, in_channels), hyperedge_index (2, M) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, alpha: float = -1.5, beta: float = -0.5) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.there, self.back = nn.Linear(in_channels, out_channels), nn.Linear(out_channels, out_channels)

    def forward(self, x: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"]) -> Float[Tensor, "N C"]:
        check_incidence(hyperedge_index, len(x))
        (node, edge), count = hyperedge_index, count_hyperedges(hyperedge_index)
        ones = x.new_ones(len(node))
        by_node = _column(degrees(node, ones, len(x)), self.beta)
        by_edge = _column(degrees(edge, ones, count), self.alpha)
        sums = IncidenceProduct(hyperedge_index, len(x), count, dtype=x.dtype)
        h = sums.to_hyperedges(by_node * self.there(x)) * _column(sums.to_hyperedges(by_node), -1.0)
        return sums.to_nodes(by_edge * self.back(h.relu())) * _column(sums.to_nodes(by_edge), -1.0)


class UniGCNConv(nn.Module):
    """The graph convolution with the mean degree of a hyperedge's nodes in place of the neighbour's.

    Arguments:
        in_channels, out_channels: widths of X and of the result.

    Shapes: x (N, in_channels), hyperedge_index (2, M) -> (N, out_channels). The paper adds self-loops: `with_self_loops`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"]) -> Float[Tensor, "N C"]:
        check_incidence(hyperedge_index, len(x))
        (node, edge), count = hyperedge_index, count_hyperedges(hyperedge_index)
        ones = x.new_ones(len(node))
        degree, size = degrees(node, ones, len(x)).unsqueeze(1), degrees(edge, ones, count).unsqueeze(1)
        sums = IncidenceProduct(hyperedge_index, len(x), count, dtype=x.dtype)
        mean = _column(size, -1.0)
        h = mean * sums.to_hyperedges(self.linear(x))
        of_edge = _column(mean * sums.to_hyperedges(degree), -0.5)
        return _column(degree, -0.5) * sums.to_nodes(of_edge * h) + self.bias


class AllDeepSetsConv(nn.Module):
    """A set function each way: perceptron, sum over the set, perceptron.

    Arguments:
        in_channels, out_channels: widths of X and of the result.
        aggregate: "sum", which sees how large a set is, or "mean".

    Shapes: x (N, in_channels), hyperedge_index (2, M) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, aggregate: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        if aggregate not in ("sum", "mean"):
            raise ValueError(f"aggregate must be 'sum' or 'mean', got {aggregate!r}.")
        self.aggregate = aggregate
        self.of_node = _perceptron(in_channels, out_channels, norm=False)
        self.to_edge = _perceptron(out_channels, out_channels, norm=True)
        self.of_edge = _perceptron(out_channels, out_channels, norm=False)
        self.to_node = _perceptron(out_channels, out_channels, norm=True)

    def forward(self, x: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"]) -> Float[Tensor, "N C"]:
        check_incidence(hyperedge_index, len(x))
        (node, edge), count = hyperedge_index, count_hyperedges(hyperedge_index)
        sums = IncidenceProduct(hyperedge_index, len(x), count, dtype=x.dtype)
        h, ones = sums.to_hyperedges(self.of_node(x)), x.new_ones(len(node))
        mean = self.aggregate == "mean"
        h = self.to_edge(h * _column(degrees(edge, ones, count), -1.0) if mean else h)
        y = sums.to_nodes(self.of_edge(h))
        return self.to_node(y * _column(degrees(node, ones, len(x)), -1.0) if mean else y)


class PMA(nn.Module):
    """Pooling of sets by attention: a learned query a head, Y = LN(θ + attention(θ, S)), out = LN(Y + MLP(Y)).

    Arguments:
        in_channels, out_channels: widths of the elements and of the result; the second is a multiple of `heads`.
        heads: parts of the result, each with its own query.

    Shapes: x (n, in_channels), pairs (2, M) of an element and its set, count -> (count, out_channels). A set without elements gets what
    the query alone gives. J. Lee et al., Set Transformer, 2019, arXiv:1810.00825.
    """

    def __init__(self, in_channels: int, out_channels: int, heads: int = 4) -> None:
        super().__init__()
        if out_channels % heads:
            raise ValueError(f"out_channels must be a multiple of heads, got {out_channels} and {heads}.")
        self.query = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.key = nn.Linear(in_channels, out_channels, bias=False)  # a bias moves all scores of a set alike
        self.value = _perceptron(in_channels, out_channels, norm=False)
        self.norm, self.last = nn.LayerNorm(out_channels), nn.LayerNorm(out_channels)
        self.mlp = _perceptron(out_channels, out_channels, norm=False)
        nn.init.xavier_uniform_(self.query)

    def forward(self, x: Float[Tensor, "n F"], pairs: Int64[Tensor, "2 M"], count: int) -> Float[Tensor, "S C"]:
        (element, part), (heads, width) = pairs, self.query.shape
        score = (self.key(x).unflatten(1, (heads, width)) * self.query).sum(2) / width**0.5
        weight = softmax(score[element], part, num_nodes=count)  # within each set
        value = self.value(x).unflatten(1, (heads, width))[element] * weight.unsqueeze(2)
        pooled = value.new_zeros(count, heads, width).index_add(0, part, value)
        y = self.norm((self.query + pooled).flatten(1))
        return self.last(y + self.mlp(y))


class AllSetTransformerConv(nn.Module):
    """Attention each way: the members of a hyperedge, then the hyperedges of a node, are pooled by `PMA`.

    Arguments:
        in_channels, out_channels: widths of X and of the result.
        heads: of both poolings.

    Shapes: x (N, in_channels), hyperedge_index (2, M) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, heads: int = 4) -> None:
        super().__init__()
        self.there, self.back = PMA(in_channels, out_channels, heads), PMA(out_channels, out_channels, heads)

    def forward(self, x: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"]) -> Float[Tensor, "N C"]:
        check_incidence(hyperedge_index, len(x))
        h = self.there(x, hyperedge_index, count_hyperedges(hyperedge_index)).relu()
        return self.back(h, hyperedge_index.flip(0), len(x))


class EDHNNConv(nn.Module):
    """What a hyperedge tells a member depends on the member: the diffusion of any potential that is the same for all members.

    Arguments:
        in_channels, out_channels: widths of X and of the result.

    Shapes: x (N, in_channels), hyperedge_index (2, M), x0 (N, in_channels) where the diffusion started (x by default)
    -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.phi = _perceptron(in_channels, out_channels, norm=False)
        self.rho = _perceptron(in_channels + out_channels, out_channels, norm=False)
        self.psi = _perceptron(2 * in_channels + out_channels, out_channels, norm=True)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        x0: Float[Tensor, "N F"] | None = None,
    ) -> Float[Tensor, "N C"]:
        check_incidence(hyperedge_index, len(x))
        (node, edge), count = hyperedge_index, count_hyperedges(hyperedge_index)
        h = IncidenceProduct(hyperedge_index, len(x), count, dtype=x.dtype).to_hyperedges(self.phi(x))
        message = self.rho(torch.cat([x[node], h[edge]], 1))
        total = message.new_zeros(len(x), message.shape[1]).index_add(0, node, message)
        return self.psi(torch.cat([x, total, x if x0 is None else x0], 1))
