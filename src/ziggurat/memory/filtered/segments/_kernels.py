"""Kernels of the segment graph. Nodes are positions in the order of the label; windows are [first, last).

Earlier neighbours of a node are the entries begin[node] … begin[node + 1] − 1 of `earlier`, columns to, low, high: the edge exists for
windows with low <= first <= high. Later neighbours stand in `later` (n, slots), padded with −1, and those that were dropped in `gone`, in
entries ends[node] … ends[node + 1] − 1, columns to, died: the edge exists for windows with to < last <= died.
"""

import typing

import numba
import numpy as np

from ziggurat.memory.filtered._kernels import apart, push, sink

STARTS = 3


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def within(node, first, last, begin, earlier, later, ends, gone, found):
    """Writes the neighbours of a node that exist in a window to `found`, and returns how many."""
    size = 0
    for i in range(begin[node], begin[node + 1]):
        if earlier[i, 1] <= first <= earlier[i, 2]:
            found[size] = earlier[i, 0]
            size += 1
    for other in later[node]:
        if other < 0:
            break
        if other < last:
            found[size] = other
            size += 1
    for i in range(ends[node], ends[node + 1]):
        if gone[i, 0] < last <= gone[i, 1]:
            found[size] = gone[i, 0]
            size += 1
    return size


@numba.njit(cache=True)
@typing.no_type_check
def walk_window(
    vectors, first, last, begin, earlier, later, ends, gone, query, beam,
    seen, stamp, found, open_keys, open_nodes, keys, nodes, met, away_met,
):  # fmt: skip
    """As `beam_search`, from three nodes evenly apart in the window. Nodes met, and their distances, go to `met` as far as it is long."""
    waiting, size, computed, count = 0, 0, 0, STARTS
    for part in range(STARTS):
        found[part] = first + (last - first) * part // STARTS
    while True:
        for i in range(count):
            other = found[i]
            if seen[other] == stamp:
                continue
            seen[other] = stamp
            away = apart(vectors[other], query)
            if computed < len(met):
                met[computed], away_met[computed] = other, away
            computed += 1
            if size < beam:
                push(keys, nodes, size, -away, other)
                size += 1
            elif away < -keys[0]:
                sink(keys, nodes, size, -away, other)
            else:
                continue
            push(open_keys, open_nodes, waiting, away, other)
            waiting += 1
        if waiting == 0 or (size == beam and open_keys[0] > -keys[0]):
            break
        node = open_nodes[0]
        waiting -= 1
        sink(open_keys, open_nodes, waiting, open_keys[waiting], open_nodes[waiting])
        count = within(node, first, last, begin, earlier, later, ends, gone, found)
    return size, computed


@numba.njit(cache=True)
@typing.no_type_check
def prune_from(vectors, ids, away, order, low, most, degree, alpha, kept):
    """As `prune`, of the nearest `most` candidates at positions from `low` on; `order` sorts them by distance."""
    size, tried = 0, 0
    for i in order:
        if ids[i] < low:
            continue
        tried += 1
        good = True
        for j in range(size):
            if alpha * alpha * apart(vectors[kept[j]], vectors[ids[i]]) <= away[i]:
                good = False
                break
        if good:
            kept[size] = ids[i]
            size += 1
        if size == degree or tried == most:
            break
    return size


