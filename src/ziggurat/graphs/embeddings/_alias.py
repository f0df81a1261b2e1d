"""Alias tables: draws from a fixed distribution in constant time. M. Vose, 1991; A. Walker, 1977."""

import typing

import numba
import numpy as np

from ziggurat.graphs.embeddings._kernels import below, draw


@numba.njit(cache=True)
@typing.no_type_check
def uniform(state):
    """The next uniform number in [0, 1)."""
    return np.float64(draw(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(cache=True)
@typing.no_type_check
def alias_tables(indptr, weights):
    """(accept, alias) of every segment of positive weights: place i keeps itself with probability accept[i], else it is alias[i].

    Both count inside the segment `indptr[s] … indptr[s + 1]`. Cost grows with the number of weights.
    """
    accept, alias = np.ones(len(weights)), np.zeros(len(weights), np.int64)
    stack = np.zeros(len(weights), np.int64)
    for s in range(len(indptr) - 1):
        first, count = indptr[s], indptr[s + 1] - indptr[s]
        total = weights[first : first + count].sum()
        low, high = 0, count  # the stack holds the poor from its bottom and the rich from its top
        for i in range(count):
            accept[first + i] = weights[first + i] / total * count
            alias[first + i] = i
            if accept[first + i] < 1:
                stack[low] = i
                low += 1
            else:
                high -= 1
                stack[high] = i
        while low > 0 and high < count:
            low -= 1
            poor, rich = stack[low], stack[high]
            alias[first + poor] = rich
            accept[first + rich] -= 1 - accept[first + poor]
            if accept[first + rich] < 1:
                high += 1
                stack[low] = rich
                low += 1
        for j in range(low):  # what rounding left over
            accept[first + stack[j]] = 1
    return accept, alias


@numba.njit(cache=True)
@typing.no_type_check
def pick(state, accept, alias, first, count):
    """A place in 0 … count − 1, drawn from the segment that begins at `first`."""
    place = below(state, count)
    return place if uniform(state) < accept[first + place] else alias[first + place]


@numba.njit(cache=True)
@typing.no_type_check
def picks(accept, alias, count, seed):
    """Many draws from one segment."""
    state, found = np.array([seed], np.uint64), np.zeros(count, np.int64)
    for i in range(count):
        found[i] = pick(state, accept, alias, 0, len(accept))
    return found
