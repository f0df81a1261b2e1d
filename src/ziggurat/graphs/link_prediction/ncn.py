"""Neural common neighbours: a pair of nodes is scored by its ends and by the sum of what their common neighbours have learned.

    s_ij = MLP_out(β MLP_cn(c_ij) + MLP_ij(h_i ⊙ h_j)),   c_ij = Σ_{u ∈ N(i) ∩ N(j)} h'_u + Σ_{u ∈ N(i) △ N(j)} p_u h'_u

h comes from one pass of message passing over the whole graph, h' = h + MLP_x(h). NCN has the first sum only. NCNC completes the graph
softly: a neighbour u of i alone counts by how likely the link u – j is, which the same predictor says, without gradient.

X. Wang, H. Yang, M. Zhang, Neural Common Neighbor with Completion for Link Prediction, 2024, arXiv:2302.00890.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ziggurat.graphs.links import Neighbours
from ziggurat.graphs.propagation import check_edges, gcn_norm, propagate


class PureGCN(nn.Module):
    """One linear layer, then propagation with normalisation but without weights; the sum of all steps.

    Shapes: x (N, in_features), edge_index (2, E) -> (N, width).
    """

    def __init__(self, in_features: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(in_features, width), nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))

    def forward(self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"]) -> Float[Tensor, "N W"]:
        edges, weight = gcn_norm(edge_index, None, len(x), dtype=x.dtype)
        h = total = self.dropout(self.linear(x))
        for norm in self.norms:
            h = norm(propagate(h, edges, weight))
            total = total + h
        return total


class Perceptron(nn.Module):
    """Linear, layer normalisation, dropout, ReLU, linear, as one function of its weights: the completion asks it several times.

    Shapes: (…, in_features) -> (…, out_features).
    """

    def __init__(self, in_features: int, width: int, out_features: int, dropout: float) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(in_features, width), nn.LayerNorm(width)
        self.second, self.dropout = nn.Linear(width, out_features), dropout

    def forward(self, x: Tensor) -> Tensor:
        x = functional.linear(x, self.first.weight, self.first.bias)
        x = functional.layer_norm(x, self.norm.normalized_shape, self.norm.weight, self.norm.bias)
        x = functional.dropout(x, self.dropout, self.training).relu()
        return functional.linear(x, self.second.weight, self.second.bias)


def pooled(
    h: Float[Tensor, "N W"],
    found: tuple[Int64[Tensor, " M"], Int64[Tensor, " M"]],
    pairs: int,
    weight: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "P W"]:
    """Sum of h over the (pair, node) entries of each pair, weighted."""
    pair, node = found
    rows = h[node] if weight is None else weight[:, None] * h[node]
    return h.new_zeros(pairs, h.shape[1]).index_add(0, pair, rows)


class GAE(nn.Module):
    """The ends of a pair alone, MLP_out(MLP_ij(h_i ⊙ h_j)): what NCN is compared with.

    Arguments:
        in_features: columns of x.
        width: of every layer.
        depth: propagation steps.
        dropout: in the encoder and the perceptrons.

    Shapes: x (N, in_features), edge_index (2, E) both directions, pairs (2, P) -> logits (P,).
    """

    def __init__(self, in_features: int, width: int = 256, depth: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"depth must be 0 or more, got {depth}.")
        self.encoder = PureGCN(in_features, width, depth, dropout)
        self.ends = Perceptron(width, width, width, dropout)
        self.out = Perceptron(width, width, 1, dropout)

    def forward(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], pairs: Int64[Tensor, "2 P"]
    ) -> Float[Tensor, " P"]:
        check_edges(edge_index, len(x))
        check_edges(pairs, len(x))
        h = self.encoder(x, edge_index)
        return self.out(self.ends(h[pairs[0]] * h[pairs[1]])).squeeze(1)


class NCN(GAE):
    """Ends and common neighbours.

    Arguments as of `GAE`. Loops and repeated edges make no neighbours. Take the links that are to be predicted out of `edge_index` while
    training (`fit_links` does): no pair of the test has its own link there either.
    """

    def __init__(self, in_features: int, width: int = 256, depth: int = 1, dropout: float = 0.0) -> None:
        super().__init__(in_features, width, depth, dropout)
        self.node = Perceptron(width, width, width, dropout)
        self.common = Perceptron(width, width, width, dropout)
        self.beta = nn.Parameter(torch.ones(()))

    def forward(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], pairs: Int64[Tensor, "2 P"]
    ) -> Float[Tensor, " P"]:
        check_edges(edge_index, len(x))
        check_edges(pairs, len(x))
        h = self.encoder(x, edge_index)
        neighbours = Neighbours(edge_index[:, edge_index[0] != edge_index[1]], len(x))
        return self.score(h, h + self.node(h), neighbours, pairs)

    def score(self, h: Tensor, nodes: Tensor, neighbours: Neighbours, pairs: Tensor) -> Float[Tensor, " P"]:
        """Logits of pairs, given what was learned of the nodes for the products and for the sums."""
        return self.join(h, pooled(nodes, neighbours.common(pairs), pairs.shape[1]), pairs)

    def join(self, h: Tensor, common: Tensor, pairs: Tensor) -> Float[Tensor, " P"]:
        """Logits from the pooled neighbours and the product of the ends."""
        joined = self.beta * self.common(common) + self.ends(h[pairs[0]] * h[pairs[1]])
        return self.out(joined).squeeze(1)


class NCNC(NCN):
    """NCN on a softly completed graph.

    Arguments as of `NCN`, and
        rounds: how often the completion asks itself; 0 is NCN.
        alpha, prior, scale, offset: p = α π q / (π q + 1 − q), q = sigmoid(scale (logit − offset)), π the prior; α = 0 is NCN.
        samples, eval_samples: neighbours of one end alone that count at most, for each end of a pair: random ones while training, those
            with the lowest numbers else.
    """

    def __init__(
        self,
        in_features: int,
        width: int = 256,
        depth: int = 1,
        dropout: float = 0.0,
        rounds: int = 1,
        alpha: float = 1.0,
        prior: float = 0.5,
        scale: float = 5.0,
        offset: float = 3.0,
        samples: int = 8,
        eval_samples: int = 128,
    ) -> None:
        super().__init__(in_features, width, depth, dropout)
        if rounds < 0 or min(samples, eval_samples) < 1:
            raise ValueError(
                f"rounds must be 0 or more and samples 1 or more, got {rounds}, {samples} and {eval_samples}."
            )
        self.rounds, self.alpha, self.prior, self.scale, self.offset = rounds, alpha, prior, scale, offset
        self.samples, self.eval_samples = samples, eval_samples

    def score(self, h: Tensor, nodes: Tensor, neighbours: Neighbours, pairs: Tensor) -> Float[Tensor, " P"]:
        return self.completed(h, nodes, neighbours, pairs, self.rounds)

    def completed(
        self, h: Tensor, nodes: Tensor, neighbours: Neighbours, pairs: Tensor, rounds: int
    ) -> Float[Tensor, " P"]:
        """Logits of pairs after so many rounds of completion."""
        count = pairs.shape[1]
        common = pooled(nodes, neighbours.common(pairs), count)
        if rounds and self.alpha:
            for found, end in zip(neighbours.only(pairs), (1, 0), strict=True):
                pair, node = self.sampled(found, pairs[end])
                with torch.no_grad():
                    missing = torch.stack([node, pairs[end][pair]])
                    logit = self.completed(h, nodes, neighbours, missing, rounds - 1)
                common = common + pooled(nodes, (pair, node), count, self.probability(logit))
        return self.join(h, common, pairs)

    def sampled(self, found: tuple[Tensor, Tensor], other: Tensor) -> tuple[Tensor, Tensor]:
        """At most so many entries of each pair, without the pair's other end."""
        pair, node = found
        keep = node != other[pair]
        pair, node = pair[keep], node[keep]
        if self.training:
            order = torch.rand(len(pair), device=pair.device).argsort()
            order = order[pair[order].argsort(stable=True)]
            pair, node = pair[order], node[order]
        counts = torch.bincount(pair, minlength=len(other))
        place = torch.arange(len(pair), device=pair.device) - (counts.cumsum(0) - counts)[pair]
        keep = place < (self.samples if self.training else self.eval_samples)
        return pair[keep], node[keep]

    def probability(self, logit: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
        """How much a link that is not there counts."""
        q = torch.sigmoid(self.scale * (logit - self.offset))
        return self.alpha * self.prior * q / (self.prior * q + 1 - q)
