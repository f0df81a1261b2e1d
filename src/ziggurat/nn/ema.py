"""A slow copy of a network: the exponential moving average of its weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """w ← m · w + (1 − m) · w_student after every step; what is no weight, such as running statistics, is copied.

    It has no gradient. It is called as the network, and stays in the mode in which it is put.

    Arguments:
        network: is copied.
        momentum: m.
    """

    def __init__(self, network: nn.Module, momentum: float = 0.996) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be between 0 and 1, got {momentum}.")
        self.network, self.momentum = copy.deepcopy(network).requires_grad_(False), momentum

    @torch.no_grad()
    def update(self, network: nn.Module, momentum: float | None = None) -> None:
        """One step towards `network`; `momentum` replaces the own one for once (schedules)."""
        keep = self.momentum if momentum is None else momentum
        for own, new in zip(self.network.parameters(), network.parameters(), strict=True):
            own.lerp_(new, 1 - keep)
        for kept, given in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(given)

    def forward(self, *inputs: Any) -> Tensor:
        with torch.no_grad():
            return self.network(*inputs)
