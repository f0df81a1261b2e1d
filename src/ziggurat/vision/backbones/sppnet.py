"""SPPNet: a convolutional network that takes images of any size, since a pyramid of grids stands between its maps and its fully
connected layers.

The last map of any network of stages -> max pooling on 6×6, 3×3, 2×2 and 1×1 grids -> fully connected layers. Batches of different sizes
train one set of weights (`RandomSize`). The operators are in `ziggurat.nn.operators.spatial_pyramid_pool`.

K. He, X. Zhang, S. Ren, J. Sun, Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition, 2014, arXiv:1406.4729.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.nn.conv import Norm
from ziggurat.nn.operators.spatial_pyramid_pool import LEVELS, SpatialPyramidPool
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.vgg import VGG


class SPPHead(nn.Module):
    """Pyramid pooling, fully connected layers with ReLU and dropout, and the classifier."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        levels: Sequence[int],
        hidden: Sequence[int],
        dropout: float,
        mode: Literal["max", "window"],
    ) -> None:
        super().__init__()
        self.pool = SpatialPyramidPool(levels, mode)
        width = channels * self.pool.bins
        layers: list[nn.Module] = []
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU(), nn.Dropout(dropout)]
            nn.init.kaiming_normal_(layers[-3].weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layers[-3].bias)  # type: ignore[arg-type]
            width = out
        self.layers, self.num_features = nn.Sequential(*layers), width
        self.classifier = Classifier(width, num_classes, pool="none")

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return self.classifier(self.layers(self.pool(x)), pre_logits=pre_logits)


class SPPNet(Staged):
    """A copy of a network without its head, pyramid pooling of its last map, and fully connected layers.

    What else stands behind the stages of a sequential network (MobileNetV2's last 1×1) goes with the head.

    Arguments:
        backbone: any `Staged` network of images.
        num_classes: 0 gives features.
        levels: grids of the pyramid.
        hidden: widths of the fully connected layers; may be empty.
        dropout: behind each of them.
        mode: of the pooling; "window" is the form of fixed sizes.

    Shapes: (B, C, H, W) of any size that the backbone takes -> (B, num_classes); features are those of the backbone.
    """

    def __init__(
        self,
        backbone: Staged,
        num_classes: int = 1000,
        levels: Sequence[int] = LEVELS,
        hidden: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        mode: Literal["max", "window"] = "max",
    ) -> None:
        super().__init__()
        if backbone.strides is None:
            raise ValueError(
                f"{type(backbone).__name__} is no network of images; pyramid pooling needs a map with two sides."
            )
        self.backbone = copy.deepcopy(backbone)
        parts = [name for name, _ in backbone.named_children()]
        for name in parts if backbone.sequential else ["head"]:
            if name not in ("stem", "stages"):
                setattr(self.backbone, name, nn.Identity())
        self.channels, self.strides, self.sequential = backbone.channels, backbone.strides, backbone.sequential
        self.smallest = backbone.smallest
        self.head = SPPHead(backbone.channels[-1], num_classes, levels, hidden, dropout, mode)
        self.num_features = self.head.num_features

    @property
    def stem(self) -> nn.Module:  # type: ignore[override]
        """Of the backbone."""
        return self.backbone.stem

    @property
    def stages(self) -> nn.ModuleList:  # type: ignore[override]
        """Of the backbone."""
        return self.backbone.stages

    @property
    def checkpointing(self) -> bool:  # type: ignore[override]
        """Of the backbone."""
        return self.backbone.checkpointing

    @checkpointing.setter
    def checkpointing(self, value: bool) -> None:
        self.backbone.checkpointing = value

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        return self.backbone.forward_features(x)


class RandomSize(nn.Module):
    """Multi-size training: every batch at one of several sizes (sides of squares, or heights and widths), drawn at random.

    An augmentation of the feed: `Labelled(RandomSize((180, 224)))`. The paper alternates between two sizes, or draws any between them.

    Shapes: (B, C, H, W) -> (B, C, h, w).
    """

    def __init__(self, sizes: Sequence[int | tuple[int, int]]) -> None:
        super().__init__()
        if not sizes:
            raise ValueError("sizes must name at least one size.")
        self.sizes = tuple((s, s) if isinstance(s, int) else s for s in sizes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        size = self.sizes[int(torch.randint(len(self.sizes), ()))]
        return x if x.shape[2:] == size else interpolate(x, size, mode="bilinear", antialias=True)

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}"


def vgg_maps(
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    in_channels: int = 3,
    norm: Norm | None = None,
) -> VGG:
    """VGG's stages without the last pooling, whose place the pyramid takes; without a head."""
    trunk = VGG(depths, widths, 0, in_channels, hidden=0, norm=norm)
    last = trunk.stages[-1]
    assert isinstance(last, nn.Sequential) and trunk.strides is not None
    trunk.stages[-1] = last[:-1]
    trunk.strides = (*trunk.strides[:-1], trunk.strides[-1] // 2)
    trunk.smallest //= 2
    return trunk


def sppnet_vgg16(num_classes: int = 1000, in_channels: int = 3, levels: Sequence[int] = LEVELS) -> SPPNet:
    """VGG-16 with a pyramid in place of its last pooling."""
    return SPPNet(vgg_maps(in_channels=in_channels), num_classes, levels)
