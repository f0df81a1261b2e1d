"""Kernels of training on single edges with negative sampling."""

import typing

import numba
import numpy as np

from ziggurat.graphs.embeddings._alias import pick

LOOSE = {"reassoc", "contract", "arcp", "afn", "nsz"}
"""Sums in any order, but what is not finite stays so: a rate that is too high must show."""


@numba.njit(cache=True, fastmath=LOOSE, error_model="numpy")
@typing.no_type_check
def edge_update(source, targets, vectors, contexts, rate):
    """One ascent of log σ(c_0 · u) + Σ_k log σ(−c_k · u), c_0 that of the first target; u moves when all targets are done."""
    d = vectors.shape[1]
    gradient = np.zeros_like(vectors[0])
    zero, one = vectors.dtype.type(0), vectors.dtype.type(1)
    for k in range(len(targets)):
        target = targets[k]
        dot = zero
        for j in range(d):
            dot += vectors[source, j] * contexts[target, j]
        step = rate * ((one if k == 0 else zero) - one / (one + np.exp(-dot)))
        for j in range(d):
            gradient[j] += step * contexts[target, j]
            contexts[target, j] += step * vectors[source, j]
    for j in range(d):
        vectors[source, j] += gradient[j]


@numba.njit(cache=True, fastmath=LOOSE, error_model="numpy")
@typing.no_type_check
def train_on_edges(
    ends,
    edge_accept,
    edge_alias,
    noise_accept,
    noise_alias,
    vectors,
    contexts,
    samples,
    negative,
    lr,
    scale,
    most,
    seed,
):
    """`samples` updates in place, each on an edge drawn from its table; the rate falls linearly to 1e-4 of `lr`.

    The step of edge e is its rate times scale[e], and not more than `most`.
    """
    state = np.array([seed], np.uint64)
    targets = np.zeros(negative + 1, np.int64)
    for t in range(samples):
        edge = pick(state, edge_accept, edge_alias, 0, len(edge_accept))
        targets[0] = ends[1, edge]
        for k in range(negative):
            targets[1 + k] = pick(state, noise_accept, noise_alias, 0, len(noise_accept))
        rate = min(lr * max(1 - t / samples, 1e-4) * scale[edge], most)
        edge_update(ends[0, edge], targets, vectors, contexts, vectors.dtype.type(rate))
