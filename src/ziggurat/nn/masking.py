"""Masks of masked-image modelling: which patches of each image a network sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


class Masking(NamedTuple):
    """Of each image, the numbers of the patches that are kept, in ascending order, and which patches are hidden."""

    kept: Int64[Tensor, "B K"]
    hidden: Bool[Tensor, "B N"]


def random_masking(
    batch: int,
    patches: int,
    ratio: float = 0.75,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Masking:
    """Keeps int(patches · (1 − ratio)) patches of each image, drawn without replacement.

    Arguments:
        generator: of the draw; None takes torch's global one, which a learner's step has seeded.
    """
    count = int(patches * (1 - ratio))
    if not 0 < count < patches:
        raise ValueError(
            f"a mask ratio of {ratio} keeps {count} of {patches} patches; some must be kept and some hidden: change the "
            "ratio, or take larger images or smaller patches."
        )
    noise = torch.rand(batch, patches, device=device, generator=generator)
    kept = noise.argsort(1)[:, :count].sort(1).values
    return Masking(kept, torch.ones_like(noise, dtype=torch.bool).scatter(1, kept, False))


def take(x: Tensor, kept: Int64[Tensor, "B K"]) -> Tensor:
    """The kept patches of x (B, N, …), or of x (1, N, …) for every image: (B, K, …)."""
    index = kept.view(*kept.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return x.expand(len(kept), *x.shape[1:]).gather(1, index)


def put(x: Tensor, kept: Int64[Tensor, "B K"], patches: int, filler: Tensor) -> Tensor:
    """All patches: those of x (B, K, D) where they were, and `filler` (1, 1, D) elsewhere: (B, patches, D)."""
    index = kept[:, :, None].expand(-1, -1, x.shape[2])
    return filler.expand(len(x), patches, -1).scatter(1, index, x)
