"""HGNN: convolution on a hypergraph, from nodes to hyperedges and back; several modalities are just more hyperedges.

    X' = σ( D_v^-1/2 H W D_e^-1 Hᵀ D_v^-1/2 X Θ + b ),   d(v) = Σ_e w_e H_ve,   d(e) = Σ_v H_ve

H (nodes, hyperedges) is the incidence, 0 or 1 or a probability, and W the diagonal of the hyperedges' weights. It takes two sparse
products; the nodes × nodes matrix is never formed.

Y. Feng, H. You, Z. Zhang, R. Ji, Y. Gao, Hypergraph Neural Networks, 2019, arXiv:1809.09401.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor, nn

from ziggurat.graphs.hypergraphs.incidence import check_incidence, count_hyperedges
from ziggurat.graphs.hypergraphs.incidence_product import IncidenceProduct
from ziggurat.graphs.propagation import degrees, power
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged

CHUNK = 1024
"""Rows of the distance matrix that `knn_hyperedges` holds at once."""


def check_hyperedge_weight(hyperedge_index: Tensor, hyperedge_weight: Tensor | None) -> None:
    """Raises a `ValueError` where hyperedges are named that have no weight."""
    if hyperedge_weight is None or hyperedge_index.is_meta or torch.compiler.is_compiling():
        return
    named = count_hyperedges(hyperedge_index)
    if named > len(hyperedge_weight):
        raise ValueError(
            f"hyperedge_index names hyperedge {named - 1}, but there are {len(hyperedge_weight)} weights; give one to each."
        )


class Smoother:
    """D_v^-1/2 H W D_e^-1 Hᵀ D_v^-1/2 of one hypergraph, made ready for many products: call it with x (N, F).

    Differentiable in features, weights and incidence; nodes in no hyperedge get zeros.

    Arguments:
        hyperedge_index: memberships (2, M).
        num_nodes: N.
        hyperedge_weight: w, ones by default; a parameter given here is learned.
        incidence_value: H at each membership, ones by default.
        dtype: of the features.
    """

    def __init__(
        self,
        hyperedge_index: Int64[Tensor, "2 M"],
        num_nodes: int,
        hyperedge_weight: Float[Tensor, " E"] | None = None,
        incidence_value: Float[Tensor, " M"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_incidence(hyperedge_index, num_nodes)
        check_hyperedge_weight(hyperedge_index, hyperedge_weight)
        (node, edge), count = hyperedge_index, count_hyperedges(hyperedge_index, hyperedge_weight)
        ones = torch.ones(max(len(node), count), dtype=dtype, device=node.device)
        value = ones[: len(node)] if incidence_value is None else incidence_value.to(dtype)
        weight = ones[:count] if hyperedge_weight is None else hyperedge_weight.to(dtype)
        self.root = power(degrees(node, weight[edge] * value, num_nodes), -0.5).unsqueeze(1)
        self.inner = (weight * power(degrees(edge, value, count), -1.0)).unsqueeze(1)
        self.incidence = IncidenceProduct(hyperedge_index, num_nodes, count, value, dtype)

    def __call__(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        return self.root * self.incidence.to_nodes(self.inner * self.incidence.to_hyperedges(self.root * x))


def smooth(
    x: Float[Tensor, "N F"],
    hyperedge_index: Int64[Tensor, "2 M"],
    hyperedge_weight: Float[Tensor, " E"] | None = None,
    incidence_value: Float[Tensor, " M"] | None = None,
) -> Float[Tensor, "N F"]:
    """One product of `Smoother`."""
    return Smoother(hyperedge_index, len(x), hyperedge_weight, incidence_value, x.dtype)(x)


def hypergraph_operator(
    hyperedge_index: Int64[Tensor, "2 M"],
    num_nodes: int,
    hyperedge_weight: Float[Tensor, " E"] | None = None,
    incidence_value: Float[Tensor, " M"] | None = None,
) -> tuple[Int64[Tensor, "2 K"], Float[Tensor, " K"]]:
    """D_v^-1/2 H W D_e^-1 Hᵀ D_v^-1/2 as the edges and weights of a graph, for `propagate` and `hop_stack`.

    Worth it where hyperedges are small and the same one is applied very often; one of k members becomes up to k² edges.
    """
    check_incidence(hyperedge_index, num_nodes)
    check_hyperedge_weight(hyperedge_index, hyperedge_weight)
    node, edge = hyperedge_index.cpu().numpy()
    count = count_hyperedges(hyperedge_index, hyperedge_weight)
    value = np.ones(len(node)) if incidence_value is None else incidence_value.detach().double().cpu().numpy()
    weight = np.ones(count) if hyperedge_weight is None else hyperedge_weight.detach().double().cpu().numpy()
    h = sparse.csr_matrix((value, (node, edge)), shape=(num_nodes, count))
    left = sparse.diags_array(_power(h @ weight, -0.5)) @ h
    product = left @ sparse.diags_array(weight * _power(np.asarray(h.sum(0)).ravel(), -1.0)) @ left.T
    coo = sparse.coo_array(product)
    index = torch.from_numpy(np.stack([coo.col, coo.row]).astype(np.int64)).to(hyperedge_index.device)
    return index, torch.from_numpy(coo.data).float().to(hyperedge_index.device)


def _power(degree: np.ndarray, exponent: float) -> np.ndarray:
    return power(torch.from_numpy(degree), exponent).numpy()


def knn_hyperedges(
    x: Float[Tensor, "N F"], k: int = 10, prob: bool = True, scale: float = 1.0
) -> tuple[Int64[Tensor, "2 M"], Float[Tensor, " M"]]:
    """One hyperedge an object, of itself and its k − 1 nearest others; with the incidence H of each membership.

    Arguments:
        k: members of a hyperedge.
        prob: H = exp(−d² / (scale · d̄)²), where d is the distance to the object and d̄ its mean distance to all; else H = 1.
        scale: m of the paper.

    For several modalities set the hyperedges of each behind the others: `join_hyperedges`.
    """
    if not 1 <= k <= len(x):
        raise ValueError(f"k must be between 1 and the {len(x)} objects, got {k}.")
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}.")
    members, values = [], []
    for start in range(0, len(x), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(x)), device=x.device)
        distance = torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")
        own = rows.unsqueeze(1)  # an object is nearest to itself, whatever copies of it there are
        nearest = distance.scatter(1, own, -1.0).topk(k, largest=False).indices
        width = scale * distance.mean(1, keepdim=True)
        ratio = distance.gather(1, nearest) / width.clamp_min(torch.finfo(x.dtype).tiny)
        members.append(nearest.flatten())
        values.append(torch.exp(-(ratio**2)).flatten())
    index = torch.stack([torch.cat(members), torch.arange(len(x), device=x.device).repeat_interleave(k)])
    value = torch.cat(values)
    return index, value if prob else torch.ones_like(value)


def join_hyperedges(parts: list[Int64[Tensor, "2 _"]]) -> Int64[Tensor, "2 M"]:
    """The hyperedges of several hypergraphs of the same nodes side by side: [H₁ H₂ …]."""
    moved, start = [], 0
    for part in parts:
        moved.append(torch.stack([part[0], part[1] + start]))
        start += count_hyperedges(part)
    return torch.cat(moved, 1)


class HGNNConv(nn.Module):
    """The operator D_v^-1/2 H W D_e^-1 Hᵀ D_v^-1/2 X Θ + b.

    Arguments:
        in_channels, out_channels: widths of X and of the result.
        bias: whether there is b; a node in no hyperedge has nothing else.

    Shapes: x (N, in_channels), hyperedge_index (2, M), hyperedge_weight (E,), incidence_value (M,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
        incidence_value: Float[Tensor, " M"] | None = None,
    ) -> Float[Tensor, "N C"]:
        y = smooth(self.linear(x), hyperedge_index, hyperedge_weight, incidence_value)
        return y if self.bias is None else y + self.bias


