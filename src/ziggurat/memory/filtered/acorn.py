"""ACORN: a graph that is dense enough that what a filter leaves of it is a navigable graph still."""

from __future__ import annotations

import numpy as np

from ziggurat.data.seeds import derive
from ziggurat.memory.filtered.filters import Asked, FilteredIndex
from ziggurat.memory.filtered.inner import Found, MakeInner, Queries, Vamana
from ziggurat.memory.filtered.walks._kernels import build_acorn, search_allowed


class AcornIndex(FilteredIndex):
    """ACORN-γ: a hierarchical graph that is built without knowing the filters, with γ times as many neighbours as a walk needs.

    Under a filter that selects a share of at least 1 / γ, about M of a node's M γ neighbours are left; a walk goes through those alone,
    and takes the first M. In the lowest layer the lists are compressed: the nearest M_β neighbours are kept, and of the others those that
    no kept one of them leads to; a walk finds the dropped ones again, in the lists of the neighbours behind the first M_β.

    For shares below 1 / γ the paper scans what the filter selects. This index walks under every filter, and `PreFilter` scans, so that a
    benchmark can tell them apart.

    Arguments:
        degree: M.
        gamma: γ, one over the smallest share that filters are expected to select.
        direct: M_β.
        random_state: of the order of insertion and the layers.

    L. Patel, P. Kraft, C. Guestrin, M. Zaharia, ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured
    Data, 2024, arXiv:2403.04871.
    """

    def __init__(self, degree: int = 32, gamma: int = 12, direct: int = 64, random_state: int = 0) -> None:
        super().__init__()
        if degree < 2 or gamma < 1 or not 1 <= direct <= degree * gamma:
            raise ValueError(
                f"degree must be 2 or more, gamma 1 or more and direct 1 to degree * gamma, got {degree}, {gamma}, {direct}."
            )
        self.degree, self.gamma, self.direct, self.random_state = degree, gamma, direct, random_state

    def _make(self) -> None:
        rng, n = np.random.default_rng(derive(self.random_state, "acorn")), len(self)
        order = rng.permutation(n)
        tops = (rng.exponential(size=n) / np.log(self.degree)).astype(np.int64)
        rows = np.cumsum(tops) - tops
        self.places = np.stack([np.arange(n), *(rows + level for level in range(tops.max()))])
        self.base, self.upper, self.start = build_acorn(
            self.vectors, order, tops, self.places, self.degree, self.gamma, self.direct
        )

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        starts, wide = np.full(len(queries), self.start), min(max(beam, k), len(self))
        found = search_allowed(
            self.vectors,
            self.base,
            self.upper,
            self.places,
            starts,
            queries,
            asked.masks,
            asked.which,
            k,
            wide,
            self.degree,
            self.direct,
        )  # fmt: skip
        return Found(*found)

    @property
    def bytes(self) -> int:
        return self.base.nbytes + self.upper.nbytes + self.places.nbytes


class Acorn1Index(FilteredIndex):
    """ACORN-1: an ordinary graph; under a filter a walk replaces the neighbours that it loses by allowed neighbours of its neighbours.

    The paper's graph has layers and lists of one length M, of which a walk sees M under every filter. This one has no layers, so that a
    walk sets out from the middle of the data, and a walk sees as many neighbours as a node's list has.

    Arguments:
        make: the graph.
    """

    def __init__(self, make: MakeInner = Vamana) -> None:
        super().__init__()
        self.make = make

    def _make(self) -> None:
        graph = self.make(self.vectors)
        if not isinstance(graph, Vamana):
            raise ValueError(f"make must build a Vamana graph, got a {type(graph).__name__}.")
        self.graph = graph

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        starts, wide = np.full(len(queries), self.graph.start), min(max(beam, k), len(self))
        lists, places = self.graph.neighbours, np.arange(len(self))[None]
        found = search_allowed(
            self.vectors,
            lists,
            lists[:0],
            places,
            starts,
            queries,
            asked.masks,
            asked.which,
            k,
            wide,
            0,
            0,
        )  # fmt: skip
        return Found(*found)

    @property
    def bytes(self) -> int:
        return self.graph.neighbours.nbytes
