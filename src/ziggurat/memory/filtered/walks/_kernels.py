"""Kernels of graphs walked through allowed nodes: scans, walks, and the building of ACORN's and Filtered-DiskANN's graphs.

Nodes are rows of `vectors`. A list of neighbours is padded with −1; a layer's list of a node is the row `place[node]` of its `lists`.
"""

import typing

import numba
import numpy as np

from ziggurat.memory.filtered._kernels import apart, push, sink


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def scan_allowed(vectors, queries, masks, which, k):
    """The k nearest of the rows that masks[which[i]] allows to each query: rows (m, k), padded with −1 and ∞, and distances computed."""
    m = len(queries)
    rows, away, computed = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32), np.zeros(m, np.int64)
    keys, nodes = np.empty(k, np.float32), np.empty(k, np.int64)
    for i in range(m):
        size, inside = 0, np.flatnonzero(masks[which[i]])
        for row in inside:
            gap = apart(vectors[row], queries[i])
            if size < k:
                push(keys, nodes, size, -gap, row)
                size += 1
            elif gap < -keys[0]:
                sink(keys, nodes, size, -gap, row)
        order = np.argsort(-keys[:size])
        for j in range(size):
            rows[i, j], away[i, j] = nodes[order[j]], -keys[order[j]]
        computed[i] = len(inside)
    return rows, away, computed


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def around(lists, place, node, allowed, most, direct, found, listed):
    """Writes the allowed neighbours of a node to `found`, `most` at most (0: as many as its list has), and returns how many.

    Those of its own list come first, then those of the lists of its entries from position `direct` on. `listed` (n + 1,) marks what is
    found already, by a number that is counted up in its last entry.
    """
    listed[-1] += 1
    turn, own, size = listed[-1], lists[place[node]], 0
    listed[node] = turn
    if most == 0:
        while most < len(own) and own[most] >= 0:
            most += 1
    for other in own:
        if other < 0 or size == most:
            break
        if allowed[other]:
            found[size], listed[other] = other, turn
            size += 1
    for i in range(direct, len(own)):
        if own[i] < 0 or size == most:
            break
        for other in lists[place[own[i]]]:
            if other < 0 or size == most:
                break
            if allowed[other] and listed[other] != turn:
                found[size], listed[other] = other, turn
                size += 1
    return size


@numba.njit(cache=True)
@typing.no_type_check
def walk(
    vectors, lists, place, allowed, most, direct, starts, query, beam,
    seen, stamp, listed, found, open_keys, open_nodes, keys, nodes, trail, gone,
):  # fmt: skip
    """As `beam_search`, through allowed nodes only. A start need not be allowed; then the walk begins there, but it is no result."""
    waiting, size, computed, walked, count = 0, 0, 0, 0, len(starts)
    found[:count] = starts
    while True:
        for i in range(count):
            other = found[i]
            if seen[other] == stamp:
                continue
            seen[other] = stamp
            away = apart(vectors[other], query)
            computed += 1
            if allowed[other]:  # all but a start
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
        away, node = open_keys[0], open_nodes[0]
        waiting -= 1
        sink(open_keys, open_nodes, waiting, open_keys[waiting], open_nodes[waiting])
        if walked < len(trail) and allowed[node]:
            trail[walked], gone[walked] = node, away
            walked += 1
        count = around(lists, place, node, allowed, most, direct, found, listed)
    return size, walked, computed


@numba.njit(cache=True, nogil=True)
@typing.no_type_check
def search_allowed(vectors, base, upper, places, starts, queries, masks, which, k, beam, most, direct):
    """The k nearest allowed nodes that a walk for each query ends with: rows (m, k), padded with −1 and ∞, and distances computed (m,).

    From starts[i] down the layers places[1:] of `upper`, each time on to the nearest, and then by a beam through `base` = places[0].
    """
    m, n = len(queries), len(vectors)
    rows, far, computed = np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32), np.zeros(m, np.int64)
    seen, listed, found = np.zeros(n, np.int64), np.zeros(n + 1, np.int64), np.empty(base.shape[1], np.int32)
    open_keys, open_nodes = np.empty(n, np.float32), np.empty(n, np.int32)
    keys, nodes = np.empty(beam, np.float32), np.empty(beam, np.int32)
    trail, gone, at = np.empty(0, np.int32), np.empty(0, np.float32), np.empty(1, np.int32)
    stamp = 0
    for i in range(m):
        at[0] = starts[i]
        for level in range(len(places) - 1, 0, -1):
            stamp += 1
            size, _, count = walk(
                vectors, upper, places[level], masks[which[i]], most, upper.shape[1], at, queries[i], 1,
                seen, stamp, listed, found, open_keys, open_nodes, keys, nodes, trail, gone,
            )  # fmt: skip
            computed[i] += count
            if size > 0:
                at[0] = nodes[0]
        stamp += 1
        size, _, count = walk(
            vectors, base, places[0], masks[which[i]], most, direct, at, queries[i], beam,
            seen, stamp, listed, found, open_keys, open_nodes, keys, nodes, trail, gone,
        )  # fmt: skip
        computed[i] += count
        order = np.argsort(-keys[:size])[:k]
        for j in range(len(order)):
            rows[i, j], far[i, j] = nodes[order[j]], -keys[order[j]]
    return rows, far, computed


