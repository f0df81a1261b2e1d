"""Random walks over the simplices of one dimension: a step goes to another simplex that shares a face or a coface."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from scipy import sparse
from torch import Tensor

from ziggurat.data.graphs.complexes import CWComplex
from ziggurat.data.seeds import derive
from ziggurat.graphs.complexes._kernels import codes, walk

Sampling = Literal["connection", "neighbour"]
Lists = tuple[np.ndarray, np.ndarray]
"""Lists of ids, each in ascending order: (begin of each and the end of the last, ids)."""


class SimplicialWalks(NamedTuple):
    """m walks of l steps over simplices of one dimension.

    Fields:
        simplices: (m, l), −1 behind a dead end, which only a simplex without neighbours is.
        faces, cofaces: (m, l), the one over which the walk came to a simplex; of the two exactly one is there, the other −1. Both are −1
            at the start.
    """

    simplices: Int64[Tensor, "m l"]
    faces: Int64[Tensor, "m l"]
    cofaces: Int64[Tensor, "m l"]


def lists(owner: Tensor, ids: Tensor, owners: int, count: int) -> Lists:
    """The ids of each owner; a pair that stands twice counts once."""
    pairs = (owner.cpu().numpy(), ids.cpu().numpy())
    matrix = sparse.csr_matrix((np.ones(len(pairs[0]), np.int8), pairs), shape=(owners, count))
    matrix.sort_indices()
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)


def faces_of(cells: CWComplex, k: int) -> Lists:
    """The faces of each cell of dimension k; none for nodes."""
    if k == 0:
        return np.zeros(cells.sizes[0] + 1, np.int64), np.zeros(0, np.int64)
    low, high = cells.faces[k - 1]
    return lists(high, low, cells.sizes[k], cells.sizes[k - 1])


def cofaces_of(cells: CWComplex, k: int) -> Lists:
    """The cofaces of each cell of dimension k; none at the top."""
    if k == len(cells.faces):
        return np.zeros(cells.sizes[k] + 1, np.int64), np.zeros(0, np.int64)
    low, high = cells.faces[k]
    return lists(low, high, cells.sizes[k], cells.sizes[k + 1])


def flipped(given: Lists, count: int) -> Lists:
    """Who has each id: the same pairs, sorted by id."""
    pointer, ids = given
    matrix = sparse.csr_matrix((np.ones(len(ids), np.int8), ids, pointer), shape=(len(pointer) - 1, count)).T.tocsr()
    matrix.sort_indices()
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)


def neighbours(ways: Lists, count: int) -> Lists:
    """The simplices that share a way with each one, itself included where it has a way."""
    pointer, ids = ways
    matrix = sparse.csr_matrix((np.ones(len(ids), np.float32), ids, pointer), shape=(len(pointer) - 1, count))
    near = (matrix @ matrix.T).tocsr()
    near.sort_indices()
    return near.indptr.astype(np.int64), near.indices.astype(np.int64)


def begins(simplices: int, count: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where walks start, as evenly as possible, and a seed of each that depends on its start and how often that was one before."""
    count = simplices if count is None else count
    rounds, rest = divmod(count, simplices) if simplices else (0, 0)
    drawn = np.sort(np.random.default_rng(derive(seed, "starts")).permutation(simplices)[:rest])
    starts = np.concatenate([np.tile(np.arange(simplices), rounds), drawn]).astype(np.int64)
    turn = np.concatenate([np.repeat(np.arange(rounds), simplices), np.full(len(drawn), rounds)]).astype(np.uint64)
    mixed = np.uint64(derive(seed, "walks")) + starts.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += turn * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return starts, mixed ^ (mixed >> np.uint64(31))


def simplicial_walks(
    cells: CWComplex,
    k: int,
    count: int | None = None,
    length: int = 50,
    seed: int = 0,
    sampling: Sampling = "connection",
    non_backtracking: bool = False,
) -> SimplicialWalks:
    """Walks over the simplices of dimension k.

    Arguments:
        count: m; None starts one at each simplex. Starts are as even as possible.
        length: l, the number of simplices on a walk.
        seed: of starts and steps.
        sampling: "connection" draws a face or coface of the simplex that leads to another one, then one of the others on it; "neighbour"
            draws one of all neighbours, then what connects the two.
        non_backtracking: a step goes back where it came from only where no other is left.
    """
    if not 0 <= k <= len(cells.faces):
        raise ValueError(f"the complex has simplices of dimension 0 to {len(cells.faces)}, got {k}.")
    if sampling not in ("connection", "neighbour"):
        raise ValueError(f"sampling must be 'connection' or 'neighbour', got {sampling!r}.")
    if length < 1 or (count is not None and count < 0):
        raise ValueError(f"length must be 1 or more and count 0 or more, got {length} and {count}.")
    low, high = faces_of(cells, k), cofaces_of(cells, k)
    faces = cells.sizes[k - 1] if k else 0
    total = faces + (cells.sizes[k + 1] if k < len(cells.faces) else 0)
    ways = joined(low, (high[0], high[1] + faces))
    near = neighbours(ways, total) if sampling == "neighbour" else (np.zeros(1, np.int64), np.zeros(0, np.int64))
    starts, seeds = begins(cells.sizes[k], count, seed)
    simplices, taken = walk(
        *ways, *flipped(ways, total), *near, starts, seeds, length, sampling == "neighbour", non_backtracking
    )
    device = cells.x[k].device
    by_face = (taken >= 0) & (taken < faces)
    found = (simplices, np.where(by_face, taken, -1), np.where(taken >= faces, taken - faces, -1))
    return SimplicialWalks(*(torch.from_numpy(part).to(device) for part in found))


def joined(first: Lists, second: Lists) -> Lists:
    """Both lists of each owner, one behind the other."""
    sizes = np.diff(first[0]), np.diff(second[0])
    pointer = np.concatenate([[0], (sizes[0] + sizes[1]).cumsum()]).astype(np.int64)
    ids = np.empty(pointer[-1], np.int64)
    ids[np.arange(len(first[1])) + np.repeat(pointer[:-1] - first[0][:-1], sizes[0])] = first[1]
    ids[np.arange(len(second[1])) + np.repeat(pointer[:-1] + sizes[0] - second[0][:-1], sizes[1])] = second[1]
    return pointer, ids


def walk_codes(cells: CWComplex, k: int, simplices: Int64[Tensor, "m l"], window: int) -> UInt8[Tensor, "m l c"]:
    """What a walk can tell without names: bits (m, l, 3s − 2) of each step.

    First, for j = 1 … s, whether the simplex is that of j steps ago; then, for j = 2 … s, whether it shares a face with that one, and
    last, whether it shares a coface with it. Row i depends on the simplices i − s … i only.
    """
    if window < 1:
        raise ValueError(f"window must be 1 step or more, got {window}.")
    bits = codes(simplices.cpu().numpy(), *faces_of(cells, k), *cofaces_of(cells, k), window)
    return torch.from_numpy(bits).to(simplices.device)
