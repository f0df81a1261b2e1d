"""Filtered-DiskANN's graph: a walk for a label goes through nodes with that label only, and pruning leaves it enough edges."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from ziggurat.data.seeds import derive
from ziggurat.memory.filtered.filters import Asked, Contains, Equals, FilteredIndex, Where
from ziggurat.memory.filtered.inner import Found, Queries
from ziggurat.memory.filtered.walks._kernels import build_labelled, search_allowed


class FilteredVamana(FilteredIndex):
    """A Vamana graph over points with sets of labels, with a start for every label; it searches for one label at a time.

    robust prune of node p: a kept c' drops c only if α ‖c' − c‖ <= ‖p − c‖ and c' has all labels that p and c share, so that every
    label's own points stay connected. While building, p is searched for from the starts of all its labels, through nodes that share one.

    Arguments:
        field: an attribute of labels, or of sets of labels.
        degree: R.
        beam: L, of the searches that find candidates while building.
        alpha: α; above 1 longer edges stay.
        tries: τ; a label's start is that of so many of its points, drawn at random, that fewest other labels start from.
        random_state: of the order of insertion and the starts.

    S. Gollapudi et al., Filtered-DiskANN: Graph Algorithms for Approximate Nearest Neighbor Search with Filters, WWW 2023.
    """

    def __init__(
        self,
        field: str,
        degree: int = 64,
        beam: int = 100,
        alpha: float = 1.2,
        tries: int = 50,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        if degree < 2 or min(beam, tries) < 1 or alpha < 1:
            raise ValueError(
                "degree must be 2 or more, beam and tries 1 or more and alpha at least 1, "
                f"got {degree}, {beam}, {tries} and {alpha}."
            )
        self.field, self.degree, self.beam, self.alpha = field, degree, beam, alpha
        self.tries, self.random_state = tries, random_state

    def answers(self, where: Where) -> bool:
        return isinstance(where, Equals | Contains) and where.field == self.field

    def _make(self) -> None:
        rng, members = np.random.default_rng(derive(self.random_state, "labelled")), self.attributes.members(self.field)
        load, starts = np.zeros(len(self), np.int64), np.zeros(len(members), np.int64)
        for label, rows in enumerate(members.values()):
            drawn = rng.permutation(rows)[: self.tries] if len(rows) > self.tries else rng.permutation(rows)
            starts[label] = drawn[load[drawn].argmin()]
            load[starts[label]] += 1
        self.starts: dict = dict(zip(members, starts.tolist(), strict=True))
        sizes = np.array([len(rows) for rows in members.values()], np.int64)
        begin = np.concatenate([[0], np.cumsum(sizes)])
        flat: Int64[np.ndarray, " _"] = np.concatenate([np.zeros(0, np.int64), *members.values()])
        labels = np.repeat(np.arange(len(members)), sizes)
        by_row = np.lexsort((labels, flat))
        first = np.searchsorted(flat[by_row], np.arange(len(self) + 1))
        self.neighbours = build_labelled(
            self.vectors, rng.permutation(len(self)), labels[by_row], first, flat, begin, starts,
            min(self.degree, max(len(self) - 1, 2)), min(self.beam, len(self)), self.alpha,
        )  # fmt: skip

    def _find(self, queries: Queries, k: int, asked: Asked, beam: int) -> Found:
        starts = np.array([self.starts[value] for value in asked.values()], np.int64)
        lists, wide, places = self.neighbours, min(max(beam, k), len(self)), np.arange(len(self))[None]
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
            lists.shape[1],
            lists.shape[1],
        )  # fmt: skip
        return Found(*found)

    @property
    def bytes(self) -> int:
        return self.neighbours.nbytes + 8 * len(self.starts)
