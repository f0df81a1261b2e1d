"""Distances and similarities between all rows of two sets of embeddings, (N, M), each with a finite gradient everywhere.

A loss or a miner takes such a matrix and does not ask what it measures; what is far has a large distance and a small similarity.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

EPSILON = 1e-12
"""Under the root: the distance of equal points has no gradient otherwise."""


def squared_euclidean(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """‖a_i − b_j‖², never below 0."""
    squares = a.square().sum(1, keepdim=True) + b.square().sum(1)
    return torch.addmm(squares, a, b.T, alpha=-2).clamp_min(0)


def euclidean(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """‖a_i − b_j‖."""
    return squared_euclidean(a, b).add_(EPSILON).sqrt_()  # in place: each new matrix is a walk through memory


def cosine(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """cos(a_i, b_j): a similarity; 1 − cosine is a distance, and on rows of length one half of the squared Euclidean one."""
    return normalize(a, dim=1) @ normalize(b, dim=1).T


def dot(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """a_i · b_j: a similarity."""
    return a @ b.T
