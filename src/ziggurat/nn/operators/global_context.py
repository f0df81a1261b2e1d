"""Global context: the contexts of a non-local block are nearly the same at all positions, so one context serves them all.

    z_i = x_i + t(Σ_j a_j x_j),    a = softmax over the positions j of w_k · x_j

With t one linear layer this is the simplified non-local block; with t = W₂ ReLU(LN(W₁ ·)), a bottleneck of C / r, the global context block.
The last layer of t starts at zero, so that both start as the identity.

Y. Cao, J. Xu, S. Lin, F. Wei, H. Hu, Global Context Networks, 2020, arXiv:2012.13375 (GCNet, 2019, arXiv:1904.11492).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.nn.operators.non_local import NonLocal

Transform = Callable[[int], nn.Module]


def linear_transform(channels: int) -> nn.Linear:
    """W_v, zero at first."""
    layer = nn.Linear(channels, channels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def bottleneck_transform(channels: int, ratio: int = 16) -> nn.Sequential:
    """W₂ ReLU(LN(W₁ ·)) with a hidden width of channels / ratio, zero at first."""
    hidden = max(channels // ratio, 1)
    last = nn.Linear(hidden, channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), last)


class GlobalContext(nn.Module):
    """One context vector of the whole map, transformed and given to every position.

    Arguments:
        channels: of the map.
        transform: makes t for a width; a vector (B, C) -> (B, C). By default W_v: the simplified non-local block.
        pool: "att" is a sum weighted by softmax attention, "avg" the mean.
        fusion: "add" adds t(context); "mul" multiplies by its sigmoid.

    Shapes: (B, channels, *places) -> the same.
    """

    def __init__(
        self,
        channels: int,
        transform: Transform = linear_transform,
        pool: Literal["att", "avg"] = "att",
        fusion: Literal["add", "mul"] = "add",
    ) -> None:
        super().__init__()
        if pool not in ("att", "avg"):
            raise ValueError(f"pool must be 'att' or 'avg', got {pool!r}.")
        if fusion not in ("add", "mul"):
            raise ValueError(f"fusion must be 'add' or 'mul', got {fusion!r}.")
        self.key = nn.Conv1d(channels, 1, 1) if pool == "att" else None
        self.transform = transform(channels)
        self.fusion = fusion

    def context(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C"]:
        """Σ_j a_j x_j."""
        flat = x.flatten(2)
        if self.key is None:
            return flat.mean(2)
        return (flat @ self.key(flat).softmax(2).transpose(1, 2)).squeeze(2)

    def forward(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C *places"]:
        t = self.transform(self.context(x))
        t = t.reshape(*t.shape, *[1] * (x.ndim - 2))
        return x + t if self.fusion == "add" else x * torch.sigmoid(t)

    def extra_repr(self) -> str:
        return f"pool={'avg' if self.key is None else 'att'!r}, fusion={self.fusion!r}"


class GCBlock(GlobalContext):
    """The global context block: the transform is a bottleneck with layer normalisation.

    Arguments:
        channels: of the map.
        ratio: r, channels over the width inside.
        pool, fusion: as of `GlobalContext`.

    Shapes: (B, channels, *places) -> the same.
    """

    def __init__(
        self,
        channels: int,
        ratio: int = 16,
        pool: Literal["att", "avg"] = "att",
        fusion: Literal["add", "mul"] = "add",
    ) -> None:
        super().__init__(channels, partial(bottleneck_transform, ratio=ratio), pool, fusion)


class Agreement(NamedTuple):
    """Mean cosine distance (1 − cos) / 2 of all pairs of positions: of what a block sees, adds, and looks at."""

    inputs: float
    outputs: float
    attention: float


@torch.no_grad()
def attention_agreement(block: NonLocal, x: Float[Tensor, "B C *places"]) -> Agreement:
    """How far apart the positions of a map are for a non-local block; an attention of zero says that one context serves them all.

    Arguments:
        x: the block's input.

    `outputs` are the block's responses before they are added to x; of a block that adds nothing they are 0.5.
    """
    attention = block.attention(x).transpose(1, 2)
    return Agreement(*(pairwise_distance(v) for v in (x.flatten(2), block.response(x).flatten(2), attention)))


def pairwise_distance(vectors: Float[Tensor, "B C N"]) -> float:
    """Mean of (1 − cos) / 2 over all pairs of the N vectors of a sample, then over samples: (1 − |mean of the unit vectors|²) / 2."""
    centre = normalize(vectors, dim=1).mean(2)
    return float((1 - centre.square().sum(1)).mean() / 2)
