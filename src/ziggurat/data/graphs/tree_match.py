"""Trees whose root must find a leaf: the task that shows how much of far nodes reaches a node (TreeNeighboursMatch, with random bits).

U. Alon, E. Yahav, On the Bottleneck of Graph Neural Networks and its Practical Implications, 2020, arXiv:2006.05205.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ziggurat.data.seeds import generator


class TreeMatch(NamedTuple):
    """Trees of one shape; node 0 is the root, the children of i are 2i + 1 and 2i + 2.

    Fields:
        edge_index: (2, nodes − 1), from child to parent, the same for all trees.
        x: one-hot key and one-hot value of each node (trees, nodes, leaves + 1 + 3); key and value 0 are "none".
        labels: the value that the root must say, 0 or 1.
    """

    edge_index: Int64[Tensor, "2 E"]
    x: Float[Tensor, "B N F"]
    labels: Int64[Tensor, " B"]


def tree_match(depth: int, count: int, seed: int = 0) -> TreeMatch:
    """Trees of a depth: leaf i has the fixed key i + 1 and a random bit, the root a random key, and the label is that leaf's bit."""
    if depth < 1 or count < 1:
        raise ValueError(f"depth and count must be 1 or more, got {depth} and {count}.")
    g, leaves = generator(seed, "tree match"), 2**depth
    nodes = 2 * leaves - 1
    bits, wanted = torch.randint(2, (count, leaves), generator=g), torch.randint(leaves, (count,), generator=g)
    keys, values = torch.zeros(count, nodes, dtype=torch.int64), torch.zeros(count, nodes, dtype=torch.int64)
    keys[:, leaves - 1 :], values[:, leaves - 1 :] = torch.arange(leaves) + 1, bits + 1
    keys[:, 0] = wanted + 1
    one_hot = torch.nn.functional.one_hot
    x = torch.cat([one_hot(keys, leaves + 1), one_hot(values, 3)], 2).float()
    child = torch.arange(1, nodes)
    return TreeMatch(torch.stack([child, (child - 1) // 2]), x, bits.gather(1, wanted[:, None])[:, 0])
