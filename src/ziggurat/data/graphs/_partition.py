"""Kernel that cuts a graph in two."""

import typing

import numba
import numpy as np


@numba.njit(cache=True)
@typing.no_type_check
def spread(indptr, indices, nodes, label, tag, start):
    """The nodes with a label, breadth first from nodes[start], then from the next one that was not reached."""
    order, seen = np.empty_like(nodes), np.zeros(len(label), np.bool_)
    found, at, fresh = 0, 0, 0
    while found < len(nodes):
        root = nodes[start]
        while seen[root]:
            root = nodes[fresh]
            fresh += 1
        seen[root] = True
        order[found] = root
        found += 1
        while at < found:
            here = order[at]
            at += 1
            for e in range(indptr[here], indptr[here + 1]):
                near = indices[e]
                if label[near] == tag and not seen[near]:
                    seen[near] = True
                    order[found] = near
                    found += 1
    return order


@numba.njit(cache=True)
@typing.no_type_check
def exchange(indptr, indices, nodes, side, gain, locked, near):
    """One pass of Kernighan and Lin: swaps pair after pair, the best one first, and takes back those behind the best moment."""
    for v in nodes:
        gain[v], locked[v] = 0, False
        for e in range(indptr[v], indptr[v + 1]):
            if side[indices[e]] >= 0:
                gain[v] += 1 if side[indices[e]] != side[v] else -1
    swaps = min((side[nodes] == 0).sum(), (side[nodes] == 1).sum())
    first, second = np.empty(swaps, np.int64), np.empty(swaps, np.int64)
    total, best, keep = 0, 0, 0
    for t in range(swaps):
        a = b = -1
        for v in nodes:
            if side[v] == 0 and not locked[v] and (a < 0 or gain[v] > gain[a]):
                a = v
        for e in range(indptr[a], indptr[a + 1]):
            near[indices[e]] += 2
        for v in nodes:
            if side[v] == 1 and not locked[v] and (b < 0 or gain[v] - near[v] > gain[b] - near[b]):
                b = v
        total += gain[a] + gain[b] - near[b]
        for e in range(indptr[a], indptr[a + 1]):
            near[indices[e]] = 0
        for moved in (a, b):
            locked[moved] = True
            for e in range(indptr[moved], indptr[moved + 1]):
                other = indices[e]
                if side[other] >= 0:
                    gain[other] += 2 if side[other] == side[moved] else -2
            side[moved] = 1 - side[moved]
        first[t], second[t] = a, b
        if total > best:
            best, keep = total, t + 1
    for t in range(keep, swaps):
        side[first[t]], side[second[t]] = 0, 1
    return best


@numba.njit(cache=True)
@typing.no_type_check
def halves(indptr, indices, nodes, quota, label, tag, start, passes):
    """Two lists of the nodes with a label (ascending), `quota` in the first, with few edges between them."""
    far = spread(indptr, indices, nodes, label, tag, start)[
        -1
    ]  # from an end of the graph the first half has a short border
    order = spread(indptr, indices, nodes, label, tag, np.searchsorted(nodes, far))
    side = np.full(len(label), -1, np.int64)
    for i in range(len(order)):
        side[order[i]] = 0 if i < quota else 1
    gain, near = np.zeros(len(label), np.int64), np.zeros(len(label), np.int64)
    locked = np.zeros(len(label), np.bool_)
    for _ in range(passes):
        if exchange(indptr, indices, nodes, side, gain, locked, near) <= 0:
            break
    return nodes[side[nodes] == 0], nodes[side[nodes] == 1]
