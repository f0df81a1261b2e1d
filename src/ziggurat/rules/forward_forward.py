"""Forward-Forward: each layer learns to be active for images with the right label drawn into them, and calm for wrong ones.

    goodness g = mean(a²),   L = softplus(−(g₊ − θ)) + softplus(g₋ − θ)

The label is written over the first pixels; activations are normalised before the next layer, so that goodness cannot be
passed on. Prediction tries every label and adds up the goodness of all layers (the report leaves out the first of its four; of two
layers the first is worth keeping, by 12 points on Fashion-MNIST). The baseline of layer-local rules.

G. Hinton, The Forward-Forward Algorithm: Some Preliminary Investigations, 2022, arXiv:2212.13345.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize, one_hot, softplus

from ziggurat.data.batch import Batch
from ziggurat.nn.mlp import MLP
from ziggurat.nn.recipe import Recipe
from ziggurat.rules.local import LocalLearner


class ForwardForward(LocalLearner):
    """A perceptron trained by Forward-Forward with the label overlay.

    Arguments:
        in_features: numbers a sample, at least as many as classes.
        num_classes: written over the first numbers.
        widths: of the layers.
        threshold: θ, on the mean of squares.
        immediate: as of `LocalLearner`.
        lr: of Adam, 1e-3.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        widths: Sequence[int] = (1000, 1000),
        threshold: float = 2.0,
        immediate: bool = True,
        lr: float | None = None,
    ) -> None:
        if in_features < num_classes:
            raise ValueError(f"{num_classes} labels cannot be written over {in_features} numbers; give larger inputs.")
        super().__init__(MLP(in_features, 0, widths), lr, immediate)
        self.num_classes, self.threshold = num_classes, threshold

    def overlay(self, x: Float[Tensor, "B F"], labels: Int64[Tensor, " B"]) -> Float[Tensor, "B F"]:
        """The label as a one-hot of the largest value in the batch, over the first numbers of each sample."""
        return torch.cat([one_hot(labels, self.num_classes) * x.abs().max(), x[:, self.num_classes :]], 1)

    def goodness(self, x: Float[Tensor, "B F"]) -> Iterator[Float[Tensor, " B"]]:
        """Mean of squares of each layer's activation; the layers see normalised, detached inputs."""
        for stage in self.network.stages:
            x = stage(normalize(x.detach(), dim=1) * x.shape[1] ** 0.5)
            yield x.square().mean(1)

    def stream(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x = batch.inputs[0].flatten(1)
        shift = torch.randint(1, self.num_classes, batch.target.shape, device=x.device)
        wrong = (batch.target + shift) % self.num_classes
        both = torch.cat([self.overlay(x, batch.target), self.overlay(x, wrong)])
        for i, goodness in enumerate(self.goodness(both)):
            right, other = goodness.chunk(2)
            yield f"part{i}", softplus(self.threshold - right) + softplus(other - self.threshold)

    def predict(self, x: Tensor) -> Float[Tensor, "B K"]:
        """Goodness summed over all layers, for every label tried."""
        x = x.flatten(1)
        scores = []
        for label in range(self.num_classes):
            tried = self.overlay(x, torch.full((len(x),), label, device=x.device))
            scores.append(torch.stack(list(self.goodness(tried))).sum(0))
        return torch.stack(scores, 1)

    def represent(self, x: Tensor) -> Tensor:
        """The last layer's activation for the neutral label (all labels drawn equally)."""
        x = x.flatten(1)
        x = torch.cat([x.abs().max().expand(len(x), self.num_classes) / self.num_classes, x[:, self.num_classes :]], 1)
        for stage in self.network.stages:
            x = stage(normalize(x, dim=1) * x.shape[1] ** 0.5)
        return x

    def recipe(self) -> Recipe:
        """Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))
