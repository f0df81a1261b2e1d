"""A graph as a hypergraph: its edges, and the neighbourhood of every node."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.graphs.propagation import check_edges


def graph_hyperedges(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> Int64[Tensor, "2 M"]:
    """One hyperedge for each pair that is joined, direction and repetition ignored; then one a node, of itself and its neighbours."""
    check_edges(edge_index, num_nodes)
    plain = edge_index[:, edge_index[0] != edge_index[1]]
    both = torch.unique(torch.cat([plain, plain.flip(0)], 1), dim=1)
    pairs = both[:, both[0] < both[1]]
    count = pairs.shape[1]
    names = torch.arange(count, device=edge_index.device).repeat(2)
    nodes = torch.arange(num_nodes, device=edge_index.device)
    around = torch.cat([both, nodes.expand(2, -1)], 1)
    return torch.cat([torch.stack([pairs.flatten(), names]), torch.stack([around[0], around[1] + count])], 1)
