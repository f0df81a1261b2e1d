"""Operators on clouds of points: sampling, neighbourhoods, interpolation. Batched; places are compared in float32 or better."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def _exact(points: Tensor) -> Tensor:
    return points if points.dtype == torch.float64 else points.float()


def gather(x: Float[Tensor, "B N C"], index: Tensor) -> Tensor:
    """Rows `index` (B, …) of each cloud: (B, …, C)."""
    flat = index.flatten(1)
    picked = x.gather(1, flat[..., None].expand(-1, -1, x.shape[2]))
    return picked.unflatten(1, index.shape[1:])


def farthest_point_sample(points: Float[Tensor, "B N 3"], count: int) -> Int64[Tensor, "B count"]:
    """Indices of points each of which lies farthest from those before it; the first lies farthest from the mean.

    The start is a matter of geometry, so the same points come out whatever their order. The covering radius is at most twice the best one.
    """
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"count must be between 1 and the {points.shape[1]} points of a cloud, got {count}.")
    place = _exact(points)
    nearest = (place - place.mean(1, keepdim=True)).square().sum(2)
    chosen = [nearest.argmax(1)]
    nearest = torch.full_like(nearest, torch.inf)
    for _ in range(count - 1):
        apart = (place - gather(place, chosen[-1][:, None])).square().sum(2)
        nearest = torch.minimum(nearest, apart)
        chosen.append(nearest.argmax(1))
    return torch.stack(chosen, 1)


def knn(
    points: Float[Tensor, "B N 3"], queries: Float[Tensor, "B M 3"], k: int
) -> tuple[Int64[Tensor, "B M k"], Float[Tensor, "B M k"]]:
    """Indices and squared distances of the k nearest points of each query, nearest first."""
    if not 1 <= k <= points.shape[1]:
        raise ValueError(f"k must be between 1 and the {points.shape[1]} points of a cloud, got {k}.")
    apart = torch.cdist(_exact(queries), _exact(points), compute_mode="donot_use_mm_for_euclid_dist").square()
    found = apart.topk(k, dim=2, largest=False)
    return found.indices, found.values


def ball_query(
    points: Float[Tensor, "B N 3"], centres: Float[Tensor, "B M 3"], radius: float, count: int
) -> Int64[Tensor, "B M k"]:
    """Indices of up to `count` points within `radius` of each centre, the nearest ones; where there are fewer, the nearest is repeated.

    A centre without any point in reach gets its nearest point alone. k = min(count, N).
    """
    index, apart = knn(points, centres, min(count, points.shape[1]))
    return torch.where(apart <= radius**2, index, index[..., :1])


def interpolate3(
    coarse: Float[Tensor, "B M 3"],
    features: Float[Tensor, "B M C"],
    points: Float[Tensor, "B N 3"],
    eps: float = 1e-8,
) -> Float[Tensor, "B N C"]:
    """Features at `points` from the three nearest coarse points, weighted by the inverse of their squared distances."""
    index, apart = knn(coarse, points, min(3, coarse.shape[1]))
    weight = 1 / (apart + eps)
    weight = (weight / weight.sum(2, keepdim=True)).to(features.dtype)
    return (gather(features, index) * weight[..., None]).sum(2)
