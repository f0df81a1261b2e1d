"""Planar problems whose answers are positions of the input: convex hulls, triangulations, tours; their canonical answers and measures.

Positions are 1 … n, as pointer networks say them. Tours and hulls that are padded have −1 at the end.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int64
from scipy.spatial import ConvexHull, Delaunay

LARGEST_EXACT = 12


def convex_hull(points: Float[np.ndarray, "n 2"]) -> Int64[np.ndarray, " h"]:
    """Positions of the hull's corners, counter-clockwise from the lowest position: one answer of the many."""
    corners = ConvexHull(points).vertices.astype(np.int64)
    return np.roll(corners, -int(corners.argmin())) + 1


def delaunay(points: Float[np.ndarray, "n 2"]) -> Int64[np.ndarray, "t 3"]:
    """Triangles by their incentre (left to right, then bottom to top), the corners of each by position."""
    corners = np.sort(Delaunay(points).simplices, axis=1).astype(np.int64)
    a, b, c = (points[corners[:, i]] for i in range(3))
    sides = [np.linalg.norm(p - q, axis=1, keepdims=True) for p, q in ((b, c), (c, a), (a, b))]
    incentre = (sides[0] * a + sides[1] * b + sides[2] * c) / sum(sides)
    return corners[np.lexsort((incentre[:, 1], incentre[:, 0]))] + 1


def polygon_area(points: Float[np.ndarray, "h 2"]) -> float:
    """Signed area, positive counter-clockwise."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def is_simple(points: Float[np.ndarray, "h 2"]) -> bool:
    """Whether a polygon has three corners or more and no two of its sides cross."""
    count = len(points)
    if count < 3 or len({tuple(p) for p in points.tolist()}) < count:
        return False

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
        return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    for i in range(count):
        for j in range(i + 2, count - (i == 0)):
            a, b, c, d = points[i], points[(i + 1) % count], points[j], points[(j + 1) % count]
            if side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0:
                return False
    return True


def hull_coverage(points: Float[np.ndarray, "n 2"], positions: Int64[np.ndarray, " t"]) -> float:
    """Area of the polygon of an answer over that of the hull; 0 where its sides cross or it is no polygon."""
    chosen = points[positions[positions > 0] - 1]
    if not is_simple(chosen):
        return 0.0
    return abs(polygon_area(chosen)) / float(ConvexHull(points).volume)


def tour_length(points: Float[np.ndarray, "n 2"], tour: Int64[np.ndarray, " n"]) -> float:
    """Length of the closed tour."""
    order = points[tour - 1]
    return float(np.linalg.norm(order - np.roll(order, -1, axis=0), axis=1).sum())


def canonical_tour(tour: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The same tour from position 1, in the direction of the lower second position."""
    turned = np.roll(tour, -int((tour == 1).argmax()))
    return turned if len(turned) < 3 or turned[1] < turned[-1] else np.concatenate([turned[:1], turned[:0:-1]])


def shortest_tour(points: Float[np.ndarray, "n 2"]) -> Int64[np.ndarray, " n"]:
    """The exact tour by dynamic programming over sets (Held and Karp), for up to twelve points."""
    n = len(points)
    if not 2 <= n <= LARGEST_EXACT:
        raise ValueError(f"an exact tour needs 2 to {LARGEST_EXACT} points, got {n}; use nearest_insertion.")
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    rest = n - 1
    best = np.full((1 << rest, rest), np.inf)
    before = np.full((1 << rest, rest), -1)
    best[1 << np.arange(rest), np.arange(rest)] = apart[0, 1:]
    for done in range(1, 1 << rest):
        ends = [j for j in range(rest) if done >> j & 1]
        for j in ends:
            without = done ^ (1 << j)
            if without:
                ways = best[without] + apart[1:, j + 1]
                before[done, j] = int(ways.argmin())
                best[done, j] = ways.min()
    done = (1 << rest) - 1
    end, tour = int((best[done] + apart[1:, 0]).argmin()), []
    while end >= 0:
        tour.append(end + 2)
        done, end = done ^ (1 << end), int(before[done, end])
    return canonical_tour(np.array([1, *tour[::-1]], dtype=np.int64))


def nearest_insertion(points: Float[np.ndarray, "n 2"]) -> Int64[np.ndarray, " n"]:
    """A tour that grows by the nearest point, put where it costs least: at most twice the shortest."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    tour = [0]
    while len(tour) < len(points):
        outside = np.setdiff1d(np.arange(len(points)), tour)
        new = int(outside[apart[outside][:, tour].min(1).argmin()])
        around = [*tour, tour[0]]
        costs = [apart[a, new] + apart[new, b] - apart[a, b] for a, b in pairwise(around)]
        tour.insert(int(np.argmin(costs)) + 1, new)
    return canonical_tour(np.array(tour, dtype=np.int64) + 1)
