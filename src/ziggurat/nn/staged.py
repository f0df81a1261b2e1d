"""A network as a flight of stages, each of which returns a representation: the contract of every network that has stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Staged(nn.Module):
    """A network whose stages can be taken one by one: `stem`, `stages`, `head`.

    A subclass sets the attributes below in its constructor. The methods here serve the sequential network of one tensor;
    networks with other inputs override `forward_features` and `forward` with the fixed, named inputs of their kind:
    image and video `(x)`, pair `(left, right)`, clicks `(x, clicks, previous=None)`, graph
    `(x, edge_index, edge_weight=None, batch=None)`, hops `(hops)`, points `(points, features=None)`, sequence
    `(tokens, mask=None)`, set `(x, mask=None)`, table `(x)`, graphs (several) as graph, hypergraph
    `(x, hyperedge_index, hyperedge_weight=None)`, hetero / complex `(data)`.

    Attributes:
        input: the kind of input, one of the names above.
        stem: input -> first representation.
        stages: one module per pyramid level or graph layer, each a `Sequential` of blocks wherever the paper allows.
        head: last representation -> prediction; takes `pre_logits` and has `reset(num_classes)`.
        channels: width of each stage's representation; networks of images also set `strides`, relative to the input.
        num_features: width of the vector before the classifier.
        sequential: stem, stage 1, stage 2 … called in order equal `forward_features` (checked by `check_staged`).
        smallest: side of the smallest image that the network takes.
        checkpointing: set it to True to keep only what lies between the stages while training, and to compute the rest again for the
            backward pass: less memory for a third more time. (Batch normalisation then sees each batch twice.)
    """

    input: ClassVar[str] = "image"
    stem: nn.Module
    stages: nn.ModuleList
    head: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    num_features: int
    sequential: bool = True
    smallest: int = 1
    checkpointing: bool = False

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The representation after each stage, first to last."""
        self.check_size(x)
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = self.run(stage, x)
            features.append(x)
        return features

    def run(self, part: nn.Module, *inputs: Any) -> Any:
        """Calls a stage, with `checkpointing` so that nothing inside it is kept for the backward pass."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def check_size(self, x: Tensor) -> None:
        """A `ValueError` for images that are smaller than the network takes."""
        if self.smallest > 1 and min(x.shape[-2:]) < self.smallest:
            height, width = x.shape[-2:]
            raise ValueError(
                f"{type(self).__name__} takes images of {self.smallest} pixels or more, got {height}×{width}; enlarge them, or "
                "build a variant for small images."
            )

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        """Logits (B, K), or with `pre_logits` the vector (B, num_features) before the classifier."""
        return self.head(features[-1], pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, num_classes: int) -> None:
        """A new classifier for `num_classes` classes; with 0 the network returns the vector before it."""
        self.head.reset(num_classes)  # type: ignore[operator]

    def extra_repr(self) -> str:
        levels = f"channels={self.channels}"
        return levels if self.strides is None else f"{levels}, strides={self.strides}"


def walk(network: nn.Module, by: Literal["stage", "block"] = "stage") -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of the parts of a sequential `Staged` network, in the order in which its input passes them.

    Arguments:
        by: "stage" gives the stem and each stage; "block" gives the stem and each block of each stage.

    The head is not a part. Raises a `ValueError` for a network whose parts cannot simply be called one after the other.
    """
    if not getattr(network, "sequential", False):
        raise ValueError(
            f"{type(network).__name__} is not a sequential Staged network, so its stages cannot be called one after the "
            "other; take one whose `sequential` is True (`ziggurat list --has sequential`)."
        )
    if by not in ("stage", "block"):
        raise ValueError(f"by must be 'stage' or 'block', got {by!r}.")
    assert isinstance(network.stages, nn.ModuleList)
    yield "stem", network.stem  # type: ignore[misc]
    for i, stage in enumerate(network.stages):
        if by == "block" and isinstance(stage, nn.Sequential):
            for j, block in enumerate(stage):
                yield f"stages.{i}.{j}", block
        else:
            yield f"stages.{i}", stage


class Classifier(nn.Module):
    """Global average pooling (where there is a plane to pool), dropout and a linear layer: the head of most networks.

    Arguments:
        in_features: width of the representation.
        num_classes: 0 leaves out the linear layer.
        pool: "avg" averages over all axes after the second; "none" takes a vector (or one per node) as it is.
        dropout: probability in front of the linear layer.

    Shapes: (B, C, *) -> (B, num_classes), with `pre_logits` (B, C).
    """

    def __init__(
        self, in_features: int, num_classes: int, pool: Literal["avg", "none"] = "avg", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if pool not in ("avg", "none"):
            raise ValueError(f"pool must be 'avg' or 'none', got {pool!r}.")
        self.in_features, self.pool = in_features, pool
        self.dropout = nn.Dropout(dropout)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new linear layer, on the device and in the type of the old one."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (features) or more, got {num_classes}.")
        old = next(iter(getattr(self, "fc", nn.Identity()).parameters()), torch.empty(0))
        self.fc = (
            nn.Linear(self.in_features, num_classes, device=old.device, dtype=old.dtype)
            if num_classes
            else nn.Identity()
        )

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self.pool == "avg" and x.ndim > 2:
            x = x.flatten(2).mean(2)
        x = self.dropout(x)
        return x if pre_logits else self.fc(x)
