"""Graphs with less to learn from: fewer labels, fewer edges, fewer features."""

from __future__ import annotations

from typing import Any

import torch

from ziggurat.data.seeds import generator


def fewer_labels(graph: Any, labels: int, seed: int = 0) -> Any:
    """A shallow copy whose `train_mask` has `labels` random nodes of every class among those of the old one; the others lose their mask.

    A `ValueError` where a class has fewer.
    """
    nodes = graph.train_mask.nonzero().flatten()
    nodes = nodes[torch.randperm(len(nodes), generator=generator(seed, "fewer labels"))]
    kept = [nodes[graph.y[nodes] == c][:labels] for c in torch.unique(graph.y[nodes]).tolist()]
    poorest = min((len(part) for part in kept), default=0)
    if labels < 1 or poorest < labels:
        raise ValueError(
            f"labels must be 1 or more, and every class needs as many; got {labels}, and {poorest} there are."
        )
    copy = graph.clone()
    copy.train_mask = torch.zeros_like(graph.train_mask).index_fill(0, torch.cat(kept), True)
    return copy


def fewer_edges(graph: Any, share: float, seed: int = 0) -> Any:
    """A shallow copy with a random `share` of the edges; both directions of an undirected edge stay or go together."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, got {share}.")
    low, high = graph.edge_index.min(0).values, graph.edge_index.max(0).values
    pairs, place = torch.unique(low * graph.num_nodes + high, return_inverse=True)
    order = torch.randperm(len(pairs), generator=generator(seed, "fewer edges"))
    kept = torch.zeros(len(pairs), dtype=torch.bool).index_fill(0, order[: round(share * len(pairs))], True)[place]
    copy = graph.clone()
    copy.edge_index = graph.edge_index[:, kept]
    if graph.edge_weight is not None:
        copy.edge_weight = graph.edge_weight[kept]
    return copy


def commonest_features(graph: Any, count: int) -> Any:
    """A shallow copy with the `count` columns of `x` of largest sum, for instance the commonest words, the commonest first."""
    copy = graph.clone()
    copy.x = graph.x[:, graph.x.sum(0).argsort(descending=True, stable=True)[:count]]
    return copy
