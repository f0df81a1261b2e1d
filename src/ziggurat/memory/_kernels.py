"""Kernels of the indexes: the smallest of many distances, and nodes that are added to a navigable graph."""

import typing

import numba
import numpy as np

from ziggurat.memory.filtered._kernels import apart, beam_search, prune


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def above(a, key_a, b, key_b):
    """Whether the first is the larger; of equal ones that with the larger key."""
    return a > b or (a == b and key_a > key_b)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
@typing.no_type_check
def few_products(queries, vectors):
    """Inner products (m, n) of few queries: one pass over the vectors, which a product of matrices would first copy into its own order."""
    found = np.empty((len(queries), len(vectors)), np.float32)
    for j in range(len(vectors)):
        vector = vectors[j]
        for i in range(len(queries)):
            query, total = queries[i], np.float32(0)
            for d in range(len(vector)):
                total += query[d] * vector[d]
            found[i, j] = total
    return found


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
@typing.no_type_check
def own_products(queries, vectors, rows):
    """Inner products (m, j) of each query with rows of its own. Equal rows have equal ones; in a product of matrices the place matters."""
    found = np.empty(rows.shape, np.float32)
    for i in range(rows.shape[0]):
        query = queries[i]
        for j in range(rows.shape[1]):
            vector, total = vectors[rows[i, j]], np.float32(0)
            for d in range(len(vector)):
                total += query[d] * vector[d]
            found[i, j] = total
    return found


CHUNK = 128
"""How many distances are compared with the largest that is kept before any of them is looked at by itself."""


@numba.njit(cache=True)
@typing.no_type_check
def within(products, column, row, scale, top):
    """How many distances are at most `top`; a sum of comparisons, since that becomes vector instructions and a smallest value does not."""
    count = np.int32(0)
    for j in range(len(products)):
        count += np.int32(row + column[j] - scale * products[j] <= top)
    return count


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def take_smallest(products, keys, there, row, column, scale, least, values, names, sizes):
    """Puts row + column − scale · products, at least `least`, of the columns that are there into the heaps of the smallest.

    `values` (m, k) and `names` (m, k) are heaps with the largest on top, of which `sizes` (m,) entries are filled; ties go by key.
    """
    m, k = values.shape
    for i in range(m):
        value, name, size, product = values[i], names[i], sizes[i], products[i]
        for first in range(0, len(keys), CHUNK):
            last = min(first + CHUNK, len(keys))
            if size == k and not within(product[first:last], column[first:last], row[i], scale, value[0]):
                continue
            for j in range(first, last):
                if not there[j]:
                    continue
                v, key = max(row[i] + column[j] - scale * product[j], least), keys[j]
                if size < k:
                    at = size
                    size += 1
                    while at > 0:
                        up = (at - 1) // 2
                        if above(value[up], name[up], v, key):
                            break
                        value[at], name[at] = value[up], name[up]
                        at = up
                    value[at], name[at] = v, key
                elif above(value[0], name[0], v, key):
                    at = 0
                    while True:
                        down = 2 * at + 1
                        if down >= k:
                            break
                        if down + 1 < k and above(value[down + 1], name[down + 1], value[down], name[down]):
                            down += 1
                        if above(v, key, value[down], name[down]):
                            break
                        value[at], name[at] = value[down], name[down]
                        at = down
                    value[at], name[at] = v, key
        sizes[i] = size


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def insert_nodes(vectors, neighbours, count, order, beam, alpha, start):
    """Adds nodes to a graph, each with neighbours among those on the way of a search for it from the start."""
    n, degree = len(vectors), neighbours.shape[1]
    seen = np.zeros(n, np.int32)
    keys, nodes = np.empty(beam, np.float32), np.empty(beam, np.int32)
    trail, gone = np.empty(n, np.int32), np.empty(n, np.float32)
    kept, near, gaps = np.empty(degree, np.int32), np.empty(degree + 1, np.int32), np.empty(degree + 1, np.float32)
    for step in range(len(order)):
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
