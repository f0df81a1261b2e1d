"""How alike the representations of a graph's nodes have become: the measure of over-smoothing.

    D(x_i, x_j) = ½ ‖x_i / ‖x_i‖ − x_j / ‖x_j‖‖,   SMV_i = mean of D(x_i, x_j) over j ≠ i,   SMV_G = mean of SMV_i

0 says that all rows point the same way. M. Liu, H. Gao, S. Ji, 2020, arXiv:2007.09296, section 3.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def smoothness_metric(x: Float[Tensor, "N D"], chunk: int = 512) -> Float[Tensor, " N"]:
    """SMV_i of every node, between 0 and 1; its mean is SMV_G.

    Arguments:
        chunk: rows that are compared with all others at a time; memory grows with chunk · N.

    Distances are not linear, so the mean of the unit vectors does not give it: every pair is looked at. A row of zeros has no direction
    and counts as the zero vector; a single node has the value 0.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}.")
    unit = normalize(x, dim=1)
    # differences, not inner products: the distance of two rows that are nearly the same keeps its digits
    sums = [torch.cdist(rows, unit, compute_mode="donot_use_mm_for_euclid_dist").sum(1) for rows in unit.split(chunk)]
    return torch.cat(sums) / (2 * max(len(x) - 1, 1)) if sums else unit.sum(1)
