"""Training of networks of pairs: the links that a step asks for are taken out of the graph that it sees."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.data.seeds import derive, generator
from ziggurat.graphs.links import random_non_edges, undirected_pairs, without_links

Network = TypeVar("Network", bound=nn.Module)


def fit_links(
    network: Network,
    x: Float[Tensor, "N F"],
    edge_index: Int64[Tensor, "2 E"],
    epochs: int = 100,
    batch_size: int = 1024,
    lr: float = 4e-3,
    predictor_lr: float = 2e-3,
    remove_targets: bool = True,
    seed: int = 0,
) -> Network:
    """Trains `network(x, edge_index, pairs) -> logits` on a graph's links and as many new unlinked pairs; returns it for evaluation.

    Arguments:
        edge_index: the edges that may be seen, both directions.
        batch_size: links a step.
        lr, predictor_lr: of Adam, for `network.encoder` and for the rest.
        remove_targets: takes the links of a batch out of the graph, both directions. Without it a network learns that linked nodes see
            each other, which no pair of a test does.

    The loss is the mean of −log σ(s) over links plus that of −log σ(−s) over pairs without one.
    """
    links = undirected_pairs(edge_index, len(x))
    if not links.shape[1]:
        raise ValueError("edge_index holds no links to learn from; give a graph with at least one.")
    inner = {id(p) for p in network.encoder.parameters()}  # type: ignore[union-attr, operator]
    groups = [[p for p in network.parameters() if (id(p) in inner) == there] for there in (True, False)]
    optimizer = torch.optim.Adam([{"params": groups[0], "lr": lr}, {"params": groups[1], "lr": predictor_lr}])
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "fit_links"))
        for epoch in range(epochs):
            order = torch.randperm(links.shape[1], generator=generator(derive(seed, epoch), "links"))
            unlinked = random_non_edges(edge_index, len(x), len(order), derive(seed, epoch))
            mixed = unlinked[:, torch.randperm(len(order), generator=generator(derive(seed, epoch), "unlinked"))]
            for rows, negative in zip(order.split(batch_size), mixed.split(batch_size, 1), strict=True):
                positive = links[:, rows]
                seen = without_links(edge_index, None, positive, len(x))[0] if remove_targets else edge_index
                optimizer.zero_grad()
                scores = network(x, seen, torch.cat([positive, negative], 1))
                yes, no = scores.split([positive.shape[1], negative.shape[1]])
                loss = nn.functional.softplus(-yes).mean() + nn.functional.softplus(no).mean()
                loss.backward()
                optimizer.step()
    return network.eval()


@torch.no_grad()
def score_pairs(
    network: nn.Module,
    x: Float[Tensor, "N F"],
    edge_index: Int64[Tensor, "2 E"],
    pairs: Int64[Tensor, "2 P"],
    batch_size: int = 2048,
) -> Float[Tensor, " P"]:
    """Logits of many pairs, in evaluation mode."""
    network.eval()
    return torch.cat([network(x, edge_index, part) for part in pairs.split(batch_size, 1)])
