"""Positions of tokens: fixed waves, and learned ones that follow the size of the grid."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def sincos_positions(height: int, width: int, dim: int, base: float = 10_000.0) -> Float[Tensor, "N D"]:
    """Waves of the row in one half of the channels and of the column in the other, sines before cosines in each; row by row.

    Arguments:
        height, width: of the grid.
        dim: channels, a multiple of 4; the wavelengths run from 2π to 2π · `base`.
    """
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4 (sine and cosine of two coordinates), got {dim}.")
    rates = base ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [place.flatten()[:, None].double() * rates for place in (rows, columns)]
    waves = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)
    return waves.to(torch.get_default_dtype())


def resize_positions(
    positions: Float[Tensor, "1 N D"], old: tuple[int, int], new: tuple[int, int], prefix: int = 0
) -> Float[Tensor, "1 M D"]:
    """Learned positions of a grid, interpolated to another one (bicubic, antialiased).

    Arguments:
        old, new: (height, width) of the two grids.
        prefix: tokens in front that have no place, such as that of the class; they stay.
    """
    if positions.shape[1] != prefix + old[0] * old[1]:
        raise ValueError(
            f"{positions.shape[1]} positions are not {prefix} + {old[0]}×{old[1]}; give the grid they are of."
        )
    if old == new:
        return positions
    fixed, grid = positions[:, :prefix], positions[:, prefix:]
    grid = grid.transpose(1, 2).unflatten(2, old)
    grid = interpolate(grid.float(), new, mode="bicubic", antialias=True, align_corners=False).to(positions.dtype)
    return torch.cat([fixed, grid.flatten(2).transpose(1, 2)], 1)
