"""DAGNN: what makes deep graph networks fail is not propagation but the transformations tangled up in it.

A perceptron predicts from each node's own features, the predictions are propagated k steps without weights, and every node gates each
hop for itself, so that it chooses how far it sees:

    Z = MLP(X),   H_l = S^l Z,   g_l = σ(H_l s + b),   logits = Σ_{l = 0 … k} g_l H_l,   S = D^-1/2 (A + I) D^-1/2

One vector s serves all hops. The gates are sigmoids; they do not sum to 1. Propagation is as wide as there are classes, which is cheap.

M. Liu, H. Gao, S. Ji, Towards Deeper Graph Neural Networks, 2020, arXiv:2007.09296.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.decoupled.predicting import PredictThenPropagate
from ziggurat.graphs.sparse_operator import SparseOperator
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier


class AdaptiveHopGate(nn.Module):
    """Σ_l σ(H_l s + b) H_l: each row weighs its own hops, by one vector s that all hops share.

    Arguments:
        channels: C.

    Shapes: hops (N, k + 1, C) -> (N, C).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 1)

    def gates(self, hops: Float[Tensor, "N K C"]) -> Float[Tensor, "N K"]:
        """The weight of each hop of each row, between 0 and 1."""
        return self.linear(hops).squeeze(2).sigmoid()

    def forward(self, hops: Float[Tensor, "N K C"]) -> Float[Tensor, "N C"]:
        return mix(self.gates(hops), hops)


class FixedHops(nn.Module):
    """The same weights for every node, and not learned: what the gate is compared with.

    Arguments:
        weights: one a hop.

    Shapes: hops (N, k + 1, C) -> (N, C).
    """

    def __init__(self, weights: Float[Tensor, " K"]) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def gates(self, hops: Float[Tensor, "N K C"]) -> Float[Tensor, "N K"]:
        """The fixed weights, a row a node."""
        return self.weights.to(hops.dtype).expand(len(hops), -1)

    def forward(self, hops: Float[Tensor, "N K C"]) -> Float[Tensor, "N C"]:
        return mix(self.gates(hops), hops)


def mix(gates: Float[Tensor, "N K"], hops: Float[Tensor, "N K C"]) -> Float[Tensor, "N C"]:
    """Σ_l gates_l H_l, row by row."""
    return (gates.unsqueeze(2) * hops).sum(1)


def stacked_hops(z: Float[Tensor, "N C"], step: SparseOperator, hops: int) -> Float[Tensor, "N K C"]:
    """[Z, S Z, …, S^k Z], one step after the other; autograd goes through it."""
    stack = [z]
    for _ in range(hops):
        stack.append(step(stack[-1]))
    return torch.stack(stack, 1)


class HopHead(nn.Module):
    """Classifies, propagates the predictions, and mixes their hops.

    Arguments:
        in_features: width of the hidden layer.
        num_classes: 0 propagates and mixes the hidden layer itself.
        hops: k.
        combine: "gate" as in the paper; "mean" or "last" of the hops are what it is compared with.
        dropout: in front of the classifier.

    Shapes: hidden (N, in_features) -> (N, num_classes); with `pre_logits` the hidden layer's hops, mixed by the same gates.
    """

    def __init__(
        self, in_features: int, num_classes: int, hops: int, combine: Literal["gate", "mean", "last"], dropout: float
    ) -> None:
        super().__init__()
        if hops < 0:
            raise ValueError(f"hops must be 0 or more, got {hops}.")
        if combine not in ("gate", "mean", "last"):
            raise ValueError(f"combine must be 'gate', 'mean' or 'last', got {combine!r}.")
        self.hops, self.combine = hops, combine
        self.classifier = Classifier(in_features, num_classes, pool="none", dropout=dropout)
        self.gate = self.make_gate(num_classes or in_features)

    def make_gate(self, channels: int) -> AdaptiveHopGate | FixedHops:
        """A new gate for predictions of a width."""
        if self.combine == "gate":
            return AdaptiveHopGate(channels)
        last = (torch.arange(self.hops + 1) == self.hops).float()
        return FixedHops(last if self.combine == "last" else torch.full((self.hops + 1,), 1 / (self.hops + 1)))

    def reset(self, num_classes: int) -> None:
        """A new classifier, and a gate that fits it."""
        old = next(iter((*self.gate.parameters(), *self.gate.buffers())))
        self.classifier.reset(num_classes)
        self.gate = self.make_gate(num_classes or self.classifier.in_features).to(old)

    def gates(self, hidden: Float[Tensor, "N D"], step: SparseOperator) -> Float[Tensor, "N K"]:
        """How much each node takes of each hop."""
        return self.gate.gates(stacked_hops(self.classifier(hidden), step, self.hops))

    def forward(
        self, hidden: Float[Tensor, "N D"], step: SparseOperator, pre_logits: bool = False
    ) -> Float[Tensor, "N C"]:
        if pre_logits:
            return mix(self.gates(hidden, step), stacked_hops(hidden, step, self.hops))
        return self.gate(stacked_hops(self.classifier(hidden), step, self.hops))

    def extra_repr(self) -> str:
        return f"hops={self.hops}, combine={self.combine}"


class DAGNN(PredictThenPropagate):
    """Deep adaptive graph network: perceptron, k steps of propagation, a gate on every hop.

    Arguments:
        in_features: columns of X.
        num_classes: 0 gives the hidden layer, propagated and gated.
        hops: k (paper: 10 for Cora and Citeseer, 20 for PubMed). The number of parameters does not depend on it.
        widths: of the perceptron's hidden layers; () leaves one linear layer.
        dropout: on the features and in front of every layer (paper: 0.8 for Cora and PubMed, 0.5 for Citeseer).
        combine: "gate", or "mean" and "last" for comparison.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> (N, num_classes).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hops: int = 10,
        widths: Sequence[int] = (64,),
        dropout: float = 0.8,
        combine: Literal["gate", "mean", "last"] = "gate",
    ) -> None:
        sizes = (in_features, *widths)
        stages: list[nn.Module] = [
            nn.Sequential(*([nn.Dropout(dropout)] if i else []), nn.Linear(a, b), nn.ReLU())
            for i, (a, b) in enumerate(pairwise(sizes))
        ]
        stem = nn.Dropout(dropout) if widths else nn.Identity()
        super().__init__(
            stem,
            stages or [nn.Identity()],
            tuple(widths) or (in_features,),
            HopHead(sizes[-1], num_classes, hops, combine, dropout),
        )

    def gates(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N K"]:
        """How much each node takes of each hop, from 0 to k."""
        features = self.forward_features(x, edge_index, edge_weight)
        return self.head.gates(features[-1], features.step)

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-3) -> Recipe:
        """Adam at 0.01 with a strong weight decay (paper: 5e-3 for Cora and PubMed, 2e-2 for Citeseer)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))
