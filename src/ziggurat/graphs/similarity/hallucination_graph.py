"""Hallucinations by their neighbours: generations that lie close to each other are nodes of one graph, and attention over it grades them.

Texts are joined where the cosine of their embeddings is high. An embedder trained by supervised contrast comes first, then one layer of
graph attention gives cumulative bits of an ordinal level, from 0 (faithful) to L − 1 (fully hallucinated); new texts join the graph and
are graded without training:

    z = W_2 ReLU(W_1 x),   h = W_3 z,   logits_i = mean over heads of Σ_{j ∈ N(i) ∪ {i}} α_ij W h_j,   α from (h_i, h_j, cos_ij)

N. Nonkes, S. Agaronian, E. Kanoulas, R. Petcu, Leveraging Graph Structures to Detect Hallucinations in Large Language Models, 2024,
arXiv:2407.04485.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.base import BaseEstimator
from sklearn.metrics import recall_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity
from torch_geometric.data import Data
from torch_geometric.nn import GATConv

from ziggurat.data.batch import Batch
from ziggurat.data.datasets import Table
from ziggurat.data.feeds import Labelled, WholeGraph, feed
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.similarity.ordinal import decode_levels, ordinal_targets
from ziggurat.graphs.similarity.semantic_graph import SemanticSimilarityGraph, unit_rows
from ziggurat.nn.best_step import BestStep
from ziggurat.nn.fitting import fit
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.supcon import SupConLoss
from ziggurat.nn.recipe import Recipe, cosine

EMBEDDING, EVERY = 128, 5
"""Width of the embedder's output, and steps between two looks at the validation nodes."""


class Embedder(nn.Sequential):
    """Linear d → d, ReLU, linear d → 128. Shapes: (N, d) -> (N, 128)."""

    def __init__(self, in_features: int) -> None:
        super().__init__(nn.Linear(in_features, in_features), nn.ReLU(), nn.Linear(in_features, EMBEDDING))


class OrdinalGAT(nn.Module):
    """Embedder, linear 128 → width, and one layer of graph attention whose heads are averaged: a logit for every bit of the level.

    Arguments:
        in_features: d of the texts' embeddings.
        levels: L; there are L − 1 bits.
        width, heads: of the attention.
        dropout: on the attention coefficients.

    Shapes: x (N, d), edge_index (2, E), edge_weight (E,), the cosines (computed from x where they are not given) -> (N, L − 1).
    """

    input = "graph"

    def __init__(
        self, in_features: int, levels: int = 4, width: int = 32, heads: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"there must be 2 levels or more, got {levels}.")
        self.embedder = Embedder(in_features)
        self.linear = nn.Linear(EMBEDDING, width)
        # a text's similarity to itself is 1: the weight of the loops that the layer adds
        self.attention = GATConv(width, levels - 1, heads, concat=False, dropout=dropout, edge_dim=1, fill_value=1.0)

    def forward(
        self,
        x: Float[Tensor, "N d"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N bits"]:
        check_edges(edge_index, len(x))
        if edge_weight is None:
            edge_weight = cosine_similarity(x[edge_index[0]], x[edge_index[1]], dim=1)
        return self.attention(self.linear(self.embedder(x)), edge_index, edge_weight.to(x.dtype)[:, None])


class ContrastiveEmbedding(Learner):
    """The first stage: texts of one level are drawn together, by AdamW at 1e-4 on a cosine."""

    def __init__(self, network: nn.Module, temperature: float = 0.07, lr: float | None = None) -> None:
        super().__init__(network, lr)
        self.contrast = SupConLoss(temperature)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"contrast": self.contrast(self.network(*batch.inputs), batch.target)}

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or 1e-4, weight_decay=1e-4), cosine)


