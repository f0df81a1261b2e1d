"""What a loss needs of the other processes: contrastive losses compare a sample with those of every process."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def is_distributed() -> bool:
    """Whether several processes train together."""
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; backwards each gets the sum of the gradients of its own rows."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        torch.distributed.all_reduce(gradient)
        rows = len(gradient) // torch.distributed.get_world_size()
        return gradient[torch.distributed.get_rank() * rows :][:rows]


def gather(x: Float[Tensor, "B D"]) -> Float[Tensor, "W D"]:
    """Rows of all processes, with gradient; with one process, `x` itself.

    Every process must hold the same number of rows. Lightning's ddp averages gradients over processes: a loss that is the mean over its
    own rows then has the same gradient as the mean over all rows on one process.
    """
    return _Gather.apply(x) if is_distributed() else x
