"""Neural architecture retrieval: motifs and the graph of motifs are embedded by contrast, and similar networks are found by the cosine.

Level 1 teaches an encoder f of motifs and an encoder g of contexts to tell a motif's own context from another one's. Level 2 embeds the
macro graph, whose nodes are the motifs with f's vectors, which it leaves alone, so that architectures of one class lie close:

    L_1 = BCE(σ(w [f(m), g(c_m)]), 1) + BCE(σ(w [f(m), g(c_m')]), 0)
    L_2 = −log( Σ_{same class} e^cos / Σ_{all pairs} e^cos ) + CE(class)

X. Pei, Y. Li, M. Dong, C. Xu, Neural Architecture Retrieval, 2023, arXiv:2307.07919.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, elu, normalize, softplus
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv

from ziggurat.architect.retrieval.motifs import MotifGraphs, Starts, motif_graphs, motif_starts
from ziggurat.architect.retrieval.tracing import OPERATORS
from ziggurat.data.seeds import derive, generator
from ziggurat.memory.indexes import ExactIndex


class PooledGCN(nn.Module):
    """Two graph convolutions with ELU, and the mean over the nodes of each part.

    Shapes: x (N, in_features), edge_index (2, E), owner (N,) in 0 … count − 1 -> (count, width).
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = GCNConv(in_features, width), GCNConv(width, width)

    def forward(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], owner: Int64[Tensor, " N"], count: int
    ) -> Float[Tensor, "G W"]:
        h = elu(self.conv2(elu(self.conv1(x, edge_index)), edge_index))
        total = h.new_zeros(count, h.shape[1]).index_add(0, owner, h)
        return total / torch.bincount(owner, minlength=count).clamp_min(1).to(h.dtype)[:, None]


def class_contrast(embeddings: Float[Tensor, "B D"], labels: Int64[Tensor, " B"]) -> Float[Tensor, ""]:
    """−log( Σ over pairs of one class of e^cos / Σ over all pairs of e^cos ), a pair being two different samples."""
    unit = normalize(embeddings, dim=1)
    row, col = torch.triu_indices(len(unit), len(unit), 1)
    cosine, same = (unit @ unit.T)[row, col], labels[row] == labels[col]
    if not same.any():
        return cosine.sum() * 0  # nothing to draw together
    return cosine.logsumexp(0) - cosine[same].logsumexp(0)


