"""Drawn interactions of users with one busy item that all share, or with an item of their own."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.data.seeds import derive


def hub_interactions(
    count: int, num_users: int = 50, hub: float = 0.4, seed: int = 0
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """Users, items and times 0, 1, 2, …: a random user takes item 0 with probability `hub`, else item 1 + user, which is only theirs."""
    if not 0 <= hub <= 1:
        raise ValueError(f"hub is a probability between 0 and 1, got {hub}.")
    rng = np.random.default_rng(derive(seed, "hub"))
    users = torch.from_numpy(rng.integers(0, num_users, count))
    shared = torch.from_numpy(rng.random(count) < hub)
    return users, torch.where(shared, 0, 1 + users), torch.arange(count, dtype=torch.float32)
