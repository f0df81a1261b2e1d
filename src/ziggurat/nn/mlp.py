"""Perceptrons: as a network of stages, and as heads behind another network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from ziggurat.nn.staged import Classifier, Staged


class MLP(Staged):
    """Linear layers with ReLU between them, initialised for it (Kaiming); images are flattened.

    The baseline for tables, small images, and nodes without their graph.

    Arguments:
        in_features: numbers a sample.
        num_classes: 0 gives features.
        widths: of the hidden layers.
        dropout: behind each hidden layer.

    Shapes: (B, …) with in_features numbers a sample -> (B, num_classes).
    """

    input = "table"

    def __init__(
        self, in_features: int, num_classes: int, widths: Sequence[int] = (256, 256), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("an MLP needs at least one hidden width; for none use a linear probe.")
        self.stem = nn.Flatten()
        sizes = (in_features, *widths)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else []))
            for a, b in pairwise(sizes)
        )
        self.channels, self.num_features = tuple(widths), widths[-1]
        self.head = Classifier(widths[-1], num_classes, pool="none")
        for layer in self.stages.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)


class MLPHead(nn.Sequential):
    """Linear layers with normalisation and ReLU between them.

    Arguments:
        in_features: width of the input.
        widths: output width of each linear layer.
        norm: batch normalisation behind every layer but the last; a normalised layer has no bias.
        output_norm: behind the last layer: "none", "plain" (no scale and shift) or "affine".
        output_bias: a bias in the last layer where no normalisation follows it.

    Shapes: (B, in_features) -> (B, widths[-1]).
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        norm: bool = True,
        output_norm: Literal["none", "plain", "affine"] = "none",
        output_bias: bool = True,
    ) -> None:
        layers: list[nn.Module] = []
        for width in widths[:-1]:
            layers.append(nn.Linear(in_features, width, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.ReLU())
            in_features = width
        layers.append(nn.Linear(in_features, widths[-1], bias=output_bias and output_norm == "none"))
        if output_norm != "none":
            layers.append(nn.BatchNorm1d(widths[-1], affine=output_norm == "affine"))
        super().__init__(*layers)
