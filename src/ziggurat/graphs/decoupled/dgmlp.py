"""DGMLP: how far a graph network propagates (D_p) and how often it transforms (D_t) are two depths, to be chosen separately.

Features are propagated D_p steps once, and every node weighs its hops without learning. A hop counts as long as it is still like the
node's own features and unlike the state in which all propagation ends:

    X_k = S^k X,   w_k = softmax_k( cos(x, x_k) · (1 − cos(x_∞, x_k)) ),   input = Σ_{k = 0 … D_p} w_k x_k      (rows of one node)

A perceptron of D_t layers with identity skips follows, which never sees an edge. `depth_study` measures both depths apart.

W. Zhang, Z. Sheng, Y. Jiang, Y. Xia, J. Gao, Z. Yang, B. Cui, Evaluating Deep Graph Neural Networks, 2021, arXiv:2108.00955.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch_geometric.data import Data

from ziggurat.graphs.decoupled.stacks import DeepGCN
from ziggurat.graphs.propagation import gcn_norm, hop_stack, stationary
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged


def hop_weights(hops: Sequence[Float[Tensor, "N F"]], limit: Float[Tensor, "N F"]) -> Float[Tensor, "N K"]:
    """How much every node takes of each hop, rows summing to 1.

    Arguments:
        hops: X, S X, S² X, ….
        limit: lim S^k X.

    The cosine with a row of zeros is 0.
    """
    scores = [cosine_similarity(hops[0], hop) * (1 - cosine_similarity(limit, hop)) for hop in hops]
    return torch.stack(scores, 1).softmax(1)


def node_adaptive_combination(
    hops: Sequence[Float[Tensor, "N F"]], limit: Float[Tensor, "N F"]
) -> Float[Tensor, "N F"]:
    """Σ_k w_k X_k, where every node has `hop_weights` of its own."""
    weights = hop_weights(hops, limit)
    total = torch.zeros_like(hops[0])
    for k, hop in enumerate(hops):
        total = total + weights[:, k, None] * hop
    return total


class ResidualLayer(nn.Module):
    """Dropout, linear layer, batch normalisation, ReLU; plus the input where the widths agree."""

    def __init__(self, in_features: int, out_features: int, dropout: float) -> None:
        super().__init__()
        self.residual = in_features == out_features
        self.body = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(in_features, out_features), nn.BatchNorm1d(out_features), nn.ReLU()
        )

    def forward(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N D"]:
        return self.body(x) + x if self.residual else self.body(x)


class DGMLP(Staged):
    """Deep graph perceptron: `precompute` propagates and combines once, and the network transforms what comes out of it.

    Arguments:
        in_features: columns of X.
        num_classes: 0 gives features.
        propagations: D_p.
        transformations: D_t, the classifier included; 1 is a linear classifier.
        width: of the hidden layers.
        combine: "adaptive" as in the paper; "uniform" is the mean of the hops, "last" the last one alone.
        dropout: in front of every layer.

    Shapes: hops (N, in_features) from `precompute` -> (N, num_classes).
    """

    input = "hops"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        propagations: int = 20,
        transformations: int = 1,
        width: int = 64,
        combine: Literal["adaptive", "uniform", "last"] = "adaptive",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if propagations < 0 or transformations < 1:
            raise ValueError(
                f"propagations must be 0 or more and transformations 1 or more, got {propagations} and {transformations}."
            )
        if combine not in ("adaptive", "uniform", "last"):
            raise ValueError(f"combine must be 'adaptive', 'uniform' or 'last', got {combine!r}.")
        self.propagations, self.combine = propagations, combine
        sizes = [in_features] + [width] * (transformations - 1)
        self.stem = nn.Identity()
        layers: list[nn.Module] = [ResidualLayer(a, b, dropout) for a, b in pairwise(sizes)]
        self.stages = nn.ModuleList(layers or [nn.Identity()])
        self.channels, self.num_features = tuple(sizes[1:] or sizes), sizes[-1]
        self.head = Classifier(sizes[-1], num_classes, pool="none", dropout=dropout)

    @torch.no_grad()
    def precompute(self, data: Data) -> tuple[Float[Tensor, "N F"]]:
        """The combined hops, one row a node: pure, out of autograd, called once by the feed."""
        if data.edge_weight is not None:
            raise ValueError(
                "DGMLP's stationary state is that of a graph without edge weights; remove data.edge_weight."
            )
        edges, weights = gcn_norm(data.edge_index, None, len(data.x), dtype=data.x.dtype)
        hops = hop_stack(data.x, edges, weights, self.propagations)
        if self.combine == "adaptive":
            return (node_adaptive_combination(hops, stationary(data.x, data.edge_index)),)
        return (hops[-1] if self.combine == "last" else sum(hops[1:], hops[0]) / len(hops),)

    def recipe(self, lr: float | None = None, weight_decay: float | None = None) -> Recipe:
        """Adam: for the linear classifier the official code's 0.2 with decay 5e-3, for deeper ones the usual 0.01 with 5e-4."""
        deep = len(self.channels) > 1 or not isinstance(self.stages[0], nn.Identity)
        rate, decay = (0.01, 5e-4) if deep else (0.2, 5e-3)
        decay = decay if weight_decay is None else weight_decay
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or rate, weight_decay=decay))


