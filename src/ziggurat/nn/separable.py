"""Convolutions in two steps: a filter for each channel, then a mixture of channels at each place.

    y[n] = Σ_m p[n, m] (d[m] ∗ x[m])

The pair costs 1 / N + 1 / k² of a full k × k convolution with N outputs.
"""

from __future__ import annotations

from torch import nn

from ziggurat.nn.conv import Activation, ConvNormAct, Norm


class SeparableConv2d(nn.Sequential):
    """Depthwise, then pointwise convolution, linear together: no normalisation and no activation stands between them.

    Parameters are named `depthwise` and `pointwise`; neither has a bias.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel, stride, padding, dilation, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)


class DepthwiseSeparable(nn.Sequential):
    """Depthwise convolution, normalisation, activation; then the same with a pointwise one: the block of the first MobileNet.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        kernel: int = 3,
        norm: Norm | None = nn.BatchNorm2d,
        act: Activation | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(in_channels, in_channels, kernel, stride, groups=in_channels, norm=norm, act=act)
        self.pointwise = ConvNormAct(in_channels, out_channels, 1, norm=norm, act=act)
