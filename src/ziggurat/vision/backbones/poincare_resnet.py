"""Poincaré ResNet: a residual network whose features lie in hyperbolic space, from the first convolution to the last layer.

    block(x) = ReLU(log₀(exp₀(F(x)) ⊕ exp₀(S(x)))),  F: conv – BN – ReLU – conv – BN,  S the identity or a strided 1×1 convolution

Layers exchange tangent vectors at 0; ReLU and pooling act on them as on any feature. Three things make it trainable: weights that start
as the identity, a batch normalisation with the midpoint in closed form, and backward passes derived by hand (`nn.hyperbolic.ball`).

M. van Spengler, E. Berkhout, P. Mettes, Poincaré ResNet, 2023, arXiv:2303.14027.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.hyperbolic.ball import PoincareBall
from ziggurat.nn.hyperbolic.layers import Init, PoincareBatchNorm2d, PoincareConv2d, PoincareLinear
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Staged

Mean = Literal["midpoint", "frechet"]


class PoincareBlock(nn.Module):
    """Two 3×3 convolutions on the ball, added to the input by ⊕.

    Arguments:
        stride: of the first convolution; other than 1 the shortcut is a strided 1×1 convolution.
        ball, init, mean: of the layers.

    Shapes: tangent vectors (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, ball: PoincareBall, init: Init, mean: Mean
    ) -> None:
        super().__init__()
        self.ball = ball
        self.conv1 = PoincareConv2d(in_channels, out_channels, 3, stride, ball=ball, init=init)
        self.bn1, self.act1 = PoincareBatchNorm2d(out_channels, ball, mean), nn.ReLU()
        self.conv2 = PoincareConv2d(out_channels, out_channels, 3, ball=ball, init=init)
        self.bn2, self.out = PoincareBatchNorm2d(out_channels, ball, mean), nn.ReLU()
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = (
            PoincareConv2d(in_channels, out_channels, 1, stride, ball=ball, init=init) if changes else nn.Identity()
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        y, x = (self.ball.exp0(v.permute(0, 2, 3, 1)) for v in (y, self.shortcut(x)))
        return self.out(self.ball.log0(self.ball.add(y, x)).permute(0, 3, 1, 2))


class PoincareHead(nn.Module):
    """Mean of the tangent vectors over all places, and a linear map of the ball to as many dimensions as classes."""

    def __init__(self, channels: int, num_classes: int, ball: PoincareBall, init: Init) -> None:
        super().__init__()
        self.channels, self.ball, self.init = channels, ball, init
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier, on the device and in the type of the old one."""
        old = next(iter(getattr(self, "fc", nn.Identity()).parameters()), torch.empty(0))
        self.fc: nn.Module = nn.Identity()
        if num_classes:
            self.fc = PoincareLinear(self.channels, num_classes, self.ball, init=self.init).to(old.device, old.dtype)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Float[Tensor, "B K"]:
        x = x.flatten(2).mean(2)
        return x if pre_logits else self.fc(x)


class PoincareResNet(Staged):
    """6n + 2 layers in three stages of n blocks, for small images.

    Arguments:
        depth: 6n + 2.
        num_classes: 0 gives features.
        in_channels: of the images, whose pixels are taken as tangent vectors.
        widths: of the stages.
        c: minus the curvature.
        init: of convolutions and classifier: "identity" or "normal".
        mean: of the batch normalisations: "midpoint" or "frechet".
        ball: the space, instead of `PoincareBall(c)`.

    Shapes: (B, in_channels, H, W) -> logits (B, num_classes), the coordinates of a tangent vector; features of strides 1, 2, 4.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: Sequence[int] = (8, 16, 32),
        c: float = 0.1,
        init: Init = "identity",
        mean: Mean = "midpoint",
        ball: PoincareBall | None = None,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32 …), got {depth}.")
        ball = ball or PoincareBall(c)
        self.stem = nn.Sequential(
            PoincareConv2d(in_channels, widths[0], 3, ball=ball, init=init),
            PoincareBatchNorm2d(widths[0], ball, mean),
            nn.ReLU(),
        )
        stages, channels = [], widths[0]
        for k, out in enumerate(widths):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(PoincareBlock(channels, out, 2 if k and not i else 1, ball, init, mean))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = tuple(widths), tuple(2**k for k in range(len(widths)))
        self.num_features = channels
        self.head = PoincareHead(channels, num_classes, ball, init)

    def recipe(self, lr: float | None) -> Recipe:
        """Adam at a constant rate: all parameters are Euclidean."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-3, weight_decay=1e-4))


poincare_resnet20 = partial(PoincareResNet, 20)
poincare_resnet32 = partial(PoincareResNet, 32)
