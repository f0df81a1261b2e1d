"""Validation nodes for graphs and hypergraphs that are published with training and test nodes only."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.seeds import generator


def hold_out(graph: Any, count: int, seed: int = 0) -> Any:
    """A shallow copy whose `val_mask` has `count` random nodes of the test part, which loses them.

    Arguments:
        graph: `Data` with `train_mask` and `test_mask`.
        count: validation nodes.
        seed: of the draw.
    """
    return _without(graph, _shuffled(graph, seed), count)


def hold_out_by_class(graph: Any, count: int, seed: int = 0) -> Any:
    """The same with `count` nodes of every class."""
    nodes = _shuffled(graph, seed)
    own = [nodes[graph.y[nodes] == c] for c in torch.unique(graph.y[graph.y >= 0]).tolist()]
    poorest = min(len(part) for part in own)
    if poorest <= count:
        raise ValueError(f"a class has {poorest} test nodes; fewer than that can be held out, not {count}.")
    return _without(graph, torch.cat([part[:count] for part in own]), count * len(own))


def _shuffled(graph: Any, seed: int) -> Int64[Tensor, " T"]:
    nodes = graph.test_mask.nonzero().flatten()
    return nodes[torch.randperm(len(nodes), generator=generator(seed, "held out"))]


def _without(graph: Any, nodes: Int64[Tensor, " T"], count: int) -> Any:
    free = int(graph.test_mask.sum())
    if not 0 < count < free:
        raise ValueError(f"of {free} test nodes between 1 and {free - 1} can be held out, not {count}.")
    copy = graph.clone()
    copy.val_mask = torch.zeros_like(graph.test_mask).index_fill(0, nodes[:count], True)
    copy.test_mask = graph.test_mask & ~copy.val_mask
    return copy
