"""Kernel that draws the neighbourhoods of some nodes."""

import typing

import numba
import numpy as np

from ziggurat.graphs.embeddings._kernels import below


@numba.njit(cache=True)
@typing.no_type_check
def neighbourhoods(indptr, sources, roots, fanouts, seed):
    """Nodes around the roots, the roots first, and the edges drawn: (nodes, source place, target place, edge).

    A hop draws up to `fanouts[hop]` different incoming edges of every node that the hop before has found, all of them if it is −1.
    """
    state = np.array([seed], np.uint64)
    place = np.full(len(indptr) - 1, -1, np.int64)
    nodes = [np.int64(0)]
    nodes.clear()
    for root in roots:
        if place[root] < 0:
            place[root] = len(nodes)
            nodes.append(root)
    from_place, to_place, edges = [np.int64(0)], [np.int64(0)], [np.int64(0)]
    from_place.clear()
    to_place.clear()
    edges.clear()
    chosen = np.zeros(0, np.int64)
    start = 0
    for fanout in fanouts:
        end = len(nodes)
        for at in range(start, end):
            node = nodes[at]
            first, count = indptr[node], indptr[node + 1] - indptr[node]
            take = count if fanout < 0 else min(fanout, count)
            if len(chosen) < count:
                chosen = np.arange(2 * count)
            for i in range(count):
                chosen[i] = i
            for i in range(take):  # the first places of a shuffle: different edges, each with equal probability
                if take < count:
                    j = i + below(state, count - i)
                    chosen[i], chosen[j] = chosen[j], chosen[i]
                edge = first + chosen[i]
                source = sources[edge]
                if place[source] < 0:
                    place[source] = len(nodes)
                    nodes.append(source)
                from_place.append(place[source])
                to_place.append(at)
                edges.append(edge)
        start = end
    return np.array(nodes), np.array(from_place), np.array(to_place), np.array(edges)
