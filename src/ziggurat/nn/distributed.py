"""Training on several processes: rows of all of them in one tensor, with the gradient that one process would have had."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch import distributed as dist


def world() -> int:
    """How many processes train together; 1 where none were joined."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
    """The rows of every process in the order of their ranks; `x` itself where there is one process.

    A contrastive loss sees the negatives of all processes when it takes `gather(features)` in place of its own features. The
    gradient of a row is the sum of what all processes send back to it. DistributedDataParallel then divides by the number of
    processes, so the step is that of one process with the whole batch in both usual forms: every process computes the loss of all
    rows, or each the mean loss of its own rows (as many on each process) against all.

    Arguments:
        x: rows of this process; processes may have different numbers of them, the other sizes agree. All processes must call this
            together.
    """
    if x.ndim == 0:
        raise ValueError("gather joins rows, and a scalar has none; give a tensor of one dimension or more.")
    return x if world() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    """Forward: all rows. Backward: the gradients of all processes are added, and each keeps those of its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sizes = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world())]
        dist.all_gather(sizes, torch.tensor([len(x)], device=x.device))
        ctx.rows = [int(size) for size in sizes]
        padding = x.new_zeros(max(ctx.rows) - len(x), *x.shape[1:])
        padded = torch.cat([x, padding]).contiguous()  # a collective wants the same size everywhere
        parts = [torch.empty_like(padded) for _ in ctx.rows]
        dist.all_gather(parts, padded)
        return torch.cat([part[:rows] for part, rows in zip(parts, ctx.rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(ctx.rows)[dist.get_rank()]
