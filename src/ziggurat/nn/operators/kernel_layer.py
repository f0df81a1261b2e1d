"""KernelLayer: a layer whose dot products are those of a kernel on the sphere, by Nyström's projection onto anchors.

    out = ‖z‖ κ(Z z/‖z‖) K_ZZ^-1/2,   κ(t) = exp((t − 1) / σ²),   K_ZZ = κ(Z Zᵀ)

On its anchors it is exact: ⟨out(x), out(z_j)⟩ = ‖x‖ κ(x/‖x‖ · z_j).

J. Mairal, End-to-End Kernel Learning with Supervised Convolutional Kernel Networks, 2016, arXiv:1605.06265.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize


class _InverseRoot(torch.autograd.Function):
    """K^-1/2 of a symmetric positive matrix. Its gradient stays finite where eigenvalues coincide, which that of `eigh` does not."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        root = values.clamp_min(torch.finfo(values.dtype).eps).sqrt()
        ctx.save_for_backward(root, vectors)
        return (vectors / root) @ vectors.T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        root, vectors = ctx.saved_tensors
        # (a^-1/2 − b^-1/2) / (a − b), without the difference that vanishes
        slopes = -1 / (root[:, None] * root[None] * (root[:, None] + root[None]))
        return vectors @ ((vectors.T @ grads[0] @ vectors) * slopes) @ vectors.T


def inverse_root(matrix: Float[Tensor, "S S"]) -> Float[Tensor, "S S"]:
    """K^-1/2 of a symmetric positive definite matrix by eigendecomposition, once differentiable."""
    return _InverseRoot.apply(matrix)


class KernelLayer(nn.Module):
    """The projection onto S anchors.

    Arguments:
        in_features: width of z.
        out_features: S, how many anchors.
        sigma: σ of the kernel; smaller tells more apart.
        ridge: what K_ZZ gets on its diagonal, so that anchors that lie close leave it invertible.

    The anchors are the directions of the rows of `anchors`: whatever a step does to these, they lie on the sphere, and the root is
    computed in every call. Shapes: (…, in_features) -> (…, out_features).
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 1.0, ridge: float = 1e-4) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"the widths must be 1 or more, got {in_features} and {out_features}.")
        if not sigma > 0 or not ridge >= 0:
            raise ValueError(f"sigma must be positive and ridge 0 or more, got {sigma} and {ridge}.")
        self.in_features, self.out_features, self.sigma, self.ridge = in_features, out_features, sigma, ridge
        self.anchors = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Directions drawn uniformly from the sphere."""
        nn.init.normal_(self.anchors, std=self.in_features**-0.5)

    def kappa(self, cosine: Tensor) -> Tensor:
        """κ(t)."""
        return ((cosine - 1) / self.sigma**2).exp()

    def forward(self, z: Float[Tensor, "*B F"]) -> Float[Tensor, "*B S"]:
        anchors = normalize(self.anchors, dim=1)
        similar = self.kappa(normalize(z, dim=-1) @ anchors.T)
        gram = self.kappa(anchors @ anchors.T)
        wide = gram if gram.dtype == torch.float64 else gram.float()  # no eigendecomposition in half precision
        root = inverse_root(wide + self.ridge * torch.eye(self.out_features, dtype=wide.dtype, device=wide.device))
        return z.norm(dim=-1, keepdim=True) * (similar @ root.to(similar.dtype))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, sigma={self.sigma}"
