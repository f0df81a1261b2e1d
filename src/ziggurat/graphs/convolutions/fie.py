"""FIE: a node's neighbours are a sample, embedded as one EM step of a Gaussian mixture away from anchor means that all nodes share.

    a_uj = softmax_j((w_j · x_u/‖x_u‖ + b_j) / ε)                  posterior of neighbour u
    m_vj = Σ_u ā_uj x_u,   ā = exp(a) or a, over its sum by u      the means after the step
    out_v = (m_v1 − w_1, …, m_vp − w_p)

The differences are tangent vectors on the manifold of mixtures, so that distances of embeddings approximate its Fisher geometry. Between
two of these layers a `KernelLayer` brings the width back. All anchors are directions: they can be found by k-means on the sphere, without
labels, or be trained.

D. Chen, P. Pellizzoni, K. Borgwardt, Fisher Information Embedding for Node and Graph Learning, 2023, arXiv:2305.07580.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch_geometric.data import Data
from torch_geometric.nn import global_mean_pool

from ziggurat.graphs.propagation import add_loops
from ziggurat.graphs.sparse_operator import sparse_operator
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.operators.kernel_layer import KernelLayer
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class FIEConv(nn.Module):
    """The layer: differences of posterior-weighted means and anchors.

    Arguments:
        in_channels: F.
        mixtures: p.
        heads: h, independent mixtures beside each other.
        weights: over the neighbours, "softmax" of the posteriors, or "sum", their share, which is the M-step.
        temperature: ε; None is F.

    Self-loops are added. The weight of an edge is how often its source counts.
    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, h · p · F).
    """

    def __init__(
        self,
        in_channels: int,
        mixtures: int = 4,
        heads: int = 1,
        weights: Literal["softmax", "sum"] = "softmax",
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        if weights not in ("softmax", "sum"):
            raise ValueError(f"weights must be 'softmax' or 'sum', got {weights!r}.")
        if mixtures < 1 or heads < 1:
            raise ValueError(f"mixtures and heads must be 1 or more, got {mixtures} and {heads}.")
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.mixtures, self.heads, self.weights = mixtures, heads, weights
        self.temperature = float(in_channels) if temperature is None else temperature
        self.out_channels = heads * mixtures * in_channels
        self.anchors = nn.Parameter(torch.empty(heads, mixtures, in_channels))
        # With one mixture the posterior is 1 whatever the bias.
        self.bias = nn.Parameter(torch.empty(heads, mixtures)) if mixtures > 1 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Directions drawn uniformly from the sphere, and no bias."""
        nn.init.normal_(self.anchors, std=self.anchors.shape[-1] ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def posterior(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N h p"]:
        """a_uj of every node."""
        scores = torch.einsum("nf,hpf->nhp", normalize(x, dim=1), normalize(self.anchors, dim=-1))
        scores = scores if self.bias is None else scores + self.bias
        return (scores / self.temperature).softmax(-1)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N D"]:
        step = sparse_operator(*add_loops(edge_index, edge_weight, len(x), dtype=x.dtype), len(x))
        share = self.posterior(x)
        share = (share if self.weights == "sum" else share.exp()).flatten(1)
        # Numerators and denominators of all means travel together.
        summed = step(torch.cat([(share[:, :, None] * x[:, None]).flatten(1), share], 1))
        total, count = summed.split([self.out_channels, share.shape[1]], 1)
        count = count.clamp_min(torch.finfo(x.dtype).tiny)
        means = total.unflatten(1, (share.shape[1], -1)) / count[:, :, None]
        return (means - normalize(self.anchors, dim=-1).flatten(0, 1)).flatten(1)

    def extra_repr(self) -> str:
        return f"{self.anchors.shape[-1]}, mixtures={self.mixtures}, heads={self.heads}, weights={self.weights!r}"


class UnitRows(nn.Module):
    """Rows of length 1."""

    def forward(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        return normalize(x, dim=1)


class FIEStage(nn.Module):
    """A `FIEConv` and the `KernelLayer` behind it; the first stage of a network has the latter only.

    Shapes: as of `FIEConv` -> (N, S).
    """

    def __init__(self, conv: FIEConv, kernel: KernelLayer) -> None:
        super().__init__()
        self.conv, self.kernel = conv, kernel

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.kernel(self.conv(x, edge_index, edge_weight))


class FIENet(StagedGraph):
    """The network for training with labels: all levels side by side go to a linear classifier.

    Arguments:
        in_features: columns of x.
        num_classes: 0 gives the levels side by side.
        depth: L, layers that see the edges.
        width: S.
        mixtures, heads, weights, temperature: of `FIEConv`.
        sigma: of the kernels.
        dropout: in front of the classifier.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (N,) naming each node's graph, the mean
    over each graph's nodes goes to the classifier: (graphs, num_classes).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        depth: int = 3,
        width: int = 64,
        mixtures: int = 4,
        heads: int = 1,
        weights: Literal["softmax", "sum"] = "softmax",
        temperature: float | None = None,
        sigma: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        self.stem = UnitRows()
        convs = [FIEConv(width, mixtures, heads, weights, temperature) for _ in range(depth)]
        stages = [FIEStage(conv, KernelLayer(conv.out_channels, width, sigma)) for conv in convs]
        self.stages = nn.ModuleList([KernelLayer(in_features, width, sigma), *stages])
        self.channels, self.num_features = (width,) * (depth + 1), width * (depth + 1)
        self.head = Classifier(self.num_features, num_classes, pool="none", dropout=dropout)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        first, *stages = self.stages
        features = [first(self.stem(x))]
        for stage in stages:
            features.append(self.run(stage, features[-1], edge_index, edge_weight))
        return features

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(torch.cat(features, 1), pre_logits=pre_logits)

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam at 0.01 (200 full-batch steps); the decay is for the classifier, since anchors are directions."""
        classifier = list(self.head.parameters())
        groups = [
            {"params": self.stages.parameters()},
            *([{"params": classifier, "weight_decay": weight_decay}] if classifier else []),
        ]
        return Recipe(torch.optim.Adam(groups, lr=lr or 0.01))


class FisherEmbedding(BaseEstimator):
    """The embedding without labels, fitted layer by layer: all anchors are centres of k-means on the sphere.

    Arguments:
        depth: L.
        width: S, anchors of each kernel.
        mixtures, weights, temperature: of `FIEConv`.
        sigma: of the kernels.
        samples: rows that k-means sees at most.
        random_state: of the samples and of k-means.

    After `fit`: `embedding_` (N, L · S + p · S) float32, the levels side by side. A graph with `batch` gets a row for each of its graphs,
    the mean of that graph's nodes.
    """

    def __init__(
        self,
        depth: int = 3,
        width: int = 64,
        mixtures: int = 4,
        weights: Literal["softmax", "sum"] = "softmax",
        temperature: float | None = None,
        sigma: float = 1.0,
        samples: int = 20_000,
        random_state: int = 0,
    ) -> None:
        self.depth, self.width, self.mixtures, self.weights = depth, width, mixtures, weights
        self.temperature, self.sigma, self.samples, self.random_state = temperature, sigma, samples, random_state

    @torch.no_grad()
    def fit(self, data: Data, y: None = None) -> FisherEmbedding:
        """Finds the anchors of one layer after the other in what the layers before give."""
        if self.depth < 1:
            raise ValueError(f"depth must be 1 or more, got {self.depth}.")
        if not torch.isfinite(data.x).all():
            raise ValueError("some features are not finite; repair or drop them.")
        edge_weight = getattr(data, "edge_weight", None)
        edges, edge_counts = add_loops(data.edge_index, edge_weight, len(data.x))
        counts = torch.zeros(len(data.x)).index_add(0, edges[0], edge_counts)  # how often each node is a neighbour
        x, levels = self._kernel(normalize(data.x.float(), dim=1)), []
        for level in range(self.depth):
            levels.append(x)
            conv = FIEConv(self.width, self.mixtures, 1, self.weights, self.temperature)
            conv.anchors.copy_(self._centres(x, self.mixtures, counts)[None])
            x = conv(x, data.edge_index, edge_weight)
            x = self._kernel(x) if level + 1 < self.depth else x
        found = torch.cat([*levels, x], 1)
        batch = getattr(data, "batch", None)
        self.embedding_ = (found if batch is None else global_mean_pool(found, batch)).numpy()
        return self

    def _kernel(self, x: Tensor) -> Tensor:
        """x behind a kernel layer whose anchors are its own centres."""
        layer = KernelLayer(x.shape[1], self.width, self.sigma)
        layer.anchors.copy_(self._centres(x, self.width, torch.ones(len(x))))
        return layer(x)

    def _centres(self, x: Tensor, count: int, weights: Tensor) -> Tensor:
        """Directions of the centres of k-means on the rows' directions; rows of zeros have none and are left out."""
        rng = np.random.default_rng(self.random_state)
        rows = np.flatnonzero(((x.norm(dim=1) > 0) & (weights > 0)).numpy())
        rows = np.sort(rng.permutation(rows)[: self.samples])
        if len(rows) < count:
            raise ValueError(f"{count} anchors need as many nodes with features, got {len(rows)}; ask for fewer.")
        means = KMeans(count, n_init=1, random_state=self.random_state)
        with warnings.catch_warnings():  # fewer distinct rows than centres: some coincide, which the ridge allows for
            warnings.simplefilter("ignore")
            means.fit(normalize(x[rows], dim=1).numpy(), sample_weight=weights[rows].numpy())
        return normalize(torch.from_numpy(means.cluster_centers_).to(x.dtype), dim=1)
