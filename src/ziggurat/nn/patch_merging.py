"""Four neighbouring tokens made one, and one made four: how transformers with a grid change their resolution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class PatchMerge(nn.Module):
    """Each 2×2 square of tokens side by side, normalised, and projected to twice the width.

    The four stand in the order above left, below left, above right, below right.

    Arguments:
        dim: of the tokens.
        eps: of the normalisation.

    Shapes: (*, H, W, dim) -> (*, H / 2, W / 2, 2 · dim).
    Z. Liu et al., Swin Transformer, 2021, arXiv:2103.14030.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim, eps=eps), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Float[Tensor, "*B H W C"]) -> Float[Tensor, "*B h w D"]:
        if x.shape[-3] % 2 or x.shape[-2] % 2:
            raise ValueError(f"a grid of {x.shape[-3]}×{x.shape[-2]} has no 2×2 squares; pad it to even sides.")
        squares = x.unflatten(-2, (-1, 2)).unflatten(-4, (-1, 2))  # (*, h, 2, w, 2, C)
        return self.reduction(self.norm(squares.movedim((-3, -2, -4), (-4, -3, -2)).flatten(-3)))


class PatchSplit(nn.Module):
    """Each token normalised, projected, and spread over a 2×2 square.

    Arguments:
        dim: of the tokens.
        out: of the new ones.
        eps: of the normalisation.

    Shapes: (*, H, W, dim) -> (*, 2H, 2W, out).
    """

    def __init__(self, dim: int, out: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm, self.expansion = nn.LayerNorm(dim, eps=eps), nn.Linear(dim, 4 * out, bias=False)

    def forward(self, x: Float[Tensor, "*B H W C"]) -> Float[Tensor, "*B h w D"]:
        four = self.expansion(self.norm(x)).unflatten(-1, (2, 2, -1))  # (*, H, W, 2, 2, D)
        return four.movedim(-3, -4).flatten(-5, -4).flatten(-3, -2)
