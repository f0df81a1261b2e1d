"""Dropping whole branches and whole patches of maps while training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class DropPath(nn.Module):
    """Drops the whole branch of a sample with probability p, and scales the others by 1 / (1 − p): stochastic depth.

    Stands at the end of a branch, before it is added. In evaluation it is the identity.
    G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, 2016, arXiv:1603.09382.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and below 1, got {p}.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * kept.to(x.dtype) / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Rates that grow linearly with depth, from 0 for the first block to `last`."""
    return [last * i / max(blocks - 1, 1) for i in range(blocks)]


class DropBlock2d(nn.Module):
    """Drops squares of a map, the same in all channels of a sample, and scales the rest so that its mean stays.

    Arguments:
        p: share of the map that is dropped, about.
        size: side of the squares.

    G. Ghiasi, T.-Y. Lin, Q. Le, 2018, arXiv:1810.12890.
    """

    def __init__(self, p: float = 0.0, size: int = 7) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and below 1, got {p}.")
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be odd and positive, got {size}.")
        self.p, self.size = p, size

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if not self.training or self.p == 0:
            return x
        height, width = x.shape[-2:]
        side = min(self.size, height, width)
        side -= 1 - side % 2
        inside = (height - side + 1) * (width - side + 1) / (height * width)
        centres = torch.rand(len(x), 1, height, width, device=x.device) < self.p / side**2 / inside
        edge = side // 2
        allowed = torch.zeros(height, width, dtype=torch.bool, device=x.device)
        allowed[edge : height - edge, edge : width - edge] = True
        kept = 1 - max_pool2d((centres & allowed).to(x.dtype), side, 1, edge)
        return x * kept * kept.numel() / kept.sum().clamp_min(1)

    def extra_repr(self) -> str:
        return f"p={self.p:g}, size={self.size}"
