import typing

import numba
import numpy as np


@numba.njit(cache=True)
@typing.no_type_check
def draw(state):
    """The next 64 random bits (xorshift64*)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(2685821657736338717)


@numba.njit(cache=True)
@typing.no_type_check
def below(state, n):
    """A uniform integer in 0 … n − 1."""
    return np.int64((draw(state) >> np.uint64(32)) * np.uint64(n) >> np.uint64(32))


@numba.njit(cache=True)
@typing.no_type_check
def uniform_walks(indptr, indices, starts, length, seed):
    """One walk from each start, each step to a uniform neighbour; −1 behind a dead end."""
    walks = np.full((len(starts), length), -1, np.int32)
    state = np.array([seed], np.uint64)
    for w in range(len(starts)):
        node = starts[w]
        walks[w, 0] = node
        for i in range(1, length):
            first, count = indptr[node], indptr[node + 1] - indptr[node]
            if count == 0:
                break
            node = indices[first + below(state, count)]
            walks[w, i] = node
    return walks


@numba.njit(cache=True, fastmath=True)
@typing.no_type_check
def skip_gram(walks, vectors, contexts, table, window, negative, lr, seed):
    """One pass of skip-gram with negative sampling over the walks, in place; the rate falls linearly to a thousandth."""
    state = np.array([seed], np.uint64)
    count, length = walks.shape
    d = vectors.shape[1]
    gradient = np.zeros(d, np.float32)
    for w in range(count):
        rate = np.float32(lr * max(1 - w / count, 1e-3))
        for i in range(length):
            centre = walks[w, i]
            if centre < 0:
                break
            reach = 1 + below(state, window)
            for j in range(max(0, i - reach), min(length, i + reach + 1)):
                word = walks[w, j]
                if j == i or word < 0:
                    continue
                gradient[:] = 0
                for k in range(negative + 1):
                    if k == 0:
                        target, label = centre, np.float32(1)
                    else:
                        target, label = table[below(state, len(table))], np.float32(0)
                        if target == centre:
                            continue
                    dot = np.float32(0)
                    for q in range(d):
                        dot += vectors[word, q] * contexts[target, q]
                    step = (label - np.float32(1) / (np.float32(1) + np.exp(-dot))) * rate
                    for q in range(d):
                        gradient[q] += step * contexts[target, q]
                        contexts[target, q] += step * vectors[word, q]
                for q in range(d):
                    vectors[word, q] += gradient[q]
