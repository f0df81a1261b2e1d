"""Kernels of walks over simplices. Sets of ids are lists in ascending order: ids[ptr[i] : ptr[i + 1]]."""

import typing

import numba
import numpy as np

from ziggurat.graphs.embeddings._kernels import below, draw


@numba.njit(cache=True)
@typing.no_type_check
def common(ptr, ids, a, b):
    """How many ids the lists of a and b have in common."""
    i, j, found = ptr[a], ptr[b], 0
    while i < ptr[a + 1] and j < ptr[b + 1]:
        if ids[i] == ids[j]:
            found += 1
            i += 1
            j += 1
        elif ids[i] < ids[j]:
            i += 1
        else:
            j += 1
    return found


@numba.njit(cache=True)
@typing.no_type_check
def pick(ptr, ids, own, one, other, state):
    """A uniform id of list `own` that is neither `one` nor `other`; −1 where there is none."""
    count = 0
    for i in range(ptr[own], ptr[own + 1]):
        if ids[i] != one and ids[i] != other:
            count += 1
    if count == 0:
        return -1
    left = below(state, count)
    for i in range(ptr[own], ptr[own + 1]):
        if ids[i] != one and ids[i] != other:
            if left == 0:
                return ids[i]
            left -= 1
    return -1


@numba.njit(cache=True)
@typing.no_type_check
def open_way(ptr, ids, way, one, other):
    """Whether a way has a member that is neither `one` nor `other`."""
    found = False
    for i in range(ptr[way], ptr[way + 1]):
        found = found or (ids[i] != one and ids[i] != other)
    return found


@numba.njit(cache=True)
@typing.no_type_check
def by_connection(way_ptr, ways, member_ptr, members, here, before, state):
    """(next simplex, way): the way uniform among those that lead on, then the simplex among the others on it."""
    count = 0
    for i in range(way_ptr[here], way_ptr[here + 1]):
        if open_way(member_ptr, members, ways[i], here, before):
            count += 1
    if count == 0:
        return -1, -1
    left = below(state, count)
    for i in range(way_ptr[here], way_ptr[here + 1]):
        if open_way(member_ptr, members, ways[i], here, before):
            if left == 0:
                return pick(member_ptr, members, ways[i], here, before, state), ways[i]
            left -= 1
    return -1, -1


@numba.njit(cache=True)
@typing.no_type_check
def by_neighbour(way_ptr, ways, near_ptr, near, here, before, state):
    """(next simplex, way): the simplex uniform among the neighbours, then the way among those that they share."""
    target = pick(near_ptr, near, here, here, before, state)
    if target < 0:
        return -1, -1
    left = below(state, common(way_ptr, ways, here, target))
    i, j = way_ptr[here], way_ptr[target]
    while True:
        if ways[i] == ways[j]:
            if left == 0:
                return target, ways[i]
            left -= 1
            i += 1
            j += 1
        elif ways[i] < ways[j]:
            i += 1
        else:
            j += 1


@numba.njit(cache=True)
@typing.no_type_check
def walk(way_ptr, ways, member_ptr, members, near_ptr, near, starts, seeds, length, neighbour, forward):
    """Simplices and the ways between them (m, length), −1 behind a dead end; with `forward` back only where nothing else is left."""
    simplices = np.full((len(starts), length), -1, np.int64)
    taken = np.full((len(starts), length), -1, np.int64)
    state = np.zeros(1, np.uint64)
    for w in range(len(starts)):
        state[0] = seeds[w] | np.uint64(1)
        draw(state)
        here, before = starts[w], -1
        simplices[w, 0] = here
        for i in range(1, length):
            step, way, avoid = -1, -1, before
            for _ in range(2):
                if neighbour:
                    step, way = by_neighbour(way_ptr, ways, near_ptr, near, here, avoid, state)
                else:
                    step, way = by_connection(way_ptr, ways, member_ptr, members, here, avoid, state)
                if step >= 0:
                    break
                avoid = -1
            if step < 0:
                break
            if forward:
                before = here
            here = step
            simplices[w, i], taken[w, i] = step, way
    return simplices, taken


@numba.njit(cache=True)
@typing.no_type_check
def codes(simplices, face_ptr, faces, coface_ptr, cofaces, window):
    """Bits (m, length, 3 · window − 2): same as j steps ago, j = 1 … window; lower, upper adjacent to it, j = 2 … window each."""
    count, length = simplices.shape
    bits = np.zeros((count, length, 3 * window - 2), np.uint8)
    for w in range(count):
        for i in range(length):
            here = simplices[w, i]
            if here < 0:
                break
            for j in range(1, min(window, i) + 1):
                other = simplices[w, i - j]
                if other == here:
                    bits[w, i, j - 1] = 1
                elif j > 1:
                    bits[w, i, window + j - 2] = common(face_ptr, faces, here, other) > 0
                    bits[w, i, 2 * window + j - 3] = common(coface_ptr, cofaces, here, other) > 0
    return bits
