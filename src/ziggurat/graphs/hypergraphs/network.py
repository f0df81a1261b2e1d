"""One hypergraph network with the choices of the survey: input features, input structure and message passing, each made on its own.

    features:   given, or from the structure (`hypergraph_features`)
    structure:  reduced to the graph of cliques, or kept as nodes and hyperedges
    messages:   the graph convolution on cliques; HGNN, HNHN, UniGCN, AllDeepSets, AllSet or ED-HNN on the hypergraph

S. Kim, S. Y. Lee, Y. Gao, A. Antelmi, M. Polato, K. Shin, A Survey on Hypergraph Neural Networks: An In-Depth and Step-By-Step Guide, 2024,
arXiv:2404.01039.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from ziggurat.graphs.embeddings.deepwalk import DeepWalk
from ziggurat.graphs.hypergraphs.convolutions import (
    AllDeepSetsConv,
    AllSetTransformerConv,
    EDHNNConv,
    HNHNConv,
    UniGCNConv,
    with_self_loops,
)
from ziggurat.graphs.hypergraphs.hgnn import HGNNConv, hypergraph_operator
from ziggurat.graphs.hypergraphs.incidence import (
    check_incidence,
    clique_expansion,
    count_hyperedges,
    hyperedge_sizes,
    node_degrees,
    to_nodes,
)
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged

CONVOLUTIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "hgnn": HGNNConv,
    "hnhn": HNHNConv,
    "unigcn": UniGCNConv,
    "alldeepsets": AllDeepSetsConv,
    "allset": AllSetTransformerConv,
    "edhnn": EDHNNConv,
}
"""Of the structure "star"; that of the cliques has the graph convolution, "gcn"."""


class HypergraphNetwork(Staged):
    """A linear layer, convolutions with ReLU and dropout, and a linear classifier.

    Arguments:
        in_features: width of the nodes' features.
        num_classes: 0 gives features.
        conv: a name of `CONVOLUTIONS`, or "gcn" for the two clique structures.
        structure: "star" keeps nodes and hyperedges; "clique" joins the members of a hyperedge with weight 1, "share" with
            Σ_e 1 / (|e| − 1).
        width, depth: of the convolutions.
        dropout: behind every ReLU.
        self_loops: a hyperedge of its own for every node, whatever the convolution.

    Shapes: x (N, in_features), hyperedge_index (2, M) -> (N, num_classes). Weights of hyperedges are refused: most of the
    convolutions have no place for them.
    """

    input = "hypergraph"
    sequential = False

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        conv: Literal["hgnn", "hnhn", "unigcn", "alldeepsets", "allset", "edhnn", "gcn"] = "allset",
        structure: Literal["star", "clique", "share"] = "star",
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.5,
        self_loops: bool = True,
    ) -> None:
        super().__init__()
        if structure not in ("star", "clique", "share"):
            raise ValueError(f"structure must be 'star', 'clique' or 'share', got {structure!r}.")
        known = ("gcn",) if structure != "star" else tuple(CONVOLUTIONS)
        if conv not in known:
            raise ValueError(f"conv must be one of {', '.join(known)} for the structure {structure!r}, got {conv!r}.")
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        make: Callable[[int, int], nn.Module] = GCNConv if structure != "star" else CONVOLUTIONS[conv]
        self.conv, self.structure, self.self_loops = conv, structure, self_loops
        self.stem = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Dropout(dropout))
        self.stages = nn.ModuleList(make(width, width) for _ in range(depth))
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(depth - 1))
        self.channels, self.num_features = (width,) * depth, width
        self.head = Classifier(width, num_classes, pool="none", dropout=dropout)

    def context(self, x: Tensor, start: Tensor, hyperedge_index: Tensor) -> tuple[Tensor | None, ...]:
        """What every convolution gets besides the features."""
        if self.structure != "star":  # the graph convolution brings its own loops
            return clique_expansion(hyperedge_index, len(x), "one" if self.structure == "clique" else "share")
        index = with_self_loops(hyperedge_index, len(x)) if self.self_loops else hyperedge_index
        return (index, start) if self.conv == "edhnn" else (index,)

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
    ) -> list[Tensor]:
        check_incidence(hyperedge_index, len(x))
        if hyperedge_weight is not None:
            raise ValueError("HypergraphNetwork takes no weights of hyperedges; leave them out, or use HGNN.")
        x = self.stem(x)
        given = self.context(x, x, hyperedge_index)
        if self.structure != "star":
            given = (given[0], given[1].to(x.dtype))  # type: ignore[union-attr]
        features: list[Tensor] = []
        for i, layer in enumerate(self.stages):
            x = layer(self.dropouts[i - 1](x) if i else x, *given).relu()
            features.append(x)
        return features

    def forward(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, hyperedge_index, hyperedge_weight))

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam with a little weight decay."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.003, weight_decay=weight_decay))


def hypergraph_features(
    hyperedge_index: Int64[Tensor, "2 M"],
    num_nodes: int,
    kind: Literal["counts", "spectral", "walks", "identity"] = "counts",
    dimensions: int = 16,
    random_state: int = 0,
) -> Float[Tensor, "N F"]:
    """Features of nodes that have none of their own, from the structure.

    Arguments:
        kind: "counts": degree and its logarithm, mean, least and largest size of a node's hyperedges, standardised; "spectral": the
            leading eigenvectors of HGNN's operator but the first; "walks": DeepWalk on the clique graph; "identity": one-hot names.
        dimensions: of the last but the identity.
        random_state: of the walks.
    """
    check_incidence(hyperedge_index, num_nodes)
    if kind not in ("counts", "spectral", "walks", "identity"):
        raise ValueError(f"kind must be counts, spectral, walks or identity, got {kind!r}.")
    if kind == "identity":
        return torch.eye(num_nodes)
    if kind == "counts":
        node, edge = hyperedge_index
        count = count_hyperedges(hyperedge_index)
        size = hyperedge_sizes(hyperedge_index, count).float()
        degree, mean = node_degrees(hyperedge_index, num_nodes), to_nodes(size.unsqueeze(1), hyperedge_index, num_nodes)
        zeros = torch.zeros(num_nodes)
        least, largest = (
            zeros.scatter_reduce(0, node, size[edge], how, include_self=False) for how in ("amin", "amax")
        )
        x = torch.stack([degree, degree.log1p(), mean[:, 0], least, largest], 1)
        return (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-6)
    if not 0 < dimensions < num_nodes:
        raise ValueError(f"dimensions must be between 1 and the {num_nodes} nodes less one, got {dimensions}.")
    if kind == "spectral":
        edges, weight = hypergraph_operator(hyperedge_index, num_nodes)
        matrix = sparse.coo_matrix((weight.double(), edges.numpy()), (num_nodes, num_nodes)).toarray()
        vectors = np.linalg.eigh((matrix + matrix.T) / 2)[1][:, ::-1][:, 1 : dimensions + 1]
        largest_entry = vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])]
        return torch.from_numpy(vectors * np.sign(largest_entry)).float()  # an eigenvector has no sign of its own
    edges, _ = clique_expansion(hyperedge_index, num_nodes)
    graph = Data(edge_index=edges, num_nodes=num_nodes)
    return torch.from_numpy(np.asarray(DeepWalk(dimensions, random_state=random_state).fit(graph).embedding_))
