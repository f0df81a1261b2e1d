"""Kernel that measures how far the farthest node of every ball is."""

import heapq
import typing

import numba
import numpy as np


@numba.njit(cache=True)
@typing.no_type_check
def ball_eccentricities(indptr, indices, weights, reach):
    """For each node the largest weighted distance to a node of its ball of `reach` hops, along paths that stay in the ball."""
    n = len(indptr) - 1
    hops, distance = np.full(n, -1), np.full(n, np.inf)
    queue, result = np.zeros(n, np.int64), np.zeros(n)
    for root in range(n):
        queue[0], found, at = root, 1, 0
        hops[root] = 0
        while at < found:  # breadth first: which nodes are in the ball
            here = queue[at]
            at += 1
            if hops[here] == reach:
                break
            for e in range(indptr[here], indptr[here + 1]):
                near = indices[e]
                if hops[near] < 0:
                    hops[near] = hops[here] + 1
                    queue[found] = near
                    found += 1
        distance[root] = 0.0
        heap = [(0.0, root)]
        while len(heap) > 0:  # Dijkstra inside of it
            away, here = heapq.heappop(heap)
            if away > distance[here]:
                continue
            result[root] = max(result[root], away)
            for e in range(indptr[here], indptr[here + 1]):
                near, there = indices[e], away + weights[e]
                if hops[near] >= 0 and there < distance[near]:
                    distance[near] = there
                    heapq.heappush(heap, (there, near))
        for i in range(found):
            hops[queue[i]] = -1
            distance[queue[i]] = np.inf
    return result