@numba.njit(cache=True)
@typing.no_type_check
def build_segments(vectors, degree, beam, alpha, leap):
    """Inserts the nodes in order: `begin`, `earlier`, `later` and the dropped edges as rows (from, to, died), in the order of dying.

    Each node takes neighbours among the nodes met on the way to it. Those that it keeps serve the windows that begin at or before the
    `leap` quantile of their positions; then the earlier ones are out, and it keeps others for the windows that begin later.
    """
    n, slots = len(vectors), 2 * degree
    begin, earlier = np.zeros(n + 1, np.int64), np.empty((n * degree, 3), np.int32)
    later, gaps, count = np.full((n, slots), -1, np.int32), np.empty((n, slots), np.float32), np.zeros(n, np.int64)
    dropped, fallen = np.empty((n * degree, 3), np.int32), 0
    ends, gone = np.zeros(n + 1, np.int64), np.empty((0, 2), np.int32)
    seen, open_keys, open_nodes = np.zeros(n, np.int64), np.empty(n, np.float32), np.empty(n, np.int32)
    keys, nodes, found = np.empty(beam, np.float32), np.empty(beam, np.int32), np.empty(n + STARTS, np.int32)
    met, away, kept = np.empty(n, np.int32), np.empty(n, np.float32), np.empty(slots, np.int32)
    for node in range(n):
        at = begin[node]
        if node > 0:
            _, computed = walk_window(
                vectors, 0, node, begin, earlier, later, ends, gone, vectors[node], beam,
                seen, node, found, open_keys, open_nodes, keys, nodes, met, away,
            )  # fmt: skip
            order, low = np.argsort(away[:computed]), 0
            while low < node:
                size = prune_from(vectors, met, away, order, low, beam, degree, alpha, kept)
                if size == 0:
                    break
                high = np.sort(kept[:size])[int(np.ceil(leap * (size - 1)))]
                if at + size > len(earlier):
                    more = np.empty((2 * len(earlier) + size, 3), np.int32)
                    more[:at] = earlier[:at]
                    earlier = more
                for other in kept[:size]:
                    i = begin[node]
                    while i < at and not (earlier[i, 0] == other and earlier[i, 2] == low - 1):
                        i += 1
                    if i == at:
                        earlier[at, 0], earlier[at, 1] = other, low
                        at += 1
                    earlier[i, 2] = min(high, other)
                low = high + 1
        begin[node + 1] = at
        for i in range(begin[node], at):
            other = earlier[i, 0]
            have = count[other]
            if have and later[other, have - 1] == node:
                continue  # kept for two separate runs of windows
            later[other, have], gaps[other, have] = node, apart(vectors[other], vectors[node])
            count[other] = have + 1
            if have + 1 < slots:
                continue
            near = np.argsort(gaps[other])
            size = prune_from(vectors, later[other], gaps[other], near, 0, slots, degree, alpha, kept)
            if fallen + slots > len(dropped):
                more = np.empty((2 * len(dropped) + slots, 3), np.int32)
                more[:fallen] = dropped[:fallen]
                dropped = more
            left = 0
            for j in range(slots):
                one = later[other, j]
                if (kept[:size] == one).any():
                    later[other, left], gaps[other, left] = one, gaps[other, j]
                    left += 1
                elif one < node:
                    dropped[fallen, 0], dropped[fallen, 1], dropped[fallen, 2] = other, one, node
                    fallen += 1
            later[other, left:], count[other] = -1, left
    return begin, earlier[: begin[n]].copy(), later, dropped[:fallen].copy()


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def search_windows(vectors, begin, earlier, later, ends, gone, queries, first, last, k, beam):
    """The k nearest nodes of each window that a walk ends with: rows (m, k), padded with −1 and ∞, and distances computed (m,)."""
    m, n = len(queries), len(vectors)
    rows, far, computed = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32), np.zeros(m, np.int64)
    seen, open_keys, open_nodes = np.zeros(n, np.int64), np.empty(n, np.float32), np.empty(n, np.int32)
    keys, nodes, found = np.empty(beam, np.float32), np.empty(beam, np.int32), np.empty(n + STARTS, np.int32)
    met, away = np.empty(0, np.int32), np.empty(0, np.float32)
    for i in range(m):
        size, computed[i] = walk_window(
            vectors, first[i], last[i], begin, earlier, later, ends, gone, queries[i], beam,
            seen, i + 1, found, open_keys, open_nodes, keys, nodes, met, away,
        )  # fmt: skip
        order = np.argsort(-keys[:size])[:k]
        for j in range(len(order)):
            rows[i, j], far[i, j] = nodes[order[j]], -keys[order[j]]
    return rows, far, computed
