"""Kernels of navigable graphs: beam search, pruning, insertion. Nodes are rows of `vectors`, neighbours are padded with −1."""

import typing

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True)  # inlined by numba it would lose fastmath, and with it its vector instructions
@typing.no_type_check
def apart(a, b):
    """Squared Euclidean distance."""
    total = np.float32(0)
    for i in range(len(a)):
        gap = a[i] - b[i]
        total += gap * gap
    return total


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def push(keys, nodes, size, key, node):
    """Adds to a heap with the smallest key on top; there must be room."""
    at = size
    while at > 0:
        above = (at - 1) // 2
        if keys[above] <= key:
            break
        keys[at], nodes[at] = keys[above], nodes[above]
        at = above
    keys[at], nodes[at] = key, node


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def sink(keys, nodes, size, key, node):
    """Puts an entry in the place of the top of a heap of this size."""
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[at], nodes[at] = keys[below], nodes[below]
        at = below
    keys[at], nodes[at] = key, node


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def insert(keys, nodes, size, key, node):
    """Puts an entry into a list of `size` entries sorted by key, whose last one falls out where the arrays are full; returns its place."""
    at = min(size, len(keys) - 1)
    while at > 0 and keys[at - 1] > key:
        keys[at], nodes[at] = keys[at - 1], nodes[at - 1]
        at -= 1
    keys[at], nodes[at] = key, node
    return at


@numba.njit(cache=True)
@typing.no_type_check
def beam_search(vectors, neighbours, start, query, seen, stamp, keys, nodes, near, gaps, trail, gone):
    """Walks from the start to the query, always on from the nearest node not yet expanded among the nearest met.

    `keys` and `nodes` are as long as the beam and hold the nearest met, sorted; −1 − i stands for a node i that was expanded. `seen` (n,)
    holds `stamp` for the nodes met in this search. Expanded nodes and their distances are written to `trail` and `gone` as far as these
    are long. Returns the sizes of the nearest and of the trail, and how many distances were computed.
    """
    keys[0], nodes[0] = apart(vectors[start], query), start
    seen[start] = stamp
    size, computed, walked, at = 1, 1, 0, 0
    while at < size:
        node = nodes[at]
        if node < 0:
            at += 1
            continue
        nodes[at] = -1 - node
        if walked < len(trail):
            trail[walked], gone[walked] = node, keys[at]
            walked += 1
        new = 0
        for other in neighbours[node]:
            if other < 0:
                break
            if seen[other] != stamp:
                seen[other], near[new] = stamp, other
                new += 1
        for i in range(new):  # a loop of its own: nothing in it waits for the distance before
            gaps[i] = apart(vectors[near[i]], query)
        computed += new
        for i in range(new):
            if size < len(keys) or gaps[i] < keys[size - 1]:
                at = min(at, insert(keys, nodes, size, gaps[i], near[i]))
                size = min(size + 1, len(keys))
    return size, walked, computed


@numba.njit(cache=True)
@typing.no_type_check
def prune(vectors, node, ids, away, count, degree, alpha, kept):
    """Keeps of the candidates, nearest first, those that no kept one is α times closer to than `node` is; returns how many."""
    order, size = np.argsort(away[:count]), 0
    for i in order:
        if ids[i] == node:
            continue
        good = True
        for j in range(size):
            if kept[j] == ids[i] or alpha * alpha * apart(vectors[kept[j]], vectors[ids[i]]) <= away[i]:
                good = False
                break
        if good:
            kept[size] = ids[i]
            size += 1
            if size == degree:
                break
    return size


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def build(vectors, order, degree, beam, alpha, start):
    """A graph by inserting the nodes in the given order: each takes neighbours among the nodes on the way of a search for it."""
    n = len(vectors)
    neighbours = np.full((n, degree), -1, np.int32)
    count, seen = np.zeros(n, np.int64), np.zeros(n, np.int32)
    keys, nodes = np.empty(beam, np.float32), np.empty(beam, np.int32)
    trail, gone = np.empty(n, np.int32), np.empty(n, np.float32)
    kept, near, gaps = np.empty(degree, np.int32), np.empty(degree + 1, np.int32), np.empty(degree + 1, np.float32)
    for step in range(n):
        node = order[step]
        if node == start:
            continue
        _, walked, _ = beam_search(
            vectors, neighbours, start, vectors[node], seen, step + 1, keys, nodes, near, gaps, trail, gone
        )
        own = prune(vectors, node, trail, gone, walked, degree, alpha, kept)
        neighbours[node, :own], count[node] = kept[:own], own
        for other in neighbours[node, :own].copy():
            have = count[other]
            if have < degree:
                neighbours[other, have], count[other] = node, have + 1
                continue
            near[:have], near[have] = neighbours[other, :have], node
            for i in range(have + 1):
                gaps[i] = apart(vectors[near[i]], vectors[other])
            size = prune(vectors, other, near, gaps, have + 1, degree, alpha, kept)
            neighbours[other, :size], neighbours[other, size:], count[other] = kept[:size], -1, size
    return neighbours


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def search_graph(vectors, neighbours, start, queries, k, beam):
    """The k nearest nodes that a beam search for each query ends with: rows (m, k), padded with −1 and ∞, and distances computed (m,)."""
    m, n = len(queries), len(vectors)
    rows, away, computed = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32), np.zeros(m, np.int64)
    seen, keys, nodes = np.zeros(n, np.int32), np.empty(beam, np.float32), np.empty(beam, np.int32)
    near, gaps = np.empty(neighbours.shape[1], np.int32), np.empty(neighbours.shape[1], np.float32)
    trail, gone = np.empty(0, np.int32), np.empty(0, np.float32)
    for i in range(m):
        size, _, computed[i] = beam_search(
            vectors, neighbours, start, queries[i], seen, i + 1, keys, nodes, near, gaps, trail, gone
        )
        for j in range(min(size, k)):
            rows[i, j], away[i, j] = -1 - nodes[j], keys[j]
    return rows, away, computed


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def scan_windows(vectors, queries, first, last, k):
    """The k nearest of the rows first[i] … last[i] − 1 to each query: rows (m, k), padded with −1 and ∞; of equal ones the first rows."""
    m = len(queries)
    rows, away = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32)
    # a distance is not negative, so that its bits, read as a whole number, are in its order; the row in the lower half breaks ties
    keys, gaps = np.empty(k, np.int64), np.empty(k, np.float32)
    for i in range(m):
        size = 0
        for row in range(first[i], last[i]):
            gap = apart(vectors[row], queries[i])
            if size < k:
                push(keys, gaps, size, -((np.int64(np.float32(gap).view(np.int32)) << 32) | row), gap)
                size += 1
            elif gap < gaps[0]:  # of equal ones a later row is not taken
                sink(keys, gaps, size, -((np.int64(np.float32(gap).view(np.int32)) << 32) | row), gap)
        order = np.argsort(-keys[:size])
        for j in range(size):
            rows[i, j], away[i, j] = -keys[order[j]] & 0xFFFFFFFF, gaps[order[j]]
    return rows, away
