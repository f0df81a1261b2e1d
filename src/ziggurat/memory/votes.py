"""Votes of neighbours: what the nearest items say about a query, each with a weight.

Labels and distances come as (M, k), the nearest first; a label of −1 is no vote (a neighbour that was filtered out).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

Labels = Int64[np.ndarray, "M k"]
Distances = Float[np.ndarray, "M k"]


def plurality_weights(distances: Distances) -> Distances:
    """Every neighbour counts the same."""
    return np.ones_like(distances)


def distance_weights(distances: Distances) -> Distances:
    """exp(−d)."""
    return np.exp(-distances)


def softmax_weights(distances: Distances, temperature: float = 0.07) -> Distances:
    """exp((1 − d) / T), d the cosine distance as it is: rescaled for each query, the nearest would decide alone."""
    return np.exp((1 - distances) / temperature)


def rank_weights(distances: Distances, offset: float = 2.0) -> Distances:
    """1 / (rank + offset), ranks from 0: only the order counts."""
    return np.broadcast_to(1 / (np.arange(distances.shape[1]) + offset), distances.shape).astype(distances.dtype)


def tally(labels: Labels, weights: Distances, classes: int) -> Float[np.ndarray, "M classes"]:
    """Summed weight of each class."""
    votes = np.zeros((len(labels), classes))
    rows = np.broadcast_to(np.arange(len(labels))[:, None], labels.shape)
    counts = labels >= 0
    np.add.at(votes, (rows[counts], labels[counts]), weights[counts])
    return votes


def winner(labels: Labels, weights: Distances, classes: int) -> Int64[np.ndarray, " M"]:
    """The class with the largest summed weight; of equal ones the one seen first among the neighbours."""
    votes = tally(labels, weights, classes)
    best = votes.max(1, keepdims=True)
    candidate = (labels >= 0) & (np.take_along_axis(votes, np.maximum(labels, 0), 1) >= best - 1e-12)
    return np.take_along_axis(labels, candidate.argmax(1)[:, None], 1)[:, 0]
