"""Hypergraphs with known structure: groups at random, and classes that only whole groups can tell."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import normalize

from ziggurat.data.seeds import generator


def unanimous_groups(
    nodes: int = 1000, hyperedges: int = 1500, share: float = 0.61, noise: float = 0.4, width: int = 8, seed: int = 0
) -> Any:
    """`Data` with x (N, width), y in {0, 1}, bit (N,), hyperedge_index of groups of 3 to 5, and masks of 40, 20 and 40 %.

    Every node has a random bit, 1 with probability `share`; x is the bit, as ±1 in a random direction, under noise. Positive are the
    nodes of groups whose members all have the bit 1; the defaults make about half of them so.
    """
    from torch_geometric.data import Data

    if nodes < 10 or hyperedges < 1 or not 0 < share < 1:
        raise ValueError(
            f"10 nodes or more, 1 hyperedge or more and a share between 0 and 1 are needed, got {nodes}, {hyperedges}, {share}."
        )
    g = generator(seed, "unanimous")
    bit = torch.rand(nodes, generator=g) < share
    sizes = torch.randint(3, 6, (hyperedges,), generator=g)
    groups = [torch.randperm(nodes, generator=g)[:n] for n in sizes.tolist()]
    positive = torch.cat([group for group in groups if bit[group].all()] or [groups[0][:0]])
    y = torch.zeros(nodes, dtype=torch.long).index_fill(0, positive, 1)
    direction = normalize(torch.randn(width, generator=g), dim=0)
    x = (2 * bit.float() - 1).unsqueeze(1) * direction + noise * torch.randn(nodes, width, generator=g)
    index = torch.stack([torch.cat(groups), torch.arange(hyperedges).repeat_interleave(sizes)])
    data = Data(x=x, y=y, bit=bit, hyperedge_index=index, num_nodes=nodes)
    order, a, b = torch.randperm(nodes, generator=g), int(0.4 * nodes), int(0.6 * nodes)
    for part, rows in (("train", order[:a]), ("val", order[a:b]), ("test", order[b:])):
        data[f"{part}_mask"] = torch.zeros(nodes, dtype=torch.bool).index_fill(0, rows, True)
    return data


def random_groups(
    nodes: int, hyperedges: int, smallest: int = 2, largest: int = 20, seed: int = 0
) -> Int64[Tensor, "2 M"]:
    """Memberships of random groups whose sizes are uniform; a node may be drawn twice into one."""
    if nodes < 1 or hyperedges < 1 or not 1 <= smallest <= largest:
        raise ValueError(
            f"nodes, hyperedges and sizes must be 1 or more, got {nodes}, {hyperedges} and {smallest} to {largest}."
        )
    g = generator(seed, "groups")
    sizes = torch.randint(smallest, largest + 1, (hyperedges,), generator=g)
    members = torch.randint(nodes, (int(sizes.sum()),), generator=g)
    return torch.stack([members, torch.arange(hyperedges).repeat_interleave(sizes)])
