"""Mono-Forward: every layer learns from its own projected cross-entropy; no error is propagated back through the network.

    a_l = ReLU(W_l stopgrad(a_{l−1}) + b_l),   G_l = a_l M_lᵀ,   L_l = cross-entropy(softmax(G_l), y)

Each layer owns a projection M_l (classes × units, no bias); its loss trains W_l, b_l and M_l only. There is no output layer:
prediction is the largest sum of all goodness G_l, or the last layer's.

J. Gong, B. Li, W. Abdulla, Mono-Forward: Backpropagation-Free Algorithm for Efficient Neural Network Training Harnessing
Local Errors, 2025, arXiv:2501.09238.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ziggurat.data.batch import Batch
from ziggurat.nn.recipe import Recipe
from ziggurat.rules.local import LocalLearner, part_shapes, trainable_parts


class MonoForwardBlock(nn.Module):
    """A part of a network and its projection M.

    Arguments:
        part: any module.
        features: numbers a sample behind it.
        num_classes: rows of M.

    Shapes: (B, …) -> activation of the part (B, …), goodness (B, num_classes).
    """

    def __init__(self, part: nn.Module, features: int, num_classes: int) -> None:
        super().__init__()
        self.part = part
        self.projection = nn.Linear(features, num_classes, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Float[Tensor, "B K"]]:
        a = self.part(x)
        return a, self.projection(a.flatten(1))


class MonoForward(LocalLearner):
    """Trains a sequential network part by part, each on its own goodness.

    Arguments:
        network: a sequential `Staged` network; its own classifier is removed.
        num_classes: of the projections.
        input_shape: of one sample, for the sizes of the projections.
        by: a loss for each "stage" or each "block".
        mode: prediction by the "sum" of all goodness, or the "last".
        immediate: update each part before the next one starts (saves memory), or all at once (the same gradients).
        lr: of Adam, 1e-3.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        input_shape: Sequence[int],
        by: Literal["stage", "block"] = "stage",
        mode: Literal["sum", "last"] = "sum",
        immediate: bool = True,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr, immediate)
        if mode not in ("sum", "last"):
            raise ValueError(f"mode must be 'sum' or 'last', got {mode!r}.")
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, got {num_classes}.")
        parts = trainable_parts(network, by)
        network.reset_classifier(0)
        shapes = part_shapes(parts, tuple(input_shape))
        self.blocks = nn.ModuleList(
            MonoForwardBlock(part, math.prod(shape), num_classes) for part, shape in zip(parts, shapes, strict=True)
        )
        self.mode = mode

    def goodness(self, x: Tensor) -> Iterator[Float[Tensor, "B K"]]:
        """G_l of each part, the input of every part detached."""
        for block in self.blocks:
            x, goodness = block(x.detach())
            yield goodness

    def stream(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        for i, goodness in enumerate(self.goodness(*batch.inputs)):
            yield f"part{i}", cross_entropy(goodness, batch.target, reduction="none")

    def predict(self, x: Tensor) -> Float[Tensor, "B K"]:
        goodness = list(self.goodness(x))
        return torch.stack(goodness).sum(0) if self.mode == "sum" else goodness[-1]

    def recipe(self) -> Recipe:
        """Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.blocks.parameters(), lr=self.lr or 1e-3))
