"""The combinatorial embedding: a tree goes into the Poincaré ball edge by edge, as exactly as the bits of the numbers allow.

A node and its parent are moved so that the node lies in the middle; its children go around it at the distance τ, as far from each other
and from the parent as possible; then all is moved back. With

    x ⊕ z = ((1 − |x|²)(x + z) + |x + z|² x) / (|x + z|² + (1 − |x|²)(1 − |z|²))
    child = x ⊕ tanh(τ / 2) u,   u a direction that differs from that of −x ⊕ parent

every tree edge is τ long, and a larger τ brings every other path near to its sum: τ = (1 + ε) / ε · 2 log(2 deg / π) keeps all
distances within 1 + ε. The price is precision: a point at depth h is about e^(−τ h) from the edge of the ball.

F. Sala, C. De Sa, A. Gu, C. Ré, Representation Tradeoffs for Hyperbolic Embeddings, 2018, arXiv:1804.03329, after R. Sarkar, 2011.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, connected_components
from sklearn.base import BaseEstimator

from ziggurat.graphs.embeddings.hyperbolic.distances import undirected

Point = list[mpmath.mpf]


def edge_length(most: int, epsilon: float) -> float:
    """τ that keeps the worst-case distortion of a tree of largest degree `most` within 1 + ε in the plane.

    Paths (degree 2 or less) are straight lines, exact at any τ.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}.")
    return (1 + epsilon) / epsilon * 2 * math.log(max(most, 2) / (math.pi / 2))


def needed_bits(depth: int, tau: float) -> int:
    """Bits that resolve points `depth` edges of length τ from the middle, and 64 more."""
    return math.ceil(tau * max(depth, 1) / math.log(2)) + 64


def dot(x: Point, y: Point) -> mpmath.mpf:
    return mpmath.fdot(x, y)


def gap(x: Point) -> mpmath.mpf:
    """1 − |x|²."""
    return 1 - dot(x, x)


def mobius_add(x: Point, z: Point) -> Point | None:
    """x ⊕ z, in the form that loses the fewest digits near the edge; None where too few are left to tell."""
    total = [a + b for a, b in zip(x, z, strict=True)]
    size, room = dot(total, total), gap(x)
    below = size + room * gap(z)
    return [(room * t + size * a) / below for t, a in zip(total, x, strict=True)] if below > 0 else None


def unit(x: Point) -> Point | None:
    """x / |x|; None for 0."""
    length = mpmath.sqrt(dot(x, x))
    return [a / length for a in x] if length else None


def arcosh_above(q: mpmath.mpf) -> float:
    """arcosh(1 + q) as a float64, for q of any size."""
    _, exponent = mpmath.frexp(q)
    if exponent < 500:
        small = float(q)
        return math.log1p(small + math.sqrt(small * (small + 2)))
    return float(mpmath.log(2 * q))


