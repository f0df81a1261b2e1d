"""Skip-gram with negative sampling over given walks: nodes that stand near each other get similar vectors.

T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean, 2013, arXiv:1310.4546.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from ziggurat.data.seeds import derive
from ziggurat.graphs.embeddings._kernels import skip_gram

TABLE = 1_000_000


def train_skip_gram(
    walks: Int64[np.ndarray, "W L"],
    num_nodes: int,
    dimensions: int = 128,
    window: int = 10,
    negative: int = 5,
    epochs: int = 1,
    lr: float = 0.025,
    random_state: int = 0,
) -> Float[np.ndarray, "N d"]:
    """Vectors (num_nodes, dimensions) float32 after `epochs` passes over the walks.

    Arguments:
        walks: nodes, −1 behind the end of a walk.
        window: farthest distance on a walk of two nodes that are compared; each comparison draws its own up to this.
        negative: random nodes that each pair is told apart from, drawn by visits^0.75.
        lr: rate at the start of a pass; it falls linearly.
    """
    if min(dimensions, window, epochs) < 1 or negative < 0:
        raise ValueError(
            f"dimensions, window and epochs must be 1 or more and negative 0 or more, got {dimensions}, {window}, "
            f"{epochs} and {negative}."
        )
    if not lr > 0:
        raise ValueError(f"lr must be positive, got {lr}.")
    if walks.size and not -1 <= walks.min() <= walks.max() < num_nodes:
        raise ValueError(f"walks must hold nodes 0 to {num_nodes - 1}, and −1 behind their ends.")
    visits = np.bincount(walks[walks >= 0], minlength=num_nodes) ** 0.75
    table = np.searchsorted(visits.cumsum() / visits.sum(), (np.arange(TABLE) + 0.5) / TABLE).astype(np.int32)
    rng = np.random.default_rng(derive(random_state, "vectors"))
    vectors = ((rng.random((num_nodes, dimensions)) - 0.5) / dimensions).astype(np.float32)
    contexts, short = np.zeros_like(vectors), walks.astype(np.int32)
    for epoch in range(epochs):
        seed = np.uint64(derive(random_state, "train", epoch) | 1)
        skip_gram(short, vectors, contexts, table, window, negative, lr, seed)
    return vectors
