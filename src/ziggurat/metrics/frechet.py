"""Distances between two sets of features: Fréchet's between their Gaussians (FID), and the kernel's (KID).

    FID = ‖m₁ − m₂‖² + tr(S₁ + S₂ − 2 (S₁ S₂)^½),   KID = unbiased MMD² with the kernel (x·y / d + 1)³

torchmetrics has both for a network and batches of images (`torchmetrics.image.fid`, `.kid`). Here they take weights, are differentiable
in the features and in the weights, and stay exact for singular covariances: the trace of the root is the sum of the roots of the
eigenvalues of S₁^½ S₂ S₁^½, in float64.

M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule …, 2017, arXiv:1706.08500; M. Bińkowski et al., Demystifying MMD GANs, 2018,
arXiv:1801.01401.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

BLOCK = 1_024  # rows of a kernel matrix that are held at a time
ROUNDING = 1e-4  # how far a sum of weights may be from 1, float32 being allowed


class Gaussian(NamedTuple):
    """Mean and unbiased covariance of a set of features, and how many there are."""

    mean: Float[Tensor, "*b D"]
    covariance: Float[Tensor, "*b D D"]
    size: int


def gaussian(features: Float[Tensor, "N D"], weights: Float[Tensor, " N"] | None = None) -> Gaussian:
    """m = Σ w f and S = N/(N − 1) Σ w (f − m)(f − m)ᵀ in float64.

    Arguments:
        weights: not negative, of sum 1; None weighs all alike.
    """
    count = len(features)
    if count < 2:
        raise ValueError(f"a covariance needs two features or more, got {count}.")
    features = features.double()
    w = (
        torch.full((count,), 1 / count, dtype=torch.float64, device=features.device)
        if weights is None
        else weights.double()
    )
    if w.shape != (count,):
        raise ValueError(f"give one weight for each of the {count} features, got {w.numel()}.")
    if not bool((w >= 0).all()):
        raise ValueError("weights must not be negative, and each must be a number; a softmax gives such weights.")
    if abs((total := float(w.detach().sum())) - 1) > ROUNDING:
        raise ValueError(f"weights must sum to 1, these sum to {total:.4g}; divide them by that.")
    mean = w @ features
    centred = features - mean
    return Gaussian(mean, (w[:, None] * centred).T @ centred * (count / (count - 1)), count)


def _root(values: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
    """√ of eigenvalues; those that are zero up to rounding give 0 and take no part in the gradient."""
    floor = values.detach().amax(-1, keepdim=True).clamp_min(0) * (torch.finfo(values.dtype).eps * values.shape[-1])
    kept = values > floor
    return torch.where(kept, torch.where(kept, values, 1).sqrt(), 0)


def frechet(one: Gaussian, two: Gaussian) -> Float[Tensor, "*b"]:
    """The squared Fréchet distance of two Gaussians; `two` may be a batch of them.

    The gradient with respect to `two` is always sound; that with respect to `one` needs a covariance without equal eigenvalues, so what is
    constant comes first.
    """
    if one.mean.shape[-1] != two.mean.shape[-1]:
        raise ValueError(
            f"the features have {one.mean.shape[-1]} and {two.mean.shape[-1]} entries; take both from one network."
        )
    values, vectors = torch.linalg.eigh(one.covariance)
    root = (vectors * _root(values)[..., None, :]) @ vectors.mT
    inner = root @ two.covariance @ root
    overlap = _root(torch.linalg.eigvalsh((inner + inner.mT) / 2)).sum(-1)
    trace = sum(g.covariance.diagonal(dim1=-2, dim2=-1).sum(-1) for g in (one, two))
    return (one.mean - two.mean).square().sum(-1) + trace - 2 * overlap


def frechet_distance(
    real: Float[Tensor, "N D"], generated: Float[Tensor, "M D"], weights: Float[Tensor, " M"] | None = None
) -> Float[Tensor, ""]:
    """FID of two sets of features, the generated ones weighted."""
    return frechet(gaussian(real), gaussian(generated, weights))


def kernel_distance(real: Float[Tensor, "N D"], generated: Float[Tensor, "M D"]) -> Float[Tensor, ""]:
    """KID of two sets of features: 0 on average for two sets of one kind, whatever their sizes.

    Holds a block of the pairs at a time, unless a gradient is asked for.
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError("the unbiased estimate needs two features or more on both sides.")
    a, b = real.double(), generated.double()

    def between(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([((part @ y.T / x.shape[1] + 1) ** 3).sum() for part in x.split(BLOCK)]).sum()

    def within(x: Tensor) -> Tensor:
        own = ((x.square().mean(1) + 1) ** 3).sum()
        return (between(x, x) - own) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * between(a, b) / (len(a) * len(b))


class _OfFeatures(Metric):
    """Features of real and of generated images, batch after batch.

    Arguments:
        extractor: images -> (B, D).
    """

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, extractor: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.extractor = extractor
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Takes a batch of real or of generated images."""
        with torch.no_grad():
            (self.real if real else self.generated).append(self.extractor(images))

    def _sets(self) -> tuple[Tensor, Tensor]:
        if not len(self.real) or not len(self.generated):
            raise ValueError("update with real images and with generated ones before compute.")
        return dim_zero_cat(self.real), dim_zero_cat(self.generated)


class FrechetDistance(_OfFeatures):
    """FID in the space of any network: `update(images, real)`, `compute()`.

    Arguments:
        extractor: images -> (B, D).
    """

    def compute(self) -> Tensor:
        """FID of all images so far."""
        return frechet_distance(*self._sets())


class KernelDistance(_OfFeatures):
    """KID in the space of any network, over all pairs instead of random subsets.

    Arguments:
        extractor: images -> (B, D).
    """

    def compute(self) -> Tensor:
        """KID of all images so far."""
        return kernel_distance(*self._sets())
