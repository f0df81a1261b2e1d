"""Kernel that lists the paths of a graph."""

import typing

import numba
import numpy as np


@numba.njit(cache=True)
@typing.no_type_check
def search(indptr, indices, root, reach, distance, parent, queue, coins):
    """Breadth first from `root` up to `reach` steps: fills distance and one parent of each node found, gives their number."""
    queue[0], found, at = root, 1, 0
    distance[root] = 0
    ways = np.zeros(len(distance), np.int64)
    while at < found:
        here = queue[at]
        at += 1
        if distance[here] == reach:
            break
        for e in range(indptr[here], indptr[here + 1]):
            near = indices[e]
            if distance[near] < 0:
                distance[near] = distance[here] + 1
                queue[found] = near
                found += 1
            if distance[near] == distance[here] + 1:
                ways[near] += 1  # each parent is kept with equal probability
                if ways[near] == 1 or coins[(root + e) % len(coins)] * ways[near] < 1:
                    parent[near] = here
    return found


@numba.njit(cache=True)
@typing.no_type_check
def list_paths(indptr, indices, every, tree, length, coins, paths, distances):
    """Number of paths of `length` edges; those that fit are written, end first and their start in the last column.

    `every` takes all simple paths, else only shortest ones, with `tree` one to each node.
    """
    n = len(indptr) - 1
    distance, parent, queue = np.full(n, -1), np.full(n, -1), np.zeros(n, np.int64)
    on, path, place = np.zeros(n, np.bool_), np.zeros(length + 1, np.int64), np.zeros(length + 1, np.int64)
    count = 0
    for root in range(n):
        found = search(indptr, indices, root, length, distance, parent, queue, coins)
        path[0], place[0], depth = root, indptr[root], 0
        on[root] = True
        while depth >= 0:
            here = path[depth]
            if depth == length or place[depth] == indptr[here + 1]:
                if depth == length:
                    if count < len(paths):
                        for i in range(length + 1):
                            paths[count, length - i] = path[i]
                            distances[count, length - i] = distance[path[i]]
                    count += 1
                on[here] = False
                depth -= 1
                continue
            near = indices[place[depth]]
            place[depth] += 1
            good = not on[near] and (every or distance[near] == depth + 1)
            if good and (not tree or parent[near] == here):
                depth += 1
                path[depth], place[depth] = near, indptr[near]
                on[near] = True
        for i in range(found):
            distance[queue[i]] = -1
            parent[queue[i]] = -1
    return count