@dataclass(frozen=True)
class Depths:
    """A network of the study.

    Arguments:
        propagations, transformations: D_p and D_t.
        kind: "tangled" is a stack of graph convolutions, "skips" the same with identity skips and batch normalisation, and "adaptive",
            "uniform" and "last" are decoupled, by how hops are combined.
    """

    propagations: int
    transformations: int
    kind: Literal["tangled", "skips", "adaptive", "uniform", "last"] = "tangled"

    def network(self, in_features: int, num_classes: int, width: int = 64, dropout: float = 0.5) -> DeepGCN | DGMLP:
        """A fresh network of these depths."""
        if self.kind in ("adaptive", "uniform", "last"):
            return DGMLP(in_features, num_classes, self.propagations, self.transformations, width, self.kind, dropout)
        if self.kind not in ("tangled", "skips"):
            raise ValueError(f"kind must be tangled, skips, adaptive, uniform or last, got {self.kind!r}.")
        skips = self.kind == "skips"
        return DeepGCN(in_features, num_classes, self.transformations, self.propagations, width, skips, skips, dropout)


def depth_study(
    data: Data,
    grid: Iterable[Depths],
    steps: int = 200,
    every: int = 10,
    width: int = 64,
    dropout: float = 0.5,
    seed: int = 0,
    measures: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> list[dict[str, float | int | str]]:
    """Trains a network of each depths on the graph's training nodes, and returns a row of numbers for each.

    Arguments:
        data: a graph with classes and masks.
        steps: full-batch, by the network's own recipe.
        every: steps between two looks at the validation nodes; the best of them counts.
        width, dropout: of every network.
        seed: of weights and dropout.
        measures: further numbers of the last representation at that step, for instance {"smoothness": explain.smoothness_metric}; the
            mean of what they give is taken.

    A row holds the depths, `valid` and `test` accuracy, `gradient` (the norm of the first layer's gradient, averaged over the steps), and
    the measures.
    """
    if every < 1 or steps < every:
        raise ValueError(f"every must be between 1 and steps, got {every} and {steps}.")
    with torch.random.fork_rng(devices=[]):
        return [_studied(data, depths, steps, every, width, dropout, seed, measures or {}) for depths in grid]


def _studied(
    data: Data,
    depths: Depths,
    steps: int,
    every: int,
    width: int,
    dropout: float,
    seed: int,
    measures: Mapping[str, Callable[[Tensor], Tensor]],
) -> dict[str, float | int | str]:
    """One row of the study."""
    torch.manual_seed(seed)
    network = depths.network(data.x.shape[1], int(data.y.max()) + 1, width, dropout)
    inputs = network.precompute(data) if isinstance(network, DGMLP) else (data.x, data.edge_index)
    optimizer, first = network.recipe().optimizer, next(p for p in network.parameters() if p.ndim == 2)
    best: dict[str, float] = {"valid": -1.0}
    norms = []
    for step in range(1, steps + 1):
        network.train()
        optimizer.zero_grad()
        cross_entropy(network(*inputs)[data.train_mask], data.y[data.train_mask]).backward()
        norms.append(float(first.grad.norm()))  # type: ignore[union-attr]
        optimizer.step()
        if step % every == 0:
            with torch.no_grad():
                features = network.eval().forward_features(*inputs)
                right = network.forward_head(features).argmax(1) == data.y
            valid = float(right[data.val_mask].float().mean())
            if valid > best["valid"]:
                more = {name: float(measure(features[-1]).mean()) for name, measure in measures.items()}
                best = {"valid": valid, "test": float(right[data.test_mask].float().mean()), **more}
    return {**asdict(depths), **best, "gradient": sum(norms) / len(norms)}
