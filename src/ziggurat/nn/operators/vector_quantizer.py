"""A codebook: every vector is replaced by the codeword of the nearest direction, and gradients pass as if it were not.

    code(x) = argmax_k ⟨x / |x|, c_k⟩,   q(x) = c_code(x),   dq/dx := 1
    c_k ← unit(m c_k + (1 − m) unit mean of the x / |x| that chose k);   a codeword that none chose stays

A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural Discrete Representation Learning, 2017, arXiv:1711.00937.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize


class Quantized(NamedTuple):
    """`values` are the codewords, differentiable as the input; `codes` their numbers; `commitment` the mean squared distance to them."""

    values: Float[Tensor, "N d"]
    codes: Int64[Tensor, " N"]
    commitment: Float[Tensor, ""]


class VectorQuantizer(nn.Module):
    """The codebook, a buffer of unit vectors: no gradient moves it, only `update` does.

    Arguments:
        dim: d.
        codes: K.
        decay: m.

    Shapes: x (N, d) -> `Quantized`.
    """

    codebook: Tensor
    started: Tensor

    def __init__(self, dim: int, codes: int = 512, decay: float = 0.8) -> None:
        super().__init__()
        if min(dim, codes) < 1:
            raise ValueError(f"dim and codes must be 1 or more, got {dim} and {codes}.")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}.")
        self.decay = decay
        self.register_buffer("codebook", normalize(torch.randn(codes, dim), dim=1))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def codes_of(self, x: Float[Tensor, "N d"]) -> Int64[Tensor, " N"]:
        """The codeword of each row."""
        return (normalize(x, dim=1) @ self.codebook.T).argmax(1)

    def forward(self, x: Float[Tensor, "N d"]) -> Quantized:
        codes = self.codes_of(x)
        values = self.codebook[codes]
        return Quantized(x + (values - x).detach(), codes, mse_loss(x, values))

    @torch.no_grad()
    def start(self, x: Float[Tensor, "N d"]) -> None:
        """Random rows of x become the codewords, so that all lie where the vectors are; rows repeat where there are too few."""
        rows = torch.cat([torch.randperm(len(x)) for _ in range(-(-len(self.codebook) // len(x)))])
        self.codebook.copy_(normalize(x[rows[: len(self.codebook)].to(x.device)], dim=1))
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "N d"]) -> None:
        """One step of the codewords towards the rows that chose them."""
        unit, codes = normalize(x, dim=1), self.codes_of(x)
        total = torch.zeros_like(self.codebook).index_add(0, codes, unit)
        mean = normalize(total, dim=1)
        moved = normalize(self.decay * self.codebook + (1 - self.decay) * mean, dim=1)
        used = (total != 0).any(1, keepdim=True)
        self.codebook.copy_(torch.where(used, moved, self.codebook))
