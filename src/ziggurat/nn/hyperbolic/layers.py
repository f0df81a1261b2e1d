"""Layers on the Poincaré ball. They exchange tangent vectors at 0, so that networks of them are written like any other.

M. van Spengler, E. Berkhout, P. Mettes, Poincaré ResNet, 2023, arXiv:2303.14027.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import unfold

from ziggurat.nn.hyperbolic.ball import PoincareBall

Init = Literal["identity", "normal"]


def start(z: Tensor, init: Init) -> None:
    """The identity, ½ I (the map doubles its directions), or the normal weights of Hyperbolic Neural Networks++."""
    if init == "identity":
        with torch.no_grad():
            z.copy_(torch.eye(*z.shape, dtype=z.dtype, device=z.device) / 2)
    elif init == "normal":
        nn.init.normal_(z, 0, (2 * z.numel()) ** -0.5)
    else:
        raise ValueError(f"init must be 'identity' or 'normal', got {init!r}.")


class PoincareLinear(nn.Module):
    """The linear map between two balls (`hyperbolic.linear`); as the last layer its output is logits.

    Arguments:
        in_features, out_features: dimensions of the balls.
        ball: of both.
        bias: offsets r of the hyperplanes.
        init: "identity" keeps points where they are, if the layer is square; "normal" is of variance 1 / (2 n m).

    Shapes: tangent vectors (*, in_features) -> (*, out_features).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        ball: PoincareBall | None = None,
        bias: bool = True,
        init: Init = "identity",
    ) -> None:
        super().__init__()
        self.ball = ball or PoincareBall()
        self.z = nn.Parameter(torch.empty(in_features, out_features))
        self.r = nn.Parameter(torch.zeros(out_features)) if bias else None
        start(self.z, init)

    def forward(self, x: Float[Tensor, "*p n"]) -> Float[Tensor, "*p m"]:
        return self.ball.log0(self.ball.linear(self.ball.exp0(x), self.z, self.r))

    def extra_repr(self) -> str:
        return f"{self.z.shape[0]}, {self.z.shape[1]}, c={self.ball.c:g}"


class PoincareConv2d(nn.Module):
    """The linear map of every patch: its tangent vectors, scaled so that their variance does not depend on the kernel, as one point.

    The scale is B(n k² / 2, ½) / B(n / 2, ½), about 1 / k, with B the beta function and n the channels. Values of a patch are ordered
    by channel, then by place.

    Arguments:
        kernel, stride, padding: of the patches; padding None keeps the size at stride 1.
        ball, bias, init: as of `PoincareLinear`. "identity" picks the first of the n k² values: it keeps norms no better than 1 / k.

    Shapes: tangent vectors (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)), with the default padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        ball: PoincareBall | None = None,
        bias: bool = True,
        init: Init = "identity",
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.padding = (kernel - 1) // 2 if padding is None else padding
        self.ball = ball or PoincareBall()
        self.scale = beta(in_channels * kernel**2 / 2) / beta(in_channels / 2)
        self.z = nn.Parameter(torch.empty(in_channels * kernel**2, out_channels))
        self.r = nn.Parameter(torch.zeros(out_channels)) if bias else None
        start(self.z, init)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        height, width = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in x.shape[2:])
        patches = unfold(self.scale * x, self.kernel, padding=self.padding, stride=self.stride).transpose(1, 2)
        y = self.ball.log0(self.ball.linear(self.ball.exp0(patches), self.z, self.r))
        return y.transpose(1, 2).reshape(len(x), -1, height, width)

    def extra_repr(self) -> str:
        channels = self.z.shape[0] // self.kernel**2
        return f"{channels}, {self.z.shape[1]}, kernel={self.kernel}, stride={self.stride}, c={self.ball.c:g}"


def beta(a: float) -> float:
    """B(a, ½)."""
    return math.exp(math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5))


class PoincareBatchNorm2d(nn.Module):
    """Points of a batch moved and stretched until their mean and variance are learned ones.

    exp_β(√(γ / (σ² + ε)) P_{m → β} log_m(x)) with m the mean and σ² the mean squared distance to it over all samples and places; β is
    one learned vector, γ one learned number.

    Arguments:
        channels: coordinates of a point.
        ball: where they lie.
        mean: "midpoint", in closed form, or "frechet", by iteration.
        running: keep moving averages of m and σ² and use them in evaluation; otherwise the batch is used there, too (the paper's code).
        momentum: of the moving averages; m moves along geodesics.

    Shapes: tangent vectors (B, channels, H, W) -> the same.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        ball: PoincareBall | None = None,
        mean: Literal["midpoint", "frechet"] = "midpoint",
        running: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if mean not in ("midpoint", "frechet"):
            raise ValueError(f"mean must be 'midpoint' or 'frechet', got {mean!r}.")
        self.ball = ball or PoincareBall()
        self.mean, self.running, self.momentum, self.eps = mean, running, momentum, eps
        self.bias, self.scale = nn.Parameter(torch.zeros(1, channels)), nn.Parameter(torch.ones(1))
        self.register_buffer("running_mean", torch.zeros(1, channels))
        self.register_buffer("running_var", torch.ones(1))

    def statistics(self, x: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "1 C"], Float[Tensor, "1"]]:
        """m and σ²."""
        if self.running and not self.training:
            return self.running_mean, self.running_var
        mean = self.ball.midpoint(x) if self.mean == "midpoint" else self.ball.frechet_mean(x)
        variance = self.ball.variance(x, mean)
        if self.running:
            with torch.no_grad():
                step = self.momentum * self.ball.log(self.running_mean, mean)
                self.running_mean.copy_(self.ball.exp(self.running_mean, step))
                self.running_var.lerp_(variance, self.momentum)
        return mean, variance

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        batch, channels, height, width = x.shape
        points = self.ball.exp0(x.permute(0, 2, 3, 1).reshape(-1, channels))
        mean, variance = self.statistics(points)
        target = self.ball.exp0(self.bias)
        moved = self.ball.transport(mean, target, self.ball.log(mean, points))
        points = self.ball.exp(target, (self.scale / (variance + self.eps)).sqrt() * moved)
        return self.ball.log0(points).view(batch, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{self.bias.shape[1]}, mean={self.mean}, c={self.ball.c:g}"
