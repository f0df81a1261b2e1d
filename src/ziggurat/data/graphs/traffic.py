"""Drawn traffic: what enters a directed road network at some nodes moves along its edges, with a delay on each, and fades.

    y_t(v) = s_t(v) + decay · Σ_{u → v} p_uv y_{t − δ_uv}(u),   x = y + noise

p_uv are the shares that leave u, which sum to 1, and s is what enters: an autoregressive series at every entry, with bursts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.data.seeds import derive


class Traffic(NamedTuple):
    """Signals (T, N), the directed edges, the share of each, and its delay in steps."""

    x: Float[Tensor, "T N"]
    edge_index: Int64[Tensor, "2 E"]
    edge_weight: Float[Tensor, " E"]
    delay: Int64[Tensor, " E"]


def diffused_traffic(
    steps: int = 2000, nodes: int = 50, entries: int = 10, decay: float = 0.95, noise: float = 0.1, seed: int = 0
) -> Traffic:
    """Traffic on a ring with short cuts: every node leads to the next one and to one that is 2 to 7 ahead.

    Arguments:
        steps, nodes: T and N.
        entries: nodes at which traffic enters, evenly spread.
        decay: the part that goes on at every edge.
        noise: standard deviation of the noise on top, in those of the signal.
        seed: of everything.

    Delays are 1 to 3 steps. The first 200 steps, which still remember the empty network, are thrown away.
    """
    if nodes < 8 or not 1 <= entries <= nodes or not 0 <= decay < 1:
        raise ValueError(
            f"nodes must be 8 or more, entries 1 to nodes and decay at least 0 and below 1, got {nodes}, {entries}, {decay}."
        )
    rng, here = np.random.default_rng(derive(seed, "traffic")), np.arange(nodes)
    source, target = np.tile(here, 2), np.concatenate([here + 1, here + rng.integers(2, 8, nodes)]) % nodes
    first = rng.uniform(0.5, 0.9, nodes)
    share, delay = np.concatenate([first, 1 - first]), rng.integers(1, 4, 2 * nodes)
    total, warm = steps + 200, 200
    entering = np.zeros((total, nodes))
    where = here[:: max(nodes // entries, 1)][:entries]
    bursts = (rng.random((total, entries)) < 0.05) * rng.exponential(3.0, (total, entries))
    level = np.zeros(entries)
    y = np.zeros((total, nodes))
    for t in range(total):
        level = 0.7 * level + bursts[t] + 0.1 * np.abs(rng.normal(size=entries))
        entering[t, where] = level
        before = np.where(t >= delay, y[t - delay, source], 0.0)
        y[t] = entering[t] + decay * np.bincount(target, share * before, minlength=nodes)
    y = y[warm:] + noise * y[warm:].std() * rng.normal(size=(steps, nodes))
    return Traffic(
        torch.from_numpy(y).float(), torch.from_numpy(np.stack([source, target])), torch.from_numpy(share).float(),
        torch.from_numpy(delay),
    )  # fmt: skip
