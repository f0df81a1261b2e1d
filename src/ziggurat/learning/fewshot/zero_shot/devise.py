"""DeViSE: a bilinear compatibility of samples and class vectors, trained so that the right class is ahead of every wrong one.

    Σ_{k ≠ y} max(0, margin − xᵀ W s_y + xᵀ W s_k),   ‖s‖ = 1

A. Frome et al., DeViSE: A Deep Visual-Semantic Embedding Model, NeurIPS 2013. Here x is a frozen feature; the paper trains the network too.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.data.seeds import generator
from ziggurat.learning.fewshot.zero_shot.base import ZeroShotClassifier, unit


def ranking_loss(scores: Float[Tensor, "B K"], target: Int64[Tensor, " B"], margin: float = 0.1) -> Float[Tensor, " B"]:
    """The hinge of every wrong class, summed."""
    hinge = (margin - scores.gather(1, target[:, None]) + scores).clamp_min(0)
    return hinge.scatter(1, target[:, None], 0.0).sum(1)


class DeViSE(ZeroShotClassifier):
    """The estimator, trained by Adam.

    Arguments:
        margin: by which the right class must be ahead.
        epochs, batch, lr: of the training.
        decay: of the weights, an L2 penalty.
        random_state: of the order of samples; W starts at zero.
    """

    def __init__(
        self,
        margin: float = 0.1,
        epochs: int = 30,
        batch: int = 128,
        lr: float = 1e-2,
        decay: float = 1e-4,
        random_state: int = 0,
    ) -> None:
        self.margin, self.epochs, self.batch, self.lr = margin, epochs, batch, lr
        self.decay, self.random_state = decay, random_state

    def _learn(self, X, index, S) -> None:  # type: ignore[no-untyped-def]
        if not self.margin > 0 or min(self.epochs, self.batch) < 1:
            raise ValueError("margin must be positive, epochs and batch 1 or more.")
        x, target, s = torch.from_numpy(X), torch.from_numpy(index), torch.from_numpy(unit(S))
        w = torch.zeros(X.shape[1], S.shape[1], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([w], lr=self.lr, weight_decay=self.decay)
        for epoch in range(self.epochs):
            order = torch.randperm(len(x), generator=generator(self.random_state, "order", epoch))
            for rows in order.split(self.batch):
                optimizer.zero_grad()
                ranking_loss(x[rows] @ w @ s.T, target[rows], self.margin).mean().backward()
                optimizer.step()
        self.weights_ = w.detach().numpy()

    def _scores(self, X, S):  # type: ignore[no-untyped-def]
        return X @ self.weights_ @ unit(np.asarray(S)).T
