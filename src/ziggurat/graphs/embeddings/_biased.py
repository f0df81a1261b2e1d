"""Kernels of second-order random walks."""

import typing

import numba
import numpy as np

from ziggurat.graphs.embeddings._alias import pick, uniform

TRIES = 64
"""Proposals that may be refused before the step is drawn from its exact weights; the distribution is the same either way."""


@numba.njit(cache=True)
@typing.no_type_check
def linked(indptr, indices, source, target):
    """Whether there is an edge source → target, by bisection of the sorted row."""
    low, high = indptr[source], indptr[source + 1]
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < target:
            low = middle + 1
        else:
            high = middle
    return low < indptr[source + 1] and indices[low] == target


@numba.njit(cache=True)
@typing.no_type_check
def bias(indptr, indices, before, node, p, q):
    """What the walk's memory of `before` multiplies the weight of a step to `node` with."""
    if node == before:
        return 1 / p
    return 1.0 if linked(indptr, indices, before, node) else 1 / q


@numba.njit(cache=True)
@typing.no_type_check
def step_weights(indptr, indices, weights, before, here, p, q):
    """Unnormalised weights of the steps to all neighbours of `here`, in the order of its row."""
    first, last = indptr[here], indptr[here + 1]
    found = weights[first:last].copy()
    for i in range(last - first):
        found[i] *= bias(indptr, indices, before, indices[first + i], p, q)
    return found


@numba.njit(cache=True)
@typing.no_type_check
def second_order_walks(indptr, indices, weights, accept, alias, starts, length, p, q, seed):
    """One walk from each start: first-order proposals, accepted in proportion to their bias; −1 behind a dead end."""
    walks = np.full((len(starts), length), -1, np.int64)
    state = np.array([seed], np.uint64)
    most = max(1.0, max(1 / p, 1 / q))
    for w in range(len(starts)):
        before, here = np.int64(-1), np.int64(starts[w])
        walks[w, 0] = here
        for i in range(1, length):
            first, count = indptr[here], indptr[here + 1] - indptr[here]
            if count == 0:
                break
            place = pick(state, accept, alias, first, count) if before < 0 else np.int64(-1)
            tries = 0
            while place < 0 and tries < TRIES:
                proposed = pick(state, accept, alias, first, count)
                tries += 1
                if uniform(state) * most < bias(indptr, indices, before, indices[first + proposed], p, q):
                    place = proposed
            if place < 0:
                sums = step_weights(indptr, indices, weights, before, here, p, q).cumsum()
                place = min(np.searchsorted(sums, uniform(state) * sums[-1], side="right"), count - 1)
            before, here = here, np.int64(indices[first + place])
            walks[w, i] = here
    return walks
