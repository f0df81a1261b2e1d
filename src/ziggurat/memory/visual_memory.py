"""Visual memory: a frozen embedding and editable labelled neighbours classify; knowledge is added, removed and pruned by rows.

    class = argmax_c Σ_r [label of the neighbour at rank r = c] · w_r,   RankVoting: w_r = 1 / (r + 2), r = 0, 1, …

No training anywhere. A decision is explained by its neighbours and their weights.

R. Geirhos, P. Jaini, A. Stone, S. Medapati, X. Yi, G. Toderici, A. Ogale, J. Shlens, Towards flexible perception with visual memory,
2024, arXiv:2408.08172.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ziggurat.data.progress import measured
from ziggurat.memory.indexes import unit
from ziggurat.memory.memory import Hits, Memory
from ziggurat.memory.stores import Id
from ziggurat.memory.votes import (
    distance_weights,
    plurality_weights,
    rank_weights,
    softmax_weights,
    winner,
)

READ = 50_000  # vectors that are read at once
Vote = Literal["plurality", "distance", "softmax", "rank"]
VOTES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plurality": plurality_weights,
    "distance": distance_weights,
    "softmax": softmax_weights,
    "rank": rank_weights,
}


@dataclass(frozen=True)
class Decisions:
    """What was decided and why: the label of each query, its neighbours, and the weight of each of them."""

    labels: list[Any]
    hits: Hits
    weights: np.ndarray


class VisualMemory:
    """A classifier whose knowledge are the rows of a memory.

    Arguments:
        memory: with the metric "cosine"; the metadata of its rows hold the label.
        label: name of the label in the metadata; a level of a hierarchy is another name.
        encoder: inputs -> vectors (N, D), for `add` and `predict` with inputs instead of vectors; None takes vectors.
    """

    def __init__(
        self, memory: Memory, label: str = "label", encoder: Callable[[Any], np.ndarray] | None = None
    ) -> None:
        if memory.index.metric != "cosine":
            raise ValueError(f"a visual memory compares by cosine, this index has the metric {memory.index.metric!r}.")
        self.memory, self.label, self.encoder = memory, label, encoder
        self.reliability: dict[Id, float] = {}

    def __len__(self) -> int:
        return len(self.memory)

    def _vectors(self, inputs: Any) -> np.ndarray:
        vectors = inputs if self.encoder is None else self.encoder(inputs)
        return unit(np.atleast_2d(np.asarray(vectors, dtype=np.float32)))

    def add(self, ids: Sequence[Id], inputs: Any, metadata: Sequence[dict[str, Any]]) -> None:
        """Adds labelled examples: known at once, without training."""
        missing = next((i for i, row in zip(ids, metadata, strict=True) if self.label not in row), None)
        if missing is not None:
            raise ValueError(f"the metadata of {missing!r} have no {self.label!r}; every example needs its label.")
        self.memory.add(ids, self._vectors(inputs), metadata)
        for one in ids:  # an example of that name may have been pruned before
            self.reliability.pop(one, None)

    def remove(self, ids: Sequence[Id]) -> int:
        """Forgets examples; afterwards it is as if they had never been there."""
        for one in ids:
            self.reliability.pop(one, None)
        return self.memory.remove(ids)

    def search(self, inputs: Any, k: int = 100, where: str | None = None) -> Hits:
        """The nearest examples."""
        return self.memory.search(self._vectors(inputs), k, where)

    def predict(
        self, inputs: Any, k: int = 100, vote: Vote = "rank", where: str | None = None, label: str | None = None
    ) -> Decisions:
        """The class of each query by the vote of its k nearest examples.

        Arguments:
            vote: "rank" counts by order, "plurality" all alike, "distance" exp(−d), "softmax" exp((1 − d) / 0.07).
            where: a filter on the examples that may vote; ranks are counted behind it.
            label: another level of labels for this call.
        """
        if vote not in VOTES:
            raise ValueError(f"vote must be one of {', '.join(VOTES)}, got {vote!r}.")
        if k < 1 or not len(self):
            raise ValueError(
                f"a vote needs k of 1 or more and a memory that is not empty, got k={k} and {len(self)} rows."
            )
        hits = self.search(inputs, k, where)
        if not hits.distances.shape[1]:
            raise ValueError(f"no example satisfies {where!r}, so nobody can vote; relax the filter.")
        if not hits.ids:
            return Decisions([], hits, np.zeros(hits.distances.shape))
        names, labels = self._labels(hits, label or self.label)
        trust = np.array([self.reliability.get(i, 1.0) for row in hits.ids for i in row]).reshape(labels.shape)
        trust[~trust.any(1)] = 1.0  # where every neighbour was pruned, all keep their vote
        order = (trust == 0).argsort(1, kind="stable")  # a pruned neighbour takes no rank
        weights = np.zeros_like(trust)
        np.put_along_axis(weights, order, VOTES[vote](np.take_along_axis(hits.distances, order, 1)), 1)
        weights *= trust
        chosen = winner(np.where(trust > 0, labels, -1), weights, len(names))
        return Decisions([names[i] for i in chosen], hits, weights)

    def _labels(self, hits: Hits, label: str) -> tuple[list[Any], np.ndarray]:
        """Names of the classes in order of first occurrence, and the class of each neighbour as a number."""
        names: dict[Any, int] = {}
        labels = np.empty(hits.distances.shape, np.int64)
        for row, (ids, about) in enumerate(zip(hits.ids, hits.metadata, strict=True)):
            for place, (one, m) in enumerate(zip(ids, about, strict=True)):
                if label not in m:
                    raise ValueError(
                        f"the example {one!r} has no {label!r}; it has {', '.join(map(repr, m)) or 'no metadata'}."
                    )
                labels[row, place] = names.setdefault(m[label], len(names))
        return list(names), labels

    def prune(self, mode: Literal["hard", "soft", "none"], k: int = 20, threshold: float = 0.5) -> int:
        """Examples that mislead lose their vote: all of it ("hard") or in part ("soft"); "none" gives every vote back. No row is removed.

        Arguments:
            k: neighbours that every example asks (see `MemoryPruner`).
            threshold: "hard" silences examples that are less reliable.

        Returns how many examples lost a vote or part of it.
        """
        if mode not in ("hard", "soft", "none"):
            raise ValueError(f"mode must be 'hard', 'soft' or 'none', got {mode!r}.")
        self.reliability = {}
        if mode == "none":
            return 0
        pruner = MemoryPruner(k).fit(self)
        found = zip(pruner.ids_, pruner.reliability_.tolist(), strict=True)
        if mode == "soft":
            self.reliability = {i: r for i, r in found if r < 1}
        else:
            self.reliability = {i: 0.0 for i, r in found if r < threshold}
        return len(self.reliability)


class MemoryPruner:
    """Finds out by leave-one-out how reliable each example of a memory is.

    Every example asks its k nearest others. A neighbour of another label misleads; the reliability of an example is the share of its
    appearances in which it did not. (Counting every neighbour of a wrong decision, as one may read the paper, tells good from bad
    examples no more once labels are so noisy that the decision itself is mostly right and the query's label wrong.) An example that
    never appears keeps 1.

    Arguments:
        k: neighbours that every example asks.

    After `fit`: `ids_` and `reliability_` (N,) in [0, 1], `appearances_` and `misled_` (N,) counts.
    """

    def __init__(self, k: int = 20) -> None:
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}.")
        self.k = k

    def fit(self, memory: VisualMemory, block: int = 512) -> MemoryPruner:
        """Every example asks its k nearest others."""
        rows = memory.memory.store.scan()
        if memory.label not in rows or rows[memory.label].isna().any():
            raise ValueError(f"some examples have no {memory.label!r}; without labels nobody is misled.")
        ids, keys = rows["id"].tolist(), rows["key"].to_numpy(dtype=np.int64)
        labels = rows[memory.label].to_numpy(dtype=object)
        del rows  # of a million examples a gigabyte
        place = {one: i for i, one in enumerate(ids)}
        self.appearances_, self.misled_ = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
        with measured(len(ids), "asking the neighbours") as advance:
            for first in range(0, len(ids), READ):
                vectors = memory.memory.store.vectors(keys[first : first + READ])
                for start in range(0, len(vectors), block):
                    hits = memory.memory.search(vectors[start : start + block], min(self.k + 1, len(ids)))
                    for own, row in enumerate(hits.ids, first + start):
                        near = [place[i] for i in row if i in place and i != ids[own]]  # some may have come meanwhile
                        others = np.array(near[: self.k], dtype=np.int64)
                        self.appearances_[others] += 1
                        self.misled_[others[labels[others] != labels[own]]] += 1
                    advance(len(hits.ids))
        self.ids_ = ids
        self.reliability_ = 1 - self.misled_ / np.maximum(self.appearances_, 1)
        return self
