"""InfoNCE: of two sets of embeddings, row i of one belongs to row i of the other and to no other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def info_nce(one: Float[Tensor, "N D"], two: Float[Tensor, "N D"], temperature: float = 0.5) -> Float[Tensor, " N"]:
    """½ (−log softmax_j(cos(a_i, b_j) / τ)_i − log softmax_j(cos(b_i, a_j) / τ)_i) of each row; lengths play no part.

    A. van den Oord, Y. Li, O. Vinyals, 2018, arXiv:1807.03748.
    """
    scores = normalize(one, dim=1) @ normalize(two, dim=1).T / temperature
    target = torch.arange(len(one), device=one.device)
    return (cross_entropy(scores, target, reduction="none") + cross_entropy(scores.T, target, reduction="none")) / 2