@numba.njit(cache=True)
@typing.no_type_check
def compress(base, ids, count, direct, most, marked, kept):
    """Positions of the candidates (nearest first) that ACORN keeps: the first `direct`, then those that no kept one of these leads to.

    It ends with a full `kept`, or when the kept ones and what they lead to are `most` together.
    """
    marked[-1] += 1
    turn, size, reach = marked[-1], 0, 0
    for i in range(count):
        if i >= direct:
            if marked[ids[i]] == turn:
                continue
            if size + reach >= most:
                break
            for other in base[ids[i]]:
                if other < 0:
                    break
                if marked[other] != turn:
                    marked[other] = turn
                    reach += 1
        kept[size] = i
        size += 1
        if size == len(kept):
            break
    return size


@numba.njit(cache=True)
@typing.no_type_check
def link(lists, gaps, counts, row, node, gap, direct, most, marked, kept, ids, away, compressed):
    """Adds a neighbour to a list sorted by distance; a full one is compressed again, or loses its farthest."""
    count, width = counts[row], lists.shape[1]
    at = count
    while at > 0 and gaps[row, at - 1] > gap:
        at -= 1
    if count < width:
        for i in range(count, at, -1):
            lists[row, i], gaps[row, i] = lists[row, i - 1], gaps[row, i - 1]
        lists[row, at], gaps[row, at], counts[row] = node, gap, count + 1
        return
    ids[:at], away[:at], ids[at], away[at] = lists[row, :at], gaps[row, :at], node, gap
    ids[at + 1 : count + 1], away[at + 1 : count + 1] = lists[row, at:count], gaps[row, at:count]
    size = width
    if compressed:
        size = compress(lists, ids, count + 1, direct, most, marked, kept[:width])
    for i in range(size):
        j = kept[i] if compressed else i
        lists[row, i], gaps[row, i] = ids[j], away[j]
    lists[row, size:], counts[row] = -1, size


@numba.njit(cache=True)
@typing.no_type_check
def build_acorn(vectors, order, tops, places, degree, gamma, direct):
    """The layers of ACORN: `base` (n, direct + degree), compressed, `upper` (rows, degree · gamma), and the node to start from.

    `tops` (n,) is the highest layer of each node; `places` (layers, n) the row of a node in a layer's lists.
    """
    n, wide = len(vectors), degree * gamma
    base, base_gaps = np.full((n, direct + degree), -1, np.int32), np.empty((n, direct + degree), np.float32)
    rows = int(tops.sum())
    upper, upper_gaps = np.full((rows, wide), -1, np.int32), np.empty((rows, wide), np.float32)
    base_counts, upper_counts = np.zeros(n, np.int64), np.zeros(rows, np.int64)
    everything, seen = np.ones(n, np.bool_), np.zeros(n, np.int64)
    listed, marked, found = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64), np.empty(degree, np.int32)
    open_keys, open_nodes = np.empty(n, np.float32), np.empty(n, np.int32)
    keys, nodes = np.empty(wide, np.float32), np.empty(wide, np.int32)
    trail, gone, at = np.empty(0, np.int32), np.empty(0, np.float32), np.empty(1, np.int32)
    longest = max(wide, base.shape[1]) + 1
    kept, ids, away = np.empty(longest, np.int64), np.empty(longest, np.int32), np.empty(longest, np.float32)
    start, stamp = order[0], 0
    for node in order[1:]:
        at[0] = start
        for level in range(tops[start], -1, -1):
            lists, gaps, counts = (base, base_gaps, base_counts) if level == 0 else (upper, upper_gaps, upper_counts)
            stamp += 1
            size, _, _ = walk(
                vectors, lists, places[level], everything, degree, lists.shape[1], at, vectors[node],
                wide if level <= tops[node] else 1,
                seen, stamp, listed, found, open_keys, open_nodes, keys, nodes, trail, gone,
            )  # fmt: skip
            near = np.argsort(-keys[:size])
            at[0] = nodes[near[0]]
            if level > tops[node]:
                continue
            candidates, far, row = nodes[near], -keys[near], places[level, node]
            if level == 0:
                size = compress(base, candidates, size, direct, wide, marked, kept[: base.shape[1]])
                candidates, far = candidates[kept[:size]], far[kept[:size]]
            lists[row, :size], gaps[row, :size], counts[row] = candidates, far, size
            for i in range(size):
                link(
                    lists, gaps, counts, places[level, candidates[i]], node, far[i], direct, wide, marked,
                    kept, ids, away, level == 0,
                )  # fmt: skip
        if tops[node] > tops[start]:
            start = node
    return base, upper, start


