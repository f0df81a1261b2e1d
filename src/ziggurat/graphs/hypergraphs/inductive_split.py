"""A hypergraph without some of its nodes, which come only when it is tested: the setting of production."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch_geometric.data import Data

from ziggurat.data.seeds import generator
from ziggurat.graphs.hypergraphs.incidence import add_singletons


def inductive_split(graph: Any, share: float = 0.2, seed: int = 0) -> tuple[Any, Int64[Tensor, " n"]]:
    """The hypergraph of all nodes but a share of the test part, numbered anew, and the nodes that it lacks.

    Arguments:
        graph: `Data` with x, y, hyperedge_index and the masks of the three parts.
        share: of the test nodes that are taken away with their memberships.
        seed: of the draw.

    Hyperedges that lose all members are gone; who has no hyperedge left gets one of its own.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}.")
    tests = graph.test_mask.nonzero().flatten()
    away = tests[torch.randperm(len(tests), generator=generator(seed, "away"))[: int(share * len(tests))]]
    stay = torch.ones_like(graph.test_mask).index_fill(0, away, False)
    node, edge = graph.hyperedge_index[:, stay[graph.hyperedge_index[0]]]
    count = int(stay.sum())
    index = torch.stack([(stay.cumsum(0) - 1)[node], torch.unique(edge, return_inverse=True)[1]])
    masks = {f"{part}_mask": graph[f"{part}_mask"][stay] for part in ("train", "val", "test")}
    seen = Data(
        x=graph.x[stay], y=graph.y[stay], hyperedge_index=add_singletons(index, count), num_nodes=count, **masks
    )
    return seen, away