class ArchitectureEncoder(nn.Module):
    """Embeds architectures.

    Arguments:
        width: of every layer and of the embedding (paper: 256).
        num_classes: of architectures, for the second part of L_2; the classifier is for training alone.
        in_features: kinds of operators.
        starts: where motifs begin; others than `motif_starts` are for comparison.

    Shapes: graphs in topological order, as a list or a `Batch` of `Data` -> (B, width).
    """

    def __init__(
        self, num_classes: int, width: int = 256, in_features: int = len(OPERATORS), starts: Starts = motif_starts
    ) -> None:
        super().__init__()
        if num_classes < 1 or width < 1:
            raise ValueError(f"num_classes and width must be 1 or more, got {num_classes} and {width}.")
        self.starts = starts
        self.motifs, self.contexts = PooledGCN(in_features, width), PooledGCN(in_features, width)
        self.match = nn.Linear(2 * width, 1)
        self.macro, self.classifier = PooledGCN(width, width), nn.Linear(width, num_classes)

    def prepare(self, graphs: Any) -> MotifGraphs:
        """Motifs of a list or a `Batch` of graphs."""
        return motif_graphs(graphs.to_data_list() if isinstance(graphs, Batch) else list(graphs), self.starts)

    def embed_motifs(self, given: MotifGraphs) -> Float[Tensor, "M W"]:
        """f of every motif."""
        nodes, edges, owner = given.motif
        return self.motifs(given.x[nodes], edges, owner, len(given.owner))

    def motif_loss(self, given: MotifGraphs) -> Float[Tensor, ""]:
        """L_1; the other context is that of the motif half the list further on."""
        own = self.embed_motifs(given)
        nodes, edges, owner = given.context
        around = self.contexts(given.x[nodes], edges, owner, len(given.owner))
        right, wrong = (self.match(torch.cat([own, c], 1)) for c in (around, around.roll(len(around) // 2, 0)))
        return softplus(-right).mean() + softplus(wrong).mean()

    def embed_macro(
        self, motifs: Float[Tensor, "M W"], edges: Int64[Tensor, "2 L"], owner: Int64[Tensor, " M"], count: int
    ) -> Float[Tensor, "B W"]:
        """Architectures from f's vectors, which take no gradient."""
        return self.macro(motifs.detach(), edges, owner, count)

    def macro_loss(self, embeddings: Float[Tensor, "B W"], labels: Int64[Tensor, " B"]) -> Float[Tensor, ""]:
        """L_2."""
        return class_contrast(embeddings, labels) + cross_entropy(self.classifier(embeddings), labels)

    def forward(self, graphs: Any) -> Float[Tensor, "B W"]:
        given = self.prepare(graphs)
        return self.embed_macro(self.embed_motifs(given), given.macro_edges, given.owner, given.count)


def train_encoder(
    encoder: ArchitectureEncoder,
    graphs: Sequence[Data],
    labels: Int64[Tensor, " B"],
    motif_epochs: int = 10,
    macro_epochs: int = 50,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
) -> ArchitectureEncoder:
    """Trains level 1, then level 2 on its fixed vectors, each by Adam; returns the encoder for evaluation."""
    parts = [encoder.prepare([graph]) for graph in graphs]

    def epochs(count: int, name: str, parameters: list) -> Any:
        optimizer = torch.optim.Adam(parameters, lr)
        for epoch in range(count):
            for rows in torch.randperm(len(graphs), generator=generator(seed, name, epoch)).split(batch_size):
                if len(rows) > 1:
                    optimizer.zero_grad()
                    yield rows
                    optimizer.step()

    encoder.train()
    first = [*encoder.motifs.parameters(), *encoder.contexts.parameters(), *encoder.match.parameters()]
    for rows in epochs(motif_epochs, "motifs", first):
        encoder.motif_loss(encoder.prepare([graphs[i] for i in rows.tolist()])).backward()
    with torch.no_grad():
        vectors = [encoder.embed_motifs(part) for part in parts]
    for rows in epochs(macro_epochs, "macro", [*encoder.macro.parameters(), *encoder.classifier.parameters()]):
        some = [i for i in rows.tolist()]
        sizes = torch.tensor([len(vectors[i]) for i in some])
        shift = (sizes.cumsum(0) - sizes).tolist()
        edges = torch.cat([parts[i].macro_edges + s for i, s in zip(some, shift, strict=True)], 1)
        owner = torch.arange(len(some)).repeat_interleave(sizes)
        embedded = encoder.embed_macro(torch.cat([vectors[i] for i in some]), edges, owner, len(some))
        encoder.macro_loss(embedded, labels[rows]).backward()
    return encoder.eval()


class ArchitectureIndex:
    """Architectures by their embeddings of length 1; the most similar ones by the cosine.

    Arguments:
        encoder: anything that embeds a list of graphs.
        width: of its embeddings.
    """

    def __init__(self, encoder: nn.Module, width: int = 256) -> None:
        self.encoder, self.index = encoder, ExactIndex(width, "cosine")
        self.ids: list[str | int] = []

    @torch.no_grad()
    def embed(self, graphs: Sequence[Data]) -> np.ndarray:
        """Vectors (B, width) float32."""
        return self.encoder(list(graphs)).float().numpy()

    def add(self, ids: Sequence[str | int], graphs: Sequence[Data]) -> None:
        """Adds architectures, as graphs of `computation_graph`, under new names."""
        if len(ids) != len(graphs):
            raise ValueError(f"{len(ids)} ids for {len(graphs)} architectures; give one each.")
        if taken := set(ids) & set(self.ids):
            raise ValueError(f"{next(iter(taken))!r} is in the index already; choose another id.")
        self.index.add(np.arange(len(ids)) + len(self.ids), self.embed(graphs))
        self.ids += ids

    def search(self, graph: Data, k: int = 10) -> tuple[list[str | int], np.ndarray]:
        """Ids of the k most similar architectures and their cosines, the largest first."""
        keys, distance = self.index.search(self.embed([graph]), k)
        return [self.ids[key] for key in keys[0].tolist()], 1 - distance[0]


def random_starts(seed: int, low: int = 5, high: int = 10) -> Starts:
    """Motifs of random lengths, low to high operators, instead of found ones: the same ones for the same graph."""

    def starts(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> np.ndarray:
        rng = np.random.default_rng(derive(seed, num_nodes, int(edge_index.sum())))
        ends = np.cumsum(rng.integers(low, high + 1, size=num_nodes // low + 1))
        return np.concatenate([[0], ends[ends < num_nodes]]).astype(np.int64)

    return starts
