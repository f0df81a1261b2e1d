"""DeepWalk: nodes that meet on random walks get similar vectors, learned as words in sentences by skip-gram with negative sampling.

B. Perozzi, R. Al-Rfou, S. Skiena, 2014, arXiv:1403.6652; negative sampling as in T. Mikolov et al., 2013, arXiv:1310.4546.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ziggurat.data.seeds import derive
from ziggurat.graphs.adjacency import adjacency
from ziggurat.graphs.embeddings._kernels import skip_gram, uniform_walks

TABLE = 1_000_000


class DeepWalk(BaseEstimator):
    """The embedding as an estimator.

    Arguments:
        dimensions: of the vectors.
        walks: from every node.
        length: nodes a walk.
        window: farthest distance on a walk of two nodes that are compared; each comparison draws its own up to this.
        negative: random nodes that each pair is told apart from, drawn by visits^0.75.
        epochs: passes over the walks.
        lr: rate at the start of a pass.
        random_state: of walks and training.

    After `fit`: `embedding_` (n, dimensions) float32.
    """

    def __init__(
        self,
        dimensions: int = 128,
        walks: int = 10,
        length: int = 40,
        window: int = 10,
        negative: int = 5,
        epochs: int = 1,
        lr: float = 0.025,
        random_state: int = 0,
    ) -> None:
        self.dimensions, self.walks, self.length, self.window = dimensions, walks, length, window
        self.negative, self.epochs, self.lr, self.random_state = negative, epochs, lr, random_state

    def fit(self, graph: Any, y: Any = None) -> DeepWalk:
        """Walks and trains."""
        if min(self.dimensions, self.walks, self.window, self.epochs) < 1 or self.length < 2 or self.negative < 0:
            raise ValueError(
                "dimensions, walks, window and epochs must be 1 or more, length 2 or more, negative 0 or more."
            )
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}.")
        edges = adjacency(graph)
        n = edges.shape[0]
        rng = np.random.default_rng(self.random_state)
        starts = np.concatenate([rng.permutation(n) for _ in range(self.walks)])
        indptr, indices = edges.indptr.astype(np.int64), edges.indices.astype(np.int64)
        walked = uniform_walks(indptr, indices, starts, self.length, np.uint64(derive(self.random_state, "walks") | 1))
        visits = np.bincount(walked[walked >= 0], minlength=n) ** 0.75
        table = np.searchsorted(visits.cumsum() / visits.sum(), (np.arange(TABLE) + 0.5) / TABLE).astype(np.int32)
        vectors = ((rng.random((n, self.dimensions)) - 0.5) / self.dimensions).astype(np.float32)
        contexts = np.zeros_like(vectors)
        for epoch in range(self.epochs):
            seed = np.uint64(derive(self.random_state, "train", epoch) | 1)
            skip_gram(walked, vectors, contexts, table, self.window, self.negative, self.lr, seed)
        self.embedding_ = vectors
        return self
