"""OverLoCK: an overview first, a close look next; what the overview saw guides convolutions whose kernels are made for every place.

Base-Net: three stages of convolutional blocks. Overview-Net: a fourth, whose map becomes a context. Focus-Net: guided blocks (ContMix) at
strides 16 and 32, which refine the base's map and the context together. The overview also feeds a second classifier while training.

M. Lou, Y. Yu, OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing Dynamic Kernels, 2025, arXiv:2502.20087.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import ConvNormAct
from ziggurat.nn.dropping import drop_path_rates
from ziggurat.nn.operators.dilated_reparam import reparameterized
from ziggurat.nn.staged import Classifier, Staged
from ziggurat.vision.backbones.overlock_blocks import FocusBlock, GuidedDownsample, Overview, RepConvBlock

KERNELS = (17, 15, 13, 7)


class Levels(list[Tensor]):
    """The four levels, and the map of the overview, which the second classifier sees."""

    overview: Tensor


class OverlockHead(nn.Module):
    """1×1 – BN – SiLU, global average, linear layer."""

    def __init__(self, channels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.project = ConvNormAct(channels, hidden, 1, act=nn.SiLU)
        self.classifier = Classifier(hidden, num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.classifier.reset(num_classes)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return self.classifier(self.project(x), pre_logits=pre_logits)


class AuxiliaryHead(nn.Module):
    """BN, global average, linear layer: the classifier on the overview."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.classifier = nn.BatchNorm2d(channels), Classifier(channels, num_classes)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Tensor:
        return self.classifier(self.norm(x))


class OverLoCK(Staged):
    """The whole network. Its third stage holds the base's third, the overview and the first guided blocks; its fourth the others.

    Arguments:
        depths: blocks of the base's three stages and of the overview.
        focus: guided blocks at strides 16 and 32.
        dims: widths C₁ … C₄; the context has C₄ / 4.
        heads: of the guided blocks at the two strides; each must divide a quarter of the width there.
        num_classes: 0 gives features.
        in_channels: of the images.
        kernels: large kernels of the four strides.
        stem_stride: 4, or 2 for small images (all strides are then halved).
        hidden: width of the vector before the classifier.
        drop_path: of the last block; it grows linearly from 0.
        auxiliary: adds the classifier on the overview; `auxiliary(features)` are its logits.
        merged: builds the large kernels in their merged form, for weights that are merged already.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 4, 8, 16, 32 and widths C₁, C₂, C₃ + C₄/4, C₄ + C₄/4.
    """

    def __init__(
        self,
        depths: Sequence[int],
        focus: Sequence[int],
        dims: Sequence[int],
        heads: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        kernels: Sequence[int] = KERNELS,
        stem_stride: Literal[2, 4] = 4,
        hidden: int = 1024,
        drop_path: float = 0.0,
        auxiliary: bool = False,
        merged: bool = False,
    ) -> None:
        super().__init__()
        if not len(depths) == len(dims) == len(kernels) == 4 or not len(focus) == len(heads) == 2:
            raise ValueError(
                "OverLoCK has four depths, dims and kernels, and two numbers of guided blocks and of heads."
            )
        if stem_stride not in (2, 4):
            raise ValueError(f"stem_stride must be 2 or 4, got {stem_stride}.")
        context = dims[3] // 4
        rates = iter(drop_path_rates(drop_path, sum(depths) + sum(focus)))
        base = [
            [
                RepConvBlock(dims[i], kernels[i], scaled=i > 1, drop_path=next(rates), merged=merged)
                for _ in range(depths[i])
            ]
            for i in range(4)
        ]
        guided = [
            [
                FocusBlock(
                    dims[i], context, kernels[i], heads[i - 2], i == 2 and not j, drop_path=next(rates), merged=merged
                )
                for j in range(focus[i - 2])
            ]
            for i in (2, 3)
        ]
        half, first = dims[0] // 2, dims[0]
        self.stem = nn.Sequential(
            ConvNormAct(in_channels, half, 3, 2, act=nn.GELU),
            ConvNormAct(half, half, 3, act=nn.GELU),
            ConvNormAct(half, first, 3, stem_stride // 2, act=nn.GELU),
            ConvNormAct(first, first, 3, act=None),
        )
        downs = [ConvNormAct(dims[i], dims[i + 1], 3, 2, act=None) for i in range(2)]
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*base[0]),
                nn.Sequential(downs[0], *base[1]),
                nn.Sequential(downs[1], *base[2], Overview(dims[2], dims[3], context, base[3]), *guided[0]),
                nn.Sequential(GuidedDownsample(dims[2], dims[3], context), *guided[1]),
            ]
        )
        self.channels = (dims[0], dims[1], dims[2] + context, dims[3] + context)
        self.strides = tuple(stem_stride * 2**i for i in range(4))
        self.num_features = hidden
        self.head = OverlockHead(self.channels[3], hidden, num_classes)
        self.auxiliary_weight = 0.4 if auxiliary else 0.0
        self.auxiliary_head = AuxiliaryHead(dims[3], num_classes) if auxiliary else None
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> Levels:
        """The four levels; map and context of the last two side by side."""
        handed, levels = self.stem(x), Levels()
        for stage in self.stages:
            handed = self.run(stage, handed)
            levels.append(getattr(handed, "x", handed))
        levels.overview = handed.overview
        return levels

    def auxiliary(self, features: Levels) -> Float[Tensor, "B K"]:
        """Logits of the classifier on the overview."""
        if self.auxiliary_head is None:
            raise ValueError("this network has no auxiliary head; build it with auxiliary=True.")
        return self.auxiliary_head(features.overview)

    def reset_classifier(self, num_classes: int) -> None:
        super().reset_classifier(num_classes)
        if self.auxiliary_head is not None:
            self.auxiliary_head.classifier.reset(num_classes)

    def reparameterize(self) -> OverLoCK:
        """A copy in evaluation mode whose large kernels are merged; it gives the same output."""
        return reparameterized(self)


overlock_xt = partial(OverLoCK, (2, 2, 3, 2), (6, 2), (56, 112, 256, 336), (4, 6))
overlock_t = partial(OverLoCK, (4, 4, 6, 2), (12, 2), (64, 128, 256, 512), (4, 8))
overlock_s = partial(OverLoCK, (6, 6, 8, 3), (16, 3), (64, 128, 320, 512), (8, 16))
overlock_b = partial(OverLoCK, (8, 8, 10, 4), (20, 4), (80, 160, 384, 576), (6, 9))
