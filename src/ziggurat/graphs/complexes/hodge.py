"""What the boundaries of a cell complex do to features: sums over faces and cofaces, the Hodge Laplacian, and its kernel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.data.graphs.complexes import CWComplex


def to_faces(cells: CWComplex, k: int, z: Float[Tensor, "n F"]) -> Float[Tensor, "m F"]:
    """B_k z: from cells of dimension k to their faces."""
    low, high = cells.faces[k - 1]
    return z.new_zeros(cells.sizes[k - 1], z.shape[1]).index_add(0, low, z[high] * cells.signs[k - 1].to(z)[:, None])


def to_cofaces(cells: CWComplex, k: int, z: Float[Tensor, "m F"]) -> Float[Tensor, "n F"]:
    """B_kᵀ z: from cells of dimension k − 1 to what they bound."""
    low, high = cells.faces[k - 1]
    return z.new_zeros(cells.sizes[k], z.shape[1]).index_add(0, high, z[low] * cells.signs[k - 1].to(z)[:, None])


def hodge(cells: CWComplex, k: int, z: Float[Tensor, "n F"]) -> tuple[Float[Tensor, "n F"], Float[Tensor, "n F"]]:
    """The terms of the Hodge Laplacian: B_kᵀ B_k z through shared faces, B_{k+1} B_{k+1}ᵀ z through shared cofaces; zeros where none."""
    down = to_cofaces(cells, k, to_faces(cells, k, z)) if k > 0 else torch.zeros_like(z)
    up = to_faces(cells, k + 1, to_cofaces(cells, k + 1, z)) if k < len(cells.faces) else torch.zeros_like(z)
    return down, up


def betti(cells: CWComplex) -> tuple[int, ...]:
    """dim ker of each Hodge Laplacian: components, holes, voids, … Dense, for small complexes."""
    numbers = []
    for k, count in enumerate(cells.sizes):
        eye = torch.eye(count, dtype=torch.float64)
        lap = sum(hodge(cells, k, eye))
        numbers.append(count - int(torch.linalg.matrix_rank(lap)) if count else 0)
    return tuple(numbers)
