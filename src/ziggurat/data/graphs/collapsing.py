"""Drawn weighted digraphs, and the same in finer resolution: a node becomes a tightly linked cluster."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


def weighted_digraph(
    rng: np.random.Generator, nodes: int = 20, density: float = 0.3
) -> tuple[Int64[Tensor, "2 E"], Float[Tensor, " E"]]:
    """Edges between each ordered pair with probability `density`, without loops, and weights from 1/2 to 3/2, float64."""
    pairs = np.argwhere((rng.random((nodes, nodes)) < density) & ~np.eye(nodes, dtype=bool)).T
    return torch.from_numpy(pairs), torch.from_numpy(rng.uniform(0.5, 1.5, pairs.shape[1]))


def expanded(
    edges: Int64[Tensor, "2 E"],
    weight: Float[Tensor, " E"],
    nodes: int,
    c: float,
    rng: np.random.Generator,
    size: int = 5,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"]]:
    """Node 0 becomes `size` nodes (0 and the new ones behind the others) on a directed cycle of weight c.

    Outgoing edges are shared out so that their sum stays, incoming ones so that their mean stays: with L the Laplacian of incoming
    weights, P the mean over the cluster and J copying, P L J is the coarse graph's.
    """
    parts = [0, *range(nodes, nodes + size - 1)]
    rows = [(a, b, c) for a, b in zip(parts, parts[1:] + parts[:1], strict=True)]
    for (a, b), w in zip(edges.T.tolist(), weight.tolist(), strict=True):
        shares = w * rng.dirichlet(np.ones(size))
        if a == 0:
            rows += [(p, b, s) for p, s in zip(parts, shares, strict=True)]
        elif b == 0:
            rows += [(a, p, size * s) for p, s in zip(parts, shares, strict=True)]
        else:
            rows.append((a, b, w))
    source, target, value = zip(*rows, strict=True)
    return torch.tensor([source, target]), torch.tensor(value, dtype=weight.dtype)
