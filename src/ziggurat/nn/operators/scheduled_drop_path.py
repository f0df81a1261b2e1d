"""Drop path whose probability grows with the training.

    p(t) = p · t,   t in [0, 1] how much of the training lies behind

In the paper p also grows with the depth of the cell. There is no global state: whoever trains calls `set_progress(network, t)`, or
gives Lightning the callback `ziggurat.nn.operators.drop_path_schedule.DropPathSchedule`. A network that is never told drops nothing.
B. Zoph, V. Vasudevan, J. Shlens, Q. Le, 2017, arXiv:1707.07012, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScheduledDropPath(nn.Module):
    """Drops the path of a sample with the probability that the progress has reached, and scales the others by 1 / (1 − p(t)).

    Arguments:
        p: at the end of the training.

    Stands at the end of each path, before the paths are added. In evaluation it is the identity.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and below 1, got {p}.")
        self.p, self.progress = p, 0.0

    @property
    def rate(self) -> float:
        """The probability now."""
        return self.p * self.progress

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def set_progress(network: nn.Module, fraction: float) -> None:
    """Tells every `ScheduledDropPath` of a network how much of its training lies behind."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}.")
    for part in network.modules():
        if isinstance(part, ScheduledDropPath):
            part.progress = fraction
