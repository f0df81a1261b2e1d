"""Convolution, normalisation, activation: the unit that most networks of images are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


class ConvNormAct(nn.Sequential):
    """Convolution without bias, then normalisation, then activation; `None` leaves the last or both out.

    Parameters are named `conv` and `norm`. A convolution without normalisation has a bias.

    Arguments:
        kernel: a side, or (height, width) of a factorised convolution such as (1, 7).
        stride, dilation, groups: of the convolution.
        padding: None keeps the size at stride 1; 0 is the "valid" of other frameworks.
        norm: makes the normalisation of a width (default: batch normalisation).
        act: makes the activation (default: ReLU).

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)), with the default padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm | None = nn.BatchNorm2d,
        act: Activation | None = nn.ReLU,
        padding: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if padding is None:
            height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
            padding = ((height - 1) // 2 * dilation, (width - 1) // 2 * dilation)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=norm is None)
        if norm is not None:
            self.norm = norm(out_channels)
        if act is not None:
            self.act = act()


class ZeroPadShortcut(nn.Module):
    """Sub-sampling and channels of zeros: a shortcut without parameters (option A of residual networks).

    Shapes: (B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)); half of the new channels in front, half behind.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(f"zero padding cannot narrow {in_channels} channels to {out_channels}; project instead.")
        self.stride = stride
        front = (out_channels - in_channels) // 2
        self.pad = (0, 0, 0, 0, front, out_channels - in_channels - front)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], self.pad)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, new_channels={sum(self.pad)}"


def make_divisible(value: float, divisor: int = 8) -> int:
    """`value` rounded to the nearest multiple of `divisor`, but never below 90 percent of it (the rule of the mobile networks)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def init_relu_network(module: nn.Module) -> None:
    """Kaiming-normal convolutions by fan-out, normalisations at scale 1 and shift 0: what residual networks start from."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm) and part.weight is not None:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def fuse_conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that equals `norm(conv(x))` in evaluation: w' = w s, b' = (b − mean) s + shift, s = scale / sqrt(var + eps)."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = torch.zeros_like(scale)
    if norm.affine:
        scale, shift = scale * norm.weight, norm.bias
    fused = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    bias = conv.bias if conv.bias is not None else torch.zeros_like(norm.running_mean)
    with torch.no_grad():
        fused.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
        assert fused.bias is not None
        fused.bias.copy_((bias - norm.running_mean) * scale + shift)
    return fused
