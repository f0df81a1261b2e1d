"""Residuals that are made small before they are added, which keeps very wide networks from dying early in training.

    y = act(x + s F(x))

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi, 2016, arXiv:1602.07261, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn


class ScaledResidual(nn.Module):
    """A branch added to its input with a factor.

    Arguments:
        branch: F; it ends linearly and keeps the shape.
        scale: s, on the branch and not on the shortcut.
        act: makes the activation behind the addition; None leaves it out.

    Shapes: (B, C, *) -> (B, C, *).
    """

    def __init__(self, branch: nn.Module, scale: float = 0.1, act: Callable[[], nn.Module] | None = nn.ReLU) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale
        self.act = nn.Identity() if act is None else act()

    def forward(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C *places"]:
        return self.act(x + self.scale * self.branch(x))

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"