class Smooth(nn.Module):
    """`smooth` as a module, without parameters: the last layer, whose weights are the classifier's."""

    def forward(
        self,
        x: Tensor,
        hyperedge_index: Tensor,
        hyperedge_weight: Tensor | None = None,
        incidence_value: Tensor | None = None,
    ) -> Tensor:
        return smooth(x, hyperedge_index, hyperedge_weight, incidence_value)


class HGNN(Staged):
    """Hypergraph convolutions with ReLU and dropout between them: softmax(G ReLU(G X Θ) Θ') for two.

    The last convolution's weights are the classifier's: its smoothing comes first, which gives the same function.

    Arguments:
        in_features: width of the nodes' features.
        num_classes: 0 gives features.
        width: hidden width, 16 or 32.
        depth: convolutions.
        dropout: behind every ReLU.

    Shapes: x (N, in_features), hyperedge_index (2, M), hyperedge_weight (E,), incidence_value (M,) -> (N, num_classes).
    """

    input = "hypergraph"
    sequential = False

    def __init__(
        self, in_features: int, num_classes: int, width: int = 16, depth: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth must be 2 or more, got {depth}.")
        sizes = [in_features] + [width] * (depth - 1)
        self.stem = nn.Identity()
        self.stages = nn.ModuleList([*(HGNNConv(a, width) for a in sizes[:-1]), Smooth()])
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(depth - 1))
        self.channels, self.num_features = (width,) * depth, width
        self.head = Classifier(width, num_classes, pool="none")

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
        incidence_value: Float[Tensor, " M"] | None = None,
    ) -> list[Tensor]:
        given = (hyperedge_index, hyperedge_weight, incidence_value)
        features = []
        for layer, dropout in zip(self.stages[:-1], self.dropouts, strict=True):
            x = layer(x, *given).relu()
            features.append(x)
            x = dropout(x)
        return [*features, self.stages[-1](x, *given)]

    def forward(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
        incidence_value: Float[Tensor, " M"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, hyperedge_index, hyperedge_weight, incidence_value))

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam with weight decay (200 full-batch steps); the paper's rate is 0.001, the usual one for citation data 0.01."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))