@lru_cache(maxsize=512)
def directions(count: int, dim: int) -> Float[np.ndarray, "count dim"]:
    """Directions far from each other: equal angles in the plane, else random ones after 100 steps of repulsion."""
    if dim == 2:
        angle = 2 * np.pi * np.arange(count) / count
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.random.default_rng(count).normal(size=(count, dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    step = 0.5 * count ** (-1 / (dim - 1))  # about half of the spacing
    for i in range(100):
        cosine = x @ x.T
        weight = 1 / np.maximum(2 - 2 * cosine, 1e-9) ** ((dim + 1) / 2)
        np.fill_diagonal(weight, 0)
        force = weight.sum(1, keepdims=True) * x - weight @ x
        force /= np.maximum(np.linalg.norm(force, axis=1, keepdims=True), 1e-12)
        x = x + step * (1 - i / 100) * force
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def around(away_from: Point | None, count: int, dim: int) -> list[Point]:
    """`count` unit directions; those around a node that has a parent leave out the parent's, as one more."""
    spread: list[Point] = []
    for row in directions(count + (away_from is not None), dim):
        exact = unit([mpmath.mpf(float(a)) for a in row])
        spread.append(exact if exact is not None else [mpmath.mpf(0)] * dim)
    if away_from is None:
        return spread
    mirror = [a - b for a, b in zip(spread[0], away_from, strict=True)]
    size = dot(mirror, mirror)
    if size > mpmath.mpf(2) ** (-60):  # reflect the first direction into the parent's
        factors = [2 * dot(mirror, u) / size for u in spread]
        spread = [[a - f * m for a, m in zip(u, mirror, strict=True)] for u, f in zip(spread, factors, strict=True)]
    return spread[1:]


class CombinatorialEmbedding(BaseEstimator):
    """The embedding as an estimator.

    Arguments:
        tau: length of a tree edge; None takes `edge_length` of the graph's largest degree and `epsilon`.
        dim: of the ball, 2 or more.
        bits: of the numbers; None takes as many as the tree's depth needs. With 53 it computes as float64 does.
        root: of the tree; None takes the node of largest degree.
        epsilon: distortion less 1 that `tau=None` aims at.

    After `fit`: `points_` (n, dim) numbers of mpmath, `embedding_` the same rounded to float64 (points near the edge then fall together:
    ask `distances`), `parent_` (n,), −1 at the root, `tau_` and `bits_`.

    A graph that is no tree loses the edges outside its breadth-first tree. Further components hang by their node of largest degree on the
    root. Weights and directions of edges do not matter.
    """

    def __init__(
        self,
        tau: float | None = None,
        dim: int = 2,
        bits: int | None = None,
        root: int | None = None,
        epsilon: float = 0.1,
    ) -> None:
        self.tau, self.dim, self.bits, self.root, self.epsilon = tau, dim, bits, root, epsilon

    def fit(self, graph: Any, y: Any = None) -> CombinatorialEmbedding:
        """Places every node of a `torch_geometric` graph or of an adjacency matrix."""
        if self.dim < 2 or (self.bits is not None and self.bits < 2):
            raise ValueError(f"dim and bits must be 2 or more, got {self.dim} and {self.bits}.")
        if self.tau is not None and not 0 < self.tau < math.inf:
            raise ValueError(f"tau must be positive and finite, got {self.tau}.")
        edges = undirected(graph)
        if self.root is not None and not 0 <= self.root < edges.shape[0]:
            raise ValueError(f"root must be a node from 0 to {edges.shape[0] - 1}, got {self.root}.")
        order, self.parent_ = spanning_tree(edges, self.root)
        children: list[list[int]] = [[] for _ in order]
        depth = np.zeros(len(order), np.int64)
        for node in order[1:]:
            children[self.parent_[node]].append(int(node))
            depth[node] = depth[self.parent_[node]] + 1
        most = max(len(own) + int(self.parent_[node] >= 0) for node, own in enumerate(children))
        self.tau_ = edge_length(most, self.epsilon) if self.tau is None else float(self.tau)
        self.bits_ = needed_bits(int(depth.max()), self.tau_) if self.bits is None else self.bits
        with mpmath.workprec(self.bits_):
            placed = place(order, self.parent_, children, mpmath.tanh(mpmath.mpf(self.tau_) / 2), self.dim)
            self._gaps = [gap(x) for x in placed]
        self.points_ = np.array(placed, dtype=object).reshape(len(placed), self.dim)
        self.embedding_ = self.points_.astype(np.float64)
        return self

    def distances(self, node: int) -> Float[np.ndarray, " n"]:
        """Embedded distances of a node by τ, to be compared with hops; infinite where the bits no longer tell."""
        if not hasattr(self, "points_"):
            raise ValueError("this CombinatorialEmbedding is not fitted; call fit(graph) first.")
        found = np.zeros(len(self.points_))
        with mpmath.workprec(self.bits_):
            own, room = self.points_[node], self._gaps[node]
            for other, (x, more) in enumerate(zip(self.points_, self._gaps, strict=True)):
                if other == node:
                    continue
                apart, edge = [a - b for a, b in zip(own, x, strict=True)], room * more
                inside = room > 0 and more > 0
                found[other] = arcosh_above(2 * dot(apart, apart) / edge) / self.tau_ if inside else math.inf
        return found


def spanning_tree(edges: sparse.csr_matrix, root: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(nodes in breadth-first order, the parent of each node), with all components in one tree."""
    degree = np.diff(edges.indptr)
    first = int(degree.argmax()) if root is None else root
    _, part = connected_components(edges, directed=False)
    order, parent = [], np.full(len(degree), -1, np.int64)
    for own in (part[first], *np.setdiff1d(part, part[first])):
        members = np.flatnonzero(part == own)
        start = first if own == part[first] else int(members[degree[members].argmax()])
        nodes, before = breadth_first_order(edges, start, directed=False)
        parent[nodes[1:]] = before[nodes[1:]]
        parent[start] = -1 if start == first else first
        order.append(nodes)
    return np.concatenate(order).astype(np.int64), parent


def place(
    order: Sequence[int] | np.ndarray, parent: np.ndarray, children: list[list[int]], radius: mpmath.mpf, dim: int
) -> list[Point]:
    """Points of all nodes; a parent stands before its children in `order`."""
    points: list[Point] = [[mpmath.mpf(0)] * dim for _ in children]
    for node in order:
        if not children[node]:
            continue
        x, back = points[node], None
        if parent[node] >= 0:
            seen = mobius_add([-a for a in x], points[parent[node]])
            back = (unit(seen) if seen is not None else None) or unit(
                [-a for a in x]
            )  # too few bits: towards the middle
        for child, direction in zip(children[node], around(back, len(children[node]), dim), strict=True):
            moved = mobius_add(x, [radius * a for a in direction])
            points[child] = x if moved is None else moved
    return points
