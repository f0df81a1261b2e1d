"""The Poincaré embedding by descent: points of the ball move until the ratios of embedded to wanted distances are near one.

    L = Σ |(d(x_i, x_j) / (s d_ij))² − 1| over drawn pairs,   x ← P(x − η (1 − |x|²)² / 4 · ∂L/∂x)

The factor turns the gradient into the one of hyperbolic space, s is learned, and P draws points at the edge back. Only pairs whose
distance is known are drawn.

F. Sala, C. De Sa, A. Gu, C. Ré, Representation Tradeoffs for Hyperbolic Embeddings, 2018, arXiv:1804.03329; Riemannian descent as in
M. Nickel, D. Kiela, Poincaré Embeddings for Learning Hierarchical Representations, 2017, arXiv:1705.08039.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from torch import Tensor

from ziggurat.graphs.embeddings.hyperbolic.distances import ball_distances, target_distances
from ziggurat.nn.hyperbolic.autograd import SquaredDistance
from ziggurat.nn.hyperbolic.ball import PoincareBall

BALL = PoincareBall(c=1.0)


def distance_loss(
    x: Float[Tensor, "P d"], y: Float[Tensor, "P d"], wanted: Float[Tensor, " P"], log_scale: Float[Tensor, ""]
) -> Float[Tensor, " P"]:
    """|(d(x, y) / (s · wanted))² − 1| of each pair."""
    squared = SquaredDistance.apply(x, y, BALL.c).squeeze(1)
    return (squared / (log_scale.exp() * wanted) ** 2 - 1).abs()


class PoincareEmbedding(BaseEstimator):
    """The embedding as an estimator.

    Arguments:
        dim: of the ball.
        epochs: in each of which every row is paired with `partners` others on average.
        partners: random partners of a row in an epoch.
        lr: rate at the start; it falls to 0 on a line. The loss of a step is the sum over a row's partners, at the mean over rows.
        batch_size: pairs in a step.
        random_state: of the start and the pairs.

    After `fit`: `embedding_` (n, dim) float64, `scale_` is s, and `loss_` the mean loss of the last epoch's pairs.
    """

    def __init__(
        self,
        dim: int = 2,
        epochs: int = 300,
        partners: int = 25,
        lr: float = 0.1,
        batch_size: int = 1024,
        random_state: int = 0,
    ) -> None:
        self.dim, self.epochs, self.partners, self.lr = dim, epochs, partners, lr
        self.batch_size, self.random_state = batch_size, random_state

    def fit(self, graph: Any, y: Any = None) -> PoincareEmbedding:
        """Embeds the nodes of a graph by their hops, or the rows of a symmetric matrix (n, n) of distances; NaN is a missing one."""
        if min(self.dim, self.epochs, self.partners, self.batch_size) < 1 or not 0 < self.lr < np.inf:
            raise ValueError("dim, epochs, partners and batch_size must be 1 or more, lr positive and finite.")
        wanted = target_distances(graph)
        n, rng = len(wanted), np.random.default_rng(self.random_state)
        left, right = np.nonzero(np.triu(wanted > 0, 1))
        known = torch.from_numpy(wanted[left, right])
        x = torch.from_numpy(rng.uniform(-0.1, 0.1, (n, self.dim)))
        log_scale, self.loss_ = torch.zeros((), dtype=torch.float64), 0.0
        each = min(self.batch_size, max(len(left), 1))
        steps = max(n * self.partners // (2 * each), 1) if len(left) else 0
        for epoch in range(self.epochs):
            self.loss_ = 0.0
            for step in range(steps):
                rate = self.lr * (1 - (epoch + step / steps) / self.epochs)
                drawn = rng.integers(len(left), size=each)
                i, j = torch.from_numpy(left[drawn]), torch.from_numpy(right[drawn])
                x, log_scale, loss = descend(x, log_scale, i, j, known[torch.from_numpy(drawn)], rate)
                self.loss_ += loss / steps
        self.embedding_, self.scale_ = x.numpy(), float(log_scale.exp())
        return self

    def distances(self, node: int) -> Float[np.ndarray, " n"]:
        """Embedded distances of a row by s, to be compared with those wanted."""
        if not hasattr(self, "embedding_"):
            raise ValueError("this PoincareEmbedding is not fitted; call fit(graph) first.")
        return ball_distances(self.embedding_[[node]], self.embedding_)[0] / self.scale_


def descend(
    x: Float[Tensor, "n d"],
    log_scale: Float[Tensor, ""],
    i: Tensor,
    j: Tensor,
    wanted: Float[Tensor, " P"],
    rate: float,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, ""], float]:
    """Points and log s after one step on the pairs (i, j), and the mean loss before it. s moves by its gradient of the mean loss."""
    with torch.enable_grad():
        x, log_scale = x.detach().requires_grad_(), log_scale.detach().requires_grad_()
        loss = distance_loss(x[i], x[j], wanted, log_scale).mean()
        of_x, of_scale = torch.autograd.grad(loss, (x, log_scale))
    with torch.no_grad():
        metric = (1 - x.square().sum(1, keepdim=True)) ** 2 / 4
        moved = BALL.project(x - rate * len(x) / 2 * metric * of_x)
        return moved, log_scale - rate * of_scale, float(loss.detach())
