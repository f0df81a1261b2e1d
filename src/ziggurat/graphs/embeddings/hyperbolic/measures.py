"""How well embedded distances keep a graph: are neighbours the nearest, and how far are distances from the true ones.

    MAP = mean over nodes a of mean over neighbours b of |N_a ∩ R_ab| / |R_ab|,  R_ab = the nodes at most as far from a as b
    average distortion = mean |d' / d − 1|,   worst case = max(d' / d) / min(d' / d)

F. Sala, C. De Sa, A. Gu, C. Ré, Representation Tradeoffs for Hyperbolic Embeddings, 2018, arXiv:1804.03329.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ziggurat.graphs.embeddings.hyperbolic.distances import undirected


class Distortion(NamedTuple):
    """`average` of |d' / d − 1|, which scaling changes, and `worst`: the largest ratio by the smallest, which it does not."""

    average: float
    worst: float


def map_score(graph: Any, distances: Float[np.ndarray, "s n"], sources: np.ndarray | None = None) -> float:
    """Mean average precision of the neighbours among all nodes, ranked by embedded distance.

    Arguments:
        graph: `torch_geometric` graph or sparse matrix; directions do not matter.
        distances: a row for each source.
        sources: nodes; by default all, in order. Those without neighbours do not count.

    Equal distances share the last of their ranks, and distances that are not finite come last.
    """
    edges = undirected(graph)
    sources = np.arange(edges.shape[0]) if sources is None else np.asarray(sources)
    if distances.shape != (len(sources), edges.shape[0]):
        raise ValueError(
            f"distances must be {len(sources)} × {edges.shape[0]}, a row a source and a column a node, got {distances.shape}."
        )
    scores = []
    for source, row in zip(sources, distances, strict=True):
        neighbours = edges.indices[edges.indptr[source] : edges.indptr[source + 1]]
        if not len(neighbours):
            continue
        away = np.where(np.isfinite(row), row, np.inf)
        near, others = np.sort(away[neighbours]), np.sort(np.delete(away, source))
        found = np.searchsorted(near, near, side="right")
        scores.append(np.mean(found / np.searchsorted(others, near, side="right")))
    if not scores:
        raise ValueError("no source has a neighbour; give one that has.")
    return float(np.mean(scores))


def distortion(found: Float[np.ndarray, "*s"], wanted: Float[np.ndarray, "*s"]) -> Distortion:
    """Of embedded distances `found` against those `wanted`, over the pairs whose wanted distance is positive and finite.

    Found distances that are not finite make both infinite.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"found {found.shape} and wanted {wanted.shape} must have one shape.")
    pairs = (wanted > 0) & np.isfinite(wanted)
    if not pairs.any():
        raise ValueError("no wanted distance is positive and finite.")
    ratio = found[pairs] / wanted[pairs]
    if not np.isfinite(ratio).all():
        return Distortion(float("inf"), float("inf"))
    least = float(ratio.min())
    return Distortion(float(np.abs(ratio - 1).mean()), float(ratio.max()) / least if least > 0 else float("inf"))
