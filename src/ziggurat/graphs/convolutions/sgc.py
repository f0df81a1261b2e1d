"""Simplified graph convolution: without nonlinearities, K graph convolutions are one linear model on K-hop smoothed features.

    Y = softmax(S^K X Θ),   S = D^-1/2 (A + I) D^-1/2

The self-loops shrink the spectrum of the Laplacian, so that S^K is a low-pass filter for every K. The smoothing has no
parameters: it is done once, and what remains is multinomial logistic regression.

F. Wu, T. Zhang, A. de Souza, C. Fifty, T. Yu, K. Weinberger, Simplifying Graph Convolutional Networks, 2019, arXiv:1902.07153.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn
from torch_geometric.data import Data

from ziggurat.graphs.propagation import gcn_norm, hop_stack, propagate
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged


class SGConv(nn.Module):
    """The operator S^K X Θ + b, differentiable in everything.

    Arguments:
        in_channels, out_channels: widths of X and of the result.
        hops: K.

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, hops: int = 2) -> None:
        super().__init__()
        if hops < 0:
            raise ValueError(f"hops must be 0 or more, got {hops}.")
        self.hops = hops
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        edge_index, weight = gcn_norm(edge_index, edge_weight, len(x), dtype=x.dtype)
        narrows = self.linear.out_features < self.linear.in_features
        if narrows:  # S^K (X Θ) = (S^K X) Θ, and the narrower side is cheaper to propagate
            x = nn.functional.linear(x, self.linear.weight)
        for _ in range(self.hops):
            x = propagate(x, edge_index, weight)
        return x + self.linear.bias if narrows else self.linear(x)

    def extra_repr(self) -> str:
        return f"hops={self.hops}"


class SGC(Staged):
    """The same model decoupled: `precompute` smooths the features once, and the network is the linear layer on top.

    Arguments:
        in_features: columns of X.
        num_classes: 0 gives the smoothed features.
        hops: K.
        self_loops: weight γ of the added loops; 0 is the ablation without them.

    Shapes: hops (N, in_features) from `precompute` -> (N, num_classes).
    """

    input = "hops"

    def __init__(self, in_features: int, num_classes: int, hops: int = 2, self_loops: float = 1.0) -> None:
        super().__init__()
        if hops < 0:
            raise ValueError(f"hops must be 0 or more, got {hops}.")
        self.hops, self.self_loops = hops, self_loops
        self.stem = nn.Identity()
        self.stages = nn.ModuleList([nn.Identity()])
        self.channels, self.num_features = (in_features,), in_features
        self.head = Classifier(in_features, num_classes, pool="none")

    def precompute(self, data: Data) -> tuple[Float[Tensor, "N F"]]:
        """(S^K X,): pure, out of autograd, called once by the feed."""
        edges, weights = gcn_norm(data.edge_index, data.edge_weight, len(data.x), self.self_loops, dtype=data.x.dtype)
        return (hop_stack(data.x, edges, weights, self.hops)[-1],)

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-5) -> Recipe:
        """Adam at the high rate that a convex problem takes (paper: 0.2, 100 full-batch steps)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.2, weight_decay=weight_decay))


class SGCClassifier(ClassifierMixin, BaseEstimator):
    """SGC as an estimator of nodes: `fit(data).predict(data)` with full-batch Adam.

    Arguments:
        hops: K.
        epochs: full-batch steps.
        lr, weight_decay: of Adam; the weight decay wants tuning on validation nodes, on a logarithmic scale.
        random_state: seed of the first weights.

    `fit` uses the nodes of `data.train_mask`, or all where there is none.
    """

    def __init__(
        self, hops: int = 2, epochs: int = 100, lr: float = 0.2, weight_decay: float = 5e-5, random_state: int = 0
    ) -> None:
        self.hops, self.epochs, self.lr, self.weight_decay = hops, epochs, lr, weight_decay
        self.random_state = random_state

    def fit(self, data: Data) -> SGCClassifier:
        """Smooth once, then train the linear model."""
        nodes = data.train_mask.nonzero().flatten() if "train_mask" in data else torch.arange(len(data.x))
        self.classes_, target = torch.unique(data.y[nodes], return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.network_ = SGC(data.x.shape[1], len(self.classes_), self.hops)
        smooth = self.network_.precompute(data)[0][nodes]
        optimizer = self.network_.recipe(self.lr, self.weight_decay).optimizer
        for _ in range(self.epochs):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.network_(smooth), target).backward()
            optimizer.step()
        return self

    @torch.no_grad()
    def predict_proba(self, data: Data) -> np.ndarray:
        """Probabilities (N, K) of all nodes, columns in the order of `classes_`."""
        if not hasattr(self, "network_"):
            raise ValueError("this SGCClassifier is not fitted; call fit(data) first.")
        return self.network_(*self.network_.precompute(data)).softmax(1).numpy()

    def predict(self, data: Data) -> np.ndarray:
        """Classes (N,) of all nodes."""
        best = self.predict_proba(data).argmax(1)
        return self.classes_.numpy()[best]
