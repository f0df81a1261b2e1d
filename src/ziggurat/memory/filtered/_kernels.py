"""Kernels of navigable graphs: beam search, pruning, insertion. Nodes are rows of `vectors`, neighbours are padded with −1."""

import typing

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True, inline="always")
@typing.no_type_check
def apart(a, b):
    """Squared Euclidean distance."""
    total = np.float32(0)
    for i in range(len(a)):
        gap = a[i] - b[i]
        total += gap * gap
    return total


@numba.njit(cache=True)
@typing.no_type_check
def beam_search(vectors, neighbours, start, query, beam, seen, stamp, ids, found, done, trail, trail_found):
    """Walks to the query with the `beam` nearest nodes met so far; they end in `ids` and `found`, the nearest first.

    `seen` (n,) holds `stamp` for the nodes met in this search, `done` says which of the beam have been expanded, and those expanded are
    written to `trail` as far as it is long. Returns the sizes of beam and trail, and how many distances were computed.
    """
    ids[0], found[0], done[0] = start, apart(vectors[start], query), False
    seen[start] = stamp
    size, at, computed, walked = 1, 0, 1, 0
    while at < size:
        if done[at]:
            at += 1
            continue
        done[at] = True
        node, lowest = ids[at], size
        if walked < len(trail):
            trail[walked], trail_found[walked] = node, found[at]
            walked += 1
        for other in neighbours[node]:
            if other < 0:
                break
            if seen[other] == stamp:
                continue
            seen[other] = stamp
            away = apart(vectors[other], query)
            computed += 1
            if size == beam and away >= found[size - 1]:
                continue
            size = min(size + 1, beam)
            place = size - 1
            while place > 0 and found[place - 1] > away:
                ids[place], found[place], done[place] = ids[place - 1], found[place - 1], done[place - 1]
                place -= 1
            ids[place], found[place], done[place] = other, away, False
            lowest = min(lowest, place)
        at = min(at, lowest)
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


@numba.njit(cache=True)
@typing.no_type_check
def build(vectors, order, degree, beam, alpha, start):
    """A graph by inserting the nodes in the given order: each takes neighbours among the nodes on the way of a search for it."""
    n = len(vectors)
    neighbours = np.full((n, degree), -1, np.int32)
    count, seen = np.zeros(n, np.int64), np.zeros(n, np.int32)
    ids, found, done = np.empty(beam, np.int32), np.empty(beam, np.float32), np.empty(beam, np.bool_)
    trail, gone = np.empty(n, np.int32), np.empty(n, np.float32)
    kept, near, gaps = np.empty(degree, np.int32), np.empty(degree + 1, np.int32), np.empty(degree + 1, np.float32)
    for step in range(n):
        node = order[step]
        if node == start:
            continue
        _, walked, _ = beam_search(
            vectors, neighbours, start, vectors[node], beam, seen, step + 1, ids, found, done, trail, gone
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
    m = len(queries)
    rows, away, computed = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32), np.zeros(m, np.int64)
    seen = np.zeros(len(vectors), np.int32)
    ids, found, done = np.empty(beam, np.int32), np.empty(beam, np.float32), np.empty(beam, np.bool_)
    trail, gone = np.empty(0, np.int32), np.empty(0, np.float32)
    for i in range(m):
        size, _, computed[i] = beam_search(
            vectors, neighbours, start, queries[i], beam, seen, i + 1, ids, found, done, trail, gone
        )
        size = min(size, k)
        rows[i, :size], away[i, :size] = ids[:size], found[:size]
    return rows, away, computed
