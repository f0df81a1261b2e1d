"""Simplicial complexes to learn from: pairs of cycles that messages cannot tell apart, and recorded groups with how often they met."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.data.graphs.complexes import CWComplex, batch_complexes, from_simplices
from ziggurat.data.graphs.readers import Simplices
from ziggurat.data.seeds import derive


def cycle_pairs(n: int, copies: int, seed: int = 0) -> tuple[CWComplex, Int64[Tensor, " B"]]:
    """Renamed copies of two cycles of n nodes (0) and of one of 2n nodes (1), in turn, as one complex without signs; features are ones."""
    if n < 3 or copies < 1:
        raise ValueError(f"a cycle needs 3 nodes and there must be a copy, got n={n} and copies={copies}.")
    rng, found = np.random.default_rng(derive(seed, "cycles", n)), []
    for _ in range(copies):
        for count, size in ((2, n), (1, 2 * n)):
            name = rng.permutation(2 * n).tolist()
            edges = [(name[c * size + i], name[c * size + (i + 1) % size]) for c in range(count) for i in range(size)]
            found.append(from_simplices(edges, 2 * n, 1)[0].unsigned())
    return batch_complexes(found), torch.arange(2).repeat(copies)


def meetings(groups: Simplices, top: int = 2) -> tuple[CWComplex, list[Float[Tensor, " n"]]]:
    """The complex of recorded groups up to dimension `top`, and for each simplex log(1 + the number of records that contain it)."""
    seen = Counter(
        face for group in groups.groups() for size in range(1, top + 2) for face in combinations(group, size)
    )
    cells, names = from_simplices(list(seen), groups.num_nodes, top)
    return cells, [torch.tensor([seen[name] for name in level], dtype=torch.float32).log1p() for level in names]
