"""Global contrast normalisation and ZCA whitening: the preparation of small images for networks without batch normalisation.

    g = s · (x − mean(x)) / ‖x − mean(x)‖        each image by itself
    y = (g − m) U (Λ + β)^(−1/2) Uᵀ              m, U Λ Uᵀ: mean and covariance of g over the training images

After the second step neighbouring pixels are no longer correlated, and of all maps that do this it changes the images the least.
A. Coates, H. Lee, A. Ng, 2011; I. Goodfellow et al., Maxout Networks, 2013, arXiv:1302.4389, whose s and β these are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def contrast_normalize(x: Float[Tensor, "B C H W"], scale: float = 55.0, eps: float = 1e-4) -> Float[Tensor, "B C H W"]:
    """Images with mean 0 and norm `scale`, over all their pixels and channels; an image of one colour becomes zero.

    Arguments:
        scale: the norm of every image.
        eps: below this norm there is nothing but rounding.
    """
    x = x - x.mean((1, 2, 3), keepdim=True)
    norm = x.square().sum((1, 2, 3), keepdim=True).sqrt()
    return x * torch.where(norm > eps, scale / norm.clamp_min(eps), 0.0)


class GCNZCA(nn.Module):
    """Contrast normalisation, then whitening by what `fit` learned of the training images.

    A plain module: `nn.Sequential(prepare, network)` trains and evaluates alike, and its buffers go with the weights.

    Arguments:
        channels, size: of the images; their pixels are whitened together, by a square matrix of channels · size².
        scale: the norm of an image; 0 leaves out contrast normalisation.
        bias: β, added to the variances: small ones are noise, and are not blown up.

    Shapes: (B, channels, size, size) -> the same.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int = 3, size: int = 32, scale: float = 55.0, bias: float = 0.1) -> None:
        super().__init__()
        if scale < 0 or bias < 0:
            raise ValueError(f"scale and bias must be 0 or more, got {scale} and {bias}.")
        self.shape, self.scale, self.bias = (channels, size, size), scale, bias
        pixels = channels * size * size
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("matrix", torch.eye(pixels))

    def normalized(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Images after the first step, as rows."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"this whitening is for images of {self.shape}, got {tuple(x.shape[1:])}.")
        return (contrast_normalize(x, self.scale) if self.scale else x).flatten(1)

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "B C H W"]) -> GCNZCA:
        """Learns mean and matrix from training images; returns itself."""
        if len(x) < 2:
            raise ValueError(f"whitening needs two images or more, got {len(x)}.")
        rows = self.normalized(x).double()
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        spread = values.clamp_min(0) + self.bias
        if not self.bias and float(values[0]) <= 1e-9 * float(values[-1]):
            raise ValueError("some direction has no variance, so that whitening needs a bias above 0, or more images.")
        self.mean.copy_(mean)
        self.matrix.copy_((vectors / spread.sqrt()) @ vectors.T)
        return self

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return ((self.normalized(x) - self.mean) @ self.matrix).unflatten(1, self.shape)

    def extra_repr(self) -> str:
        return f"shape={self.shape}, scale={self.scale:g}, bias={self.bias:g}"