class OrdinalLevels(Learner):
    """The second stage: binary cross-entropy of every bit, by Adam at 1e-3 with weight decay 5e-4."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        bits = batch.pick(self.network(*batch.inputs))
        wanted = ordinal_targets(batch.target, bits.shape[1] + 1)
        return {"ordinal": binary_cross_entropy_with_logits(bits, wanted, reduction="none").mean(1)}

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3, weight_decay=5e-4))


def among(graph: Data, nodes: Bool[Tensor, " N"]) -> Data:
    """The part of a graph that some nodes are: every edge that touches another node is gone, and with it what it could tell."""
    place = nodes.cumsum(0) - 1
    keep = nodes[graph.edge_index].all(0)
    weight = None if graph.edge_weight is None else graph.edge_weight[keep]
    return Data(x=graph.x[nodes], y=graph.y[nodes], edge_index=place[graph.edge_index[:, keep]], edge_weight=weight)


class HallucinationGAT(BaseEstimator):
    """Grades texts by the graph of those that are known.

    Arguments:
        threshold: of the cosine, from which a new text is joined to another one.
        levels: L.
        contrastive_epochs: of the first stage; 0 leaves it out.
        steps: of the second stage, each on the whole graph; the one with the best macro recall on the validation nodes counts.
        width, heads, dropout: of `OrdinalGAT`.
        temperature, batch_size: of the contrast.
        random_state: of the weights and the order.

    After `fit`: `network_`, and `known_`, the embeddings of the training and validation nodes that new texts are joined to.
    """

    def __init__(
        self,
        threshold: float = 0.85,
        levels: int = 4,
        contrastive_epochs: int = 50,
        steps: int = 500,
        width: int = 32,
        heads: int = 2,
        dropout: float = 0.2,
        temperature: float = 0.07,
        batch_size: int = 256,
        random_state: int = 0,
    ) -> None:
        self.threshold, self.levels, self.contrastive_epochs, self.steps = threshold, levels, contrastive_epochs, steps
        self.width, self.heads, self.dropout, self.temperature = width, heads, dropout, temperature
        self.batch_size, self.random_state = batch_size, random_state

    def fit(self, graph: Data, y: Any = None) -> HallucinationGAT:
        """Learns from a graph with x, edge_index, edge_weight (the cosines), levels y, train_mask and val_mask.

        Training sees the edges among training nodes alone, validation those among both parts; test nodes have no say.
        """
        check_edges(graph.edge_index, int(graph.num_nodes))
        unit_rows(graph.x)
        ordinal_targets(graph.y[graph.train_mask | graph.val_mask], self.levels)
        train, seen = among(graph, graph.train_mask), among(graph, graph.train_mask | graph.val_mask)
        train.train_mask = torch.ones(train.num_nodes, dtype=torch.bool)
        valid = graph.val_mask[graph.train_mask | graph.val_mask]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = OrdinalGAT(graph.x.shape[1], self.levels, self.width, self.heads, self.dropout)
        if self.contrastive_epochs:
            names = tuple(map(str, range(self.levels)))
            texts = feed(Table(train.x, train.y, names, "texts"), Labelled(), self.batch_size, self.random_state)
            contrast = ContrastiveEmbedding(network.embedder, self.temperature)
            fit(contrast, texts, epochs=self.contrastive_epochs, seed=self.random_state)

        def recall(learner: Any) -> float:
            told = decode_levels(learner.network(seen.x, seen.edge_index, seen.edge_weight))[valid]
            return macro_recall(seen.y[valid], told)

        keep = BestStep(recall, EVERY)
        batches = feed(train, WholeGraph())
        self.network_ = fit(
            OrdinalLevels(network), batches, steps=self.steps, seed=self.random_state, callbacks=[keep]
        ).network.eval()
        self.known_ = seen.x
        return self

    @torch.no_grad()
    def predict(self, texts: Any) -> np.ndarray:
        """Levels (M,) int64 of new embeddings (M, d), which are joined to the known ones and to each other.

        Of a graph instead: the levels of its own nodes, by its own edges.
        """
        if not hasattr(self, "network_"):
            raise ValueError("this HallucinationGAT has not learned yet; call fit(graph) first.")
        if isinstance(texts, Data):
            check_edges(texts.edge_index, int(texts.num_nodes))
            return decode_levels(self.network_(texts.x, texts.edge_index, texts.edge_weight)).numpy()
        new = torch.as_tensor(texts, dtype=self.known_.dtype)
        graph = SemanticSimilarityGraph(self.threshold).add_nodes(self.known_, new)
        return self.predict(graph)[len(self.known_) :]


def macro_recall(levels: Any, told: Any) -> float:
    """Mean over the levels that occur of the share of their texts that were told so."""
    levels, told = np.asarray(levels), np.asarray(told)
    return float(recall_score(levels, told, labels=np.unique(levels), average="macro", zero_division=0.0))
