"""Measures of a representation that need no labels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(z: Float[Tensor, "N D"]) -> float:
    """exp of the entropy of the normalised singular values of the centred features: D when isotropic, 1 on a line.

    O. Roy, M. Vetterli, 2007.
    """
    values = torch.linalg.svdvals((z - z.mean(0)).double())
    p = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(p * torch.log(p.clamp_min(1e-12))).sum()))
