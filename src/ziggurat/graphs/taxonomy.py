"""The four families of graph neural networks, and a factory that gives a member of any family a head for nodes, pairs or whole graphs.

    recurrent          one map with shared weights, applied until it rests or for a number of steps
    convolutional      spectral, as filters of the Laplacian, or spatial, as messages between neighbours
    autoencoders       embeddings from which the links are read
    spatial-temporal   signals that move along a graph

The table holds the members that are in this library and tested, not all that the survey names.

Z. Wu, S. Pan, F. Chen, G. Long, C. Zhang, P. S. Yu, A Comprehensive Survey on Graph Neural Networks, 2019, arXiv:1901.00596.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.autoencoders.gae import GAE, VGAE
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.convolutions.chebnet import ChebNet
from ziggurat.graphs.convolutions.citation_gat import CitationGAT
from ziggurat.graphs.convolutions.graphsage import GraphSAGE
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.recurrent.fixed_point import FixedPointGNN
from ziggurat.graphs.recurrent.gated import GatedGNN
from ziggurat.graphs.temporal.dcrnn import DCRNN
from ziggurat.graphs.temporal.stgcn import STGCN

Task = Literal["node", "edge", "graph"]


def gnn_taxonomy() -> dict[str, tuple[type[nn.Module], ...]]:
    """Category -> the classes of this library that belong to it; the first of each is the one that `make_gnn` takes by default."""
    return {
        "recurrent": (GatedGNN, FixedPointGNN),
        "spectral convolutional": (GCN, ChebNet),
        "spatial convolutional": (GraphSAGE, CitationGAT),
        "autoencoders": (GAE, VGAE),
        "spatial-temporal": (DCRNN, STGCN),
    }


class GraphLevel(nn.Module):
    """One row of outputs for each graph: the mean over its nodes in front of the network's classifier.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,), batch (N,) -> (graphs, outputs); without `batch` all nodes are one graph.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "G C"]:
        if batch is None:
            batch = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.network(x, edge_index, edge_weight, batch)


class EdgeLevel(nn.Module):
    """A row of outputs for each pair of nodes, the same in both orders: a linear layer on the product of their representations.

    Arguments:
        encoder: gives a row of `encoder.num_features` for each node.
        outputs: columns.

    Shapes: x (N, F), edge_index (2, E), pairs (2, P) -> (P, outputs).
    """

    def __init__(self, encoder: nn.Module, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.num_features, outputs)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], pairs: Int64[Tensor, "2 P"]
    ) -> Float[Tensor, "P C"]:
        check_edges(pairs, len(x))
        h = self.encoder(x, edge_index)
        return self.linear(h[pairs[0]] * h[pairs[1]])


def make_gnn(
    category: str, task: Task, in_features: int, outputs: int = 1, member: str | None = None, width: int = 16
) -> nn.Module:
    """A network of a category for a task.

    Arguments:
        category: a key of `gnn_taxonomy`.
        task: "node" gives (N, outputs); "edge" takes pairs (2, P) behind x and edge_index and gives (P, outputs); "graph" gives
            (graphs, outputs). Autoencoders have the task "edge" only, with their one logit (P,) of a link. Spatial-temporal networks have
            the task "node" only: from (B, 12, N, in_features) to (B, outputs, N, in_features), outputs being steps of the forecast.
        in_features: columns of x.
        outputs: classes, or numbers to be predicted.
        member: name of the class; None takes the first of the category.
        width: of the hidden layer (of each of eight heads, for attention).
    """
    table = gnn_taxonomy()
    if category not in table:
        raise ValueError(f"there is no category {category!r}; take one of {', '.join(table)}.")
    if task not in get_args(Task):
        raise ValueError(f"task must be 'node', 'edge' or 'graph', got {task!r}.")
    names = {cls.__name__: cls for cls in table[category]}
    if member is not None and member not in names:
        raise ValueError(f"{category} has no member {member!r}; it has {', '.join(names)}.")
    if outputs < 1:
        raise ValueError(f"outputs must be 1 or more, got {outputs}.")
    cls = names[member or next(iter(names))]
    only = {"autoencoders": "edge", "spatial-temporal": "node"}.get(category, task)
    if task != only:
        raise ValueError(f"{category} networks have the task {only!r} only, not {task!r}; take another category.")
    if issubclass(cls, GAE):
        if outputs != 1:
            raise ValueError(f"an autoencoder has one output, whether a pair is linked; got outputs={outputs}.")
        return cls(in_features, 2 * width, width)
    if cls is DCRNN:
        return DCRNN(in_features, outputs, width)
    if cls is STGCN:
        return STGCN(in_features, 12, outputs, 4 * width, width)
    if task == "edge":
        return EdgeLevel(cls(in_features, 0, width), outputs)
    network = cls(in_features, outputs, width)
    return GraphLevel(network) if task == "graph" else network
