"""Remedies for the shift between seen and unseen classes that look at the unlabelled test samples together.

Self-training moves the prototypes of unseen classes to the samples that they attract. Label propagation lets neighbouring samples agree:
F ← α A F + (1 − α) P on the graph of nearest neighbours, A its normalised adjacency.
Y. Fu et al., Transductive Multi-view Zero-Shot Learning, 2015, arXiv:1501.04560; D. Zhou et al., Learning with Local and Global
Consistency, NeurIPS 2003.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.sparse import diags_array
from scipy.special import softmax
from sklearn.neighbors import kneighbors_graph

from ziggurat.learning.fewshot.zero_shot.ridge import minus_squared_distances


def self_trained_prototypes(
    X: Float[np.ndarray, "n d"], prototypes: Float[np.ndarray, "C d"], k: int = 10, rounds: int = 1
) -> Float[np.ndarray, "C d"]:
    """Each prototype becomes the mean of its k nearest samples, `rounds` times."""
    if not 1 <= k <= len(X) or rounds < 0:
        raise ValueError(f"k must be between 1 and the {len(X)} samples and rounds 0 or more, got {k} and {rounds}.")
    for _ in range(rounds):
        nearest = np.argsort(-minus_squared_distances(X, prototypes), axis=0, kind="stable")[:k]
        prototypes = X[nearest].mean(0)
    return prototypes


def propagated_scores(
    X: Float[np.ndarray, "n d"],
    scores: Float[np.ndarray, "n C"],
    neighbours: int = 10,
    alpha: float = 0.9,
    rounds: int = 30,
) -> Float[np.ndarray, "n C"]:
    """Scores after propagation.

    Arguments:
        scores: standardised and turned into probabilities first.
        alpha: how much of a sample's scores come from its neighbours, in [0, 1).
    """
    if not 0 <= alpha < 1 or not 1 <= neighbours < len(X):
        raise ValueError(f"alpha must be in [0, 1) and neighbours in 1 … {len(X) - 1}, got {alpha} and {neighbours}.")
    graph = kneighbors_graph(X, neighbours)
    graph = graph.maximum(graph.T)
    scale = diags_array(1 / np.sqrt(np.asarray(graph.sum(1)).ravel()))
    graph = scale @ graph @ scale
    start = softmax((scores - scores.mean(1, keepdims=True)) / np.maximum(scores.std(1, keepdims=True), 1e-12), axis=1)
    found = start
    for _ in range(rounds):
        found = alpha * (graph @ found) + (1 - alpha) * start
    return found
