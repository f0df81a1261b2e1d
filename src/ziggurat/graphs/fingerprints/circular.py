"""Circular fingerprints: each atom's surroundings, radius by radius, hashed to a bit. The baseline of `NeuralFingerprint`.

    id_a ← hash(id_a, {(id_u, bond_au)}),   bit[id_a mod S] = 1   at radius 0, 1, …, R

H. Morgan 1965; D. Rogers, M. Hahn, Extended-Connectivity Fingerprints, 2010. The multiset of neighbours is hashed as the sum of the mixed
hashes of its members, which does what sorting them does: their order plays no part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.graphs.propagation import check_edges

ODD = np.uint64(0x9E3779B97F4A7C15)


def mixed(codes: np.ndarray) -> np.ndarray:
    """64 bits from 64 bits, one to one and well spread (the finaliser of splitmix64)."""
    codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return codes ^ (codes >> np.uint64(31))


def row_hash(rows: Tensor) -> np.ndarray:
    """A hash of each row (n, F) of features."""
    bits = rows.detach().cpu().float().contiguous().numpy().view(np.uint32).astype(np.uint64)
    column = np.arange(1, bits.shape[1] + 1, dtype=np.uint64) * ODD
    return mixed(mixed(bits + column).sum(1, dtype=np.uint64))


def circular_fingerprint(data: Any, radius: int = 2, size: int = 2048) -> Float[Tensor, "B S"]:
    """Which bits the surroundings of a molecule's atoms hash to.

    Arguments:
        data: `Data` or a batch of them with x, edge_index, edge_attr (bonds; without it all are alike), batch.
        radius: R, the farthest surroundings.
        size: S, the number of bits.

    Returns: zeros and ones (molecules, S).
    """
    if radius < 0 or size < 1:
        raise ValueError(f"radius must be 0 or more and size 1 or more, got {radius} and {size}.")
    check_edges(data.edge_index, len(data.x))
    source, target = data.edge_index.cpu().numpy()
    bonds = row_hash(torch.zeros(len(source), 1) if data.edge_attr is None else data.edge_attr.view(len(source), -1))
    codes = row_hash(data.x)
    owner = torch.zeros(len(codes), dtype=torch.int64) if data.batch is None else data.batch.cpu()
    bits = torch.zeros(int(owner.max()) + 1 if len(owner) else 1, size)
    for distance in range(radius + 1):
        if distance:
            around = np.zeros_like(codes)
            np.add.at(around, target, mixed(codes[source] ^ mixed(bonds + ODD)))
            codes = mixed(codes * ODD + mixed(around))
        bits[owner, torch.from_numpy((codes % np.uint64(size)).astype(np.int64))] = 1.0
    return bits.to(data.x.device)
