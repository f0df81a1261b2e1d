"""Convolutions whose kernel differs from place to place, and ContMix, which makes such kernels from affinities to a coarse context.

    y[p] = Σ_t k[p, t] x[neighbour t of p]

At the border a neighbourhood is not padded but moved inside, so that every place has K × K true neighbours.
M. Lou, Y. Yu, OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing Dynamic Kernels, 2025, arXiv:2502.20087.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate


def window_starts(length: int, kernel: int, device: torch.device | None = None) -> Int64[Tensor, " length"]:
    """First index of the neighbourhood of each place of an axis: centred, but moved inside at both ends."""
    if kernel > length:
        raise ValueError(
            f"an axis of {length} places has no neighbourhoods of {kernel}; enlarge the map or take a smaller kernel."
        )
    return (torch.arange(length, device=device) - kernel // 2).clamp(0, length - kernel)


def dynamic_conv2d(
    x: Float[Tensor, "B C H W"], kernels: Float[Tensor, "B G H W taps"], kernel: int
) -> Float[Tensor, "B C H W"]:
    """Each place's neighbours weighted by its own kernel, taps row by row; consecutive channels share one of G kernels.

    The rows of a neighbourhood are gathered. Along a row the taps are laid out at their columns, with zeros between, so that all places of
    a row are one matrix product: less memory than gathering kernel² neighbours for every channel, and much faster.
    """
    groups, (height, width) = kernels.shape[1], x.shape[2:]
    reach = torch.arange(kernel, device=x.device)
    rows, columns = (window_starts(n, kernel, x.device)[:, None] + reach for n in (height, width))
    bands = x.index_select(2, rows.flatten()).unflatten(2, (height, kernel)).unflatten(1, (groups, -1))
    taps = kernels.unflatten(4, (kernel, kernel))
    laid = taps.new_zeros(*taps.shape[:5], width).scatter(5, columns[:, None].expand_as(taps), taps)
    mixed = laid.flatten(4) @ bands.permute(0, 1, 3, 4, 5, 2).flatten(3, 4)
    return mixed.permute(0, 1, 4, 2, 3).flatten(1, 2)


class RelativeBias(nn.Module):
    """A learned number for each offset between a place and a neighbour, and each group; zero at the start."""

    def __init__(self, groups: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.table = nn.Parameter(torch.zeros(groups, 2 * kernel - 1, 2 * kernel - 1))

    def forward(self, height: int, width: int) -> Float[Tensor, "G H W taps"]:
        taps, offsets = torch.arange(self.kernel, device=self.table.device), []
        for length in (height, width):
            starts = window_starts(length, self.kernel, self.table.device)
            places = torch.arange(length, device=self.table.device)
            offsets.append((starts - places)[:, None] + taps + self.kernel - 1)
        rows, columns = offsets
        return self.table[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)


class ContMix(nn.Module):
    """Mixes the neighbours of every place with kernels that come from how alike the place is to each region of a context.

    affinity = Qᵀ K / √(dim / G) of the place to grid² region means; a linear layer makes small² + kernel² taps of it; plus a relative
    bias; softmax over the taps of each kernel. The first half of the channels is mixed by the small kernel, the second by the large one.
    A map with a side below `kernel` is enlarged for it, and averaged back.

    Arguments:
        dim: of the map.
        context: width of the context.
        heads: G = 2 · heads groups have a kernel of their own; G must divide dim / 2.
        kernel, small: sides of the two kernels.
        grid: regions a side.

    Shapes: map (B, dim, H, W), context (B, context, h, w), optionally what is mixed in place of the map -> (B, dim, H, W).
    """

    def __init__(self, dim: int, context: int, heads: int, kernel: int = 7, small: int = 5, grid: int = 7) -> None:
        super().__init__()
        self.groups, self.kernel, self.small, self.grid = 2 * heads, kernel, small, grid
        if dim % (2 * self.groups):
            raise ValueError(
                f"{dim} channels cannot be shared among {self.groups} groups of two halves; take a multiple of {2 * self.groups}."
            )
        self.query = nn.Sequential(nn.Conv2d(dim, dim // 2, 1, bias=False), nn.BatchNorm2d(dim // 2))
        self.key = nn.Sequential(nn.Conv2d(context, dim // 2, 1, bias=False), nn.BatchNorm2d(dim // 2))
        self.taps = nn.Linear(grid**2, small**2 + kernel**2)
        self.bias_small, self.bias_large = RelativeBias(self.groups, small), RelativeBias(self.groups, kernel)
        self.project = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        self.scale = (dim // self.groups) ** -0.5

    def kernels(
        self, x: Float[Tensor, "B C H W"], context: Float[Tensor, "B D h w"]
    ) -> tuple[Float[Tensor, "B G H W s"], Float[Tensor, "B G H W k"]]:
        """The small and the large kernel of every place, each with taps that sum to one."""
        height, width = x.shape[2:]
        queries = (self.query(x) * self.scale).flatten(2).unflatten(1, (self.groups, -1))
        regions = adaptive_avg_pool2d(context, self.grid)
        keys = self.key(regions).flatten(2).unflatten(1, (self.groups, -1))
        taps = self.taps(queries.transpose(2, 3) @ keys).unflatten(2, (height, width))
        small, large = taps.split([self.small**2, self.kernel**2], 4)
        small = (small + self.bias_small(height, width)).softmax(4)
        return small, (large + self.bias_large(height, width)).softmax(4)

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        context: Float[Tensor, "B D h w"],
        value: Float[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        value = x if value is None else value
        height, width = x.shape[2:]
        least = min(height, width)
        if least < self.kernel:
            size = [max(self.kernel, int(self.kernel / least * n)) for n in (height, width)]
            x, context, value = (interpolate(m, size, mode="bilinear") for m in (x, context, value))
        small, large = self.kernels(x, context)
        first, second = value.chunk(2, 1)
        mixed = torch.cat([dynamic_conv2d(first, small, self.small), dynamic_conv2d(second, large, self.kernel)], 1)
        if least < self.kernel:
            mixed = adaptive_avg_pool2d(mixed, (height, width))
        return self.project(mixed)
