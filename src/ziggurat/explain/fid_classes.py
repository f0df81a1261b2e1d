"""The classes in FID: its features are so near to a classifier's outputs that drawing images by class lowers it, without better images.

    w = softmax(ℓ),   ℓ ← argmin FID(real, pool weighted by w)       on vectors with ones at the N largest logits of each image
    map = |Σ_c α_c A_c|,   α_c = mean over positions of ∂FID / ∂A_c   FID as a function of one image among the others

The generator is never changed: a fall of FID by drawing is no gain in quality. The map says what FID looks at.

T. Kynkäänniemi, T. Karras, M. Aittala, T. Aila, J. Lehtinen, The Role of ImageNet Classes in Fréchet Inception Distance, 2022,
arXiv:2203.06026.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate

from ziggurat.explain.saliency import evaluating
from ziggurat.metrics.frechet import Gaussian, frechet, gaussian
from ziggurat.nn.staged import Staged


def top_n_features(logits: Float[Tensor, "N K"], n: int, skip: int = 0) -> Float[Tensor, "N K"]:
    """Ones at the n largest logits of each image, zeros elsewhere.

    Arguments:
        skip: leaves out so many of the largest first; (K − n) // 2 gives the control of middle ranks.
    """
    if n < 1 or skip < 0 or n + skip > logits.shape[1]:
        raise ValueError(f"n={n} ranks after the first {skip} do not fit {logits.shape[1]} classes; take fewer.")
    ranks = logits.argsort(dim=1, descending=True, stable=True)[:, skip : skip + n]
    return torch.zeros_like(logits).scatter(1, ranks, 1)


def match_histogram(real: Int64[Tensor, " N"], pool: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Weights of the pool under which its classes are as frequent as the real ones.

    Classes that the pool does not contain are lost; the others keep their proportions.

    Arguments:
        real, pool: class of each image, say the arg max of its logits.
    """
    classes = int(torch.cat([real, pool]).max()) + 1
    wanted, there = (torch.bincount(labels, minlength=classes).double() for labels in (real, pool))
    weights = (wanted / there.clamp_min(1))[pool]
    if not weights.any():
        raise ValueError("the pool contains none of the real images' classes; make it larger.")
    return weights / weights.sum()


def resample_to_match(
    real: Float[Tensor, "N D"], pool: Float[Tensor, "M D"], steps: int = 200, lr: float = 0.1
) -> Float[Tensor, " M"]:
    """Weights of the pool under which its Fréchet distance to the real features is small.

    Arguments:
        real, pool: `top_n_features`, logits, or features before them.
        steps, lr: of Adam on log-weights that start equal. (The paper has SGD at a rate of 10. The gradient of a log-weight is in
            proportion to the weight, so that a rate which moves equal weights throws the larger ones too far; Adam's steps do not
            depend on that, nor on the size of the pool.) Features are first scaled to a variance of 1 in all.

    Returns: the weights of the best step.
    """
    if steps < 1 or not lr > 0:
        raise ValueError(f"steps must be 1 or more and lr positive, got {steps} and {lr}.")
    target = gaussian(real)
    size = target.covariance.diagonal().sum().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    target, pool = gaussian(real.double() / size), pool.double() / size
    logs = torch.zeros(len(pool), dtype=torch.float64, device=pool.device, requires_grad=True)
    optimizer = torch.optim.Adam([logs], lr=lr)
    best, least = logs.detach().softmax(0), torch.inf
    for _ in range(steps):
        weights = logs.softmax(0)
        distance = frechet(target, gaussian(pool, weights))
        if (value := float(distance.detach())) < least:
            best, least = weights.detach(), value
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
    return best


def draw(weights: Float[Tensor, " M"], count: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """`count` images of the pool with replacement, in proportion to their weights."""
    return torch.multinomial(weights, count, replacement=True, generator=generator)


def draw_stratified(weights: Float[Tensor, " M"], count: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """The same with one random offset for all draws: image i comes ⌊n w_i⌋ or ⌈n w_i⌉ times, and so does every run of neighbours."""
    offset = torch.rand((), dtype=torch.float64, generator=generator)
    places = (torch.arange(count, dtype=torch.float64) + offset) / count
    return torch.searchsorted(weights.double().cumsum(0), places, right=True).clamp_max(len(weights) - 1)


def effective_size(weights: Float[Tensor, " M"]) -> float:
    """1 / Σ w²: how many images count."""
    return float(1 / weights.double().square().sum())


def with_one_more(others: Gaussian, feature: Float[Tensor, "B D"]) -> Gaussian:
    """The Gaussian of a set and one feature more, for each of B features."""
    count = others.size + 1
    away = feature.double() - others.mean
    covariance = others.covariance * ((count - 2) / (count - 1)) + away[:, :, None] * away[:, None, :] / count
    return Gaussian(others.mean + away / count, covariance, count)


def fid_sensitivity_map(
    network: Staged, x: Float[Tensor, "B C H W"], real: Gaussian, others: Gaussian
) -> Float[Tensor, "B H W"]:
    """Where in each image FID looks: its gradient at the channels of the last stage, and where these are active.

    Arguments:
        network: whose vectors before the classifier are the features of FID.
        x: generated images, each looked at by itself.
        real: of the features of the real images.
        others: of the features of the other generated images.
    """
    with evaluating(network), torch.enable_grad():
        *below, last = network.forward_features(x)
        last = last.detach().requires_grad_()
        feature = network.forward_head([*below, last], pre_logits=True)
        if feature.shape[1] != real.mean.shape[-1] or feature.shape[1] != others.mean.shape[-1]:
            raise ValueError(
                f"the network gives features of {feature.shape[1]} entries, the Gaussians have {real.mean.shape[-1]} and "
                f"{others.mean.shape[-1]}; take them from the same network."
            )
        distance = frechet(real, with_one_more(others, feature))
        (gradient,) = torch.autograd.grad(distance.sum(), last)
    channels = gradient.mean((2, 3), keepdim=True)
    maps = (channels * last.detach()).sum(1, keepdim=True).abs()
    return interpolate(maps, x.shape[2:], mode="bilinear")[:, 0]