@numba.njit(cache=True, inline="always")
@typing.no_type_check
def covered(labels, first, a, b, witness):
    """Whether the witness has every label that a and b have in common; labels[first[a] : first[a + 1]] are those of a, ascending."""
    i, j, w = first[a], first[b], first[witness]
    while i < first[a + 1] and j < first[b + 1]:
        if labels[i] < labels[j]:
            i += 1
        elif labels[i] > labels[j]:
            j += 1
        else:
            while w < first[witness + 1] and labels[w] < labels[i]:
                w += 1
            if w == first[witness + 1] or labels[w] != labels[i]:
                return False
            i += 1
            j += 1
    return True


@numba.njit(cache=True)
@typing.no_type_check
def prune_labelled(vectors, labels, first, node, ids, away, count, degree, alpha, kept):
    """As `prune`; a kept node drops a candidate only if it has all labels that the candidate shares with `node`."""
    order, size = np.argsort(away[:count]), 0
    for i in order:
        if ids[i] == node:
            continue
        good = True
        for j in range(size):
            if kept[j] == ids[i] or (
                covered(labels, first, node, ids[i], kept[j])
                and alpha * alpha * apart(vectors[kept[j]], vectors[ids[i]]) <= away[i]
            ):
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
def build_labelled(vectors, order, labels, first, members, begin, starts, degree, beam, alpha):
    """The graph of Filtered-DiskANN (n, degree), by inserting the nodes in the given order.

    `members`[begin[l] : begin[l + 1]] are the nodes with label l, `starts`[l] that from which a walk for it sets out. A list may grow
    by a third before it is pruned.
    """
    n, room = len(vectors), degree + max(1, degree // 3)
    lists, count = np.full((n, room), -1, np.int32), np.zeros(n, np.int64)
    place, allowed, seen, listed = np.arange(n), np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n + 1, np.int64)
    open_keys, open_nodes = np.empty(n, np.float32), np.empty(n, np.int32)
    keys, nodes = np.empty(beam, np.float32), np.empty(beam, np.int32)
    found = np.empty(max(room, np.diff(first).max()), np.int32)
    trail, gone = np.empty(n + room, np.int32), np.empty(n + room, np.float32)
    kept, near, gaps = np.empty(degree, np.int32), np.empty(room + 1, np.int32), np.empty(room + 1, np.float32)
    for step in range(n):
        node = order[step]
        own = labels[first[node] : first[node + 1]]
        allowed[:] = False
        for label in own:
            allowed[members[begin[label] : begin[label + 1]]] = True
        allowed[node] = False
        _, walked, _ = walk(
            vectors, lists, place, allowed, room, room, starts[own], vectors[node], beam,
            seen, step + 1, listed, found, open_keys, open_nodes, keys, nodes, trail, gone,
        )  # fmt: skip
        for i in range(count[node]):  # a start may have been linked to before it is inserted
            trail[walked + i], gone[walked + i] = lists[node, i], apart(vectors[lists[node, i]], vectors[node])
        walked += count[node]
        size = prune_labelled(vectors, labels, first, node, trail, gone, walked, degree, alpha, kept)
        lists[node, :size], lists[node, size:], count[node] = kept[:size], -1, size
        for other in lists[node, :size].copy():
            have, known = count[other], False
            for i in range(have):
                known |= lists[other, i] == node
            if known:
                continue
            if have < room:
                lists[other, have], count[other] = node, have + 1
                continue
            near[:have], near[have] = lists[other, :have], node
            for i in range(have + 1):
                gaps[i] = apart(vectors[near[i]], vectors[other])
            size = prune_labelled(vectors, labels, first, other, near, gaps, have + 1, degree, alpha, kept)
            lists[other, :size], lists[other, size:], count[other] = kept[:size], -1, size
    for node in range(n):
        have = count[node]
        if have > degree:
            for i in range(have):
                gaps[i] = apart(vectors[lists[node, i]], vectors[node])
            near[:have] = lists[node, :have]
            size = prune_labelled(vectors, labels, first, node, near, gaps, have, degree, alpha, kept)
            lists[node, :size], lists[node, size:] = kept[:size], -1
    return lists[:, :degree].copy()
