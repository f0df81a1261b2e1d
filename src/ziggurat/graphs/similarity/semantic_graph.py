"""A graph of texts: two of them are joined where their embeddings point in nearly the same direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch_geometric.data import Data

CHUNK, SAMPLE = 1024, 2000
"""Rows of the matrix of similarities held at once, and rows that a quantile is taken from at most."""


def unit_rows(embeddings: Any) -> Float[Tensor, "N D"]:
    """Rows of length 1. Raises a `ValueError` for anything but a matrix of finite numbers."""
    x = torch.as_tensor(np.asarray(embeddings) if not isinstance(embeddings, Tensor) else embeddings)
    if x.ndim != 2 or not x.is_floating_point() or not torch.isfinite(x).all():
        raise ValueError(
            f"embeddings must be a matrix of finite numbers, a row a text, got {x.dtype} of shape {tuple(x.shape)}."
        )
    return torch.nn.functional.normalize(x, dim=1)


class SemanticSimilarityGraph:
    """Joins i and j, i ≠ j, where cos(x_i, x_j) ≥ threshold. The edge's weight is the cosine.

    Arguments:
        threshold: above 1 there are no edges. 0.85 serves embeddings that lie close to each other (a language model's first token);
            encoders trained for similarity spread wider: `at_quantile` takes their threshold from the data.

    N. Nonkes, S. Agaronian, E. Kanoulas, R. Petcu, 2024, arXiv:2407.04485.
    """

    def __init__(self, threshold: float = 0.85) -> None:
        if not np.isfinite(threshold):
            raise ValueError(f"threshold must be a finite number, got {threshold}.")
        self.threshold = float(threshold)

    @classmethod
    def at_quantile(cls, embeddings: Any, quantile: float) -> SemanticSimilarityGraph:
        """The graph whose threshold is a quantile of the similarities of different texts (of 2,000 where there are more)."""
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantile must be between 0 and 1, got {quantile}.")
        unit = unit_rows(embeddings)
        if len(unit) < 2:
            raise ValueError(f"a quantile of similarities needs two texts or more, got {len(unit)}.")
        unit = unit[:: -(-len(unit) // SAMPLE)]
        row, col = torch.triu_indices(len(unit), len(unit), 1)
        return cls(float(np.quantile((unit @ unit.T)[row, col].numpy(), quantile)))

    def fit(self, embeddings: Float[Tensor, "N D"]) -> Data:
        """The undirected graph of some texts: x, edge_index with both directions, edge_weight."""
        pairs, weight = self._pairs(unit_rows(embeddings), 0)
        both = torch.cat([pairs, pairs.flip(0)], 1)
        return Data(x=torch.as_tensor(embeddings), edge_index=both, edge_weight=torch.cat([weight, weight]))

    def add_nodes(self, known: Float[Tensor, "N D"], new: Float[Tensor, "M D"]) -> Data:
        """Known texts 0 … N − 1 and new ones behind them, with every edge that has a new end; no edge of `known` alone is made.

        For a network of one layer it gives the new nodes what the whole graph would.
        """
        if known.shape[1] != new.shape[1]:
            raise ValueError(f"the new embeddings have {new.shape[1]} numbers each, the known ones {known.shape[1]}.")
        x = torch.cat([known, new])
        pairs, weight = self._pairs(unit_rows(x), len(known))
        both = torch.cat([pairs, pairs.flip(0)], 1)
        return Data(x=x, edge_index=both, edge_weight=torch.cat([weight, weight]))

    def _pairs(self, unit: Float[Tensor, "N D"], first: int) -> tuple[Int64[Tensor, "2 P"], Float[Tensor, " P"]]:
        """Similar pairs once each, the later text in front, of which it is text `first` or one after it."""
        pairs, weights = [torch.zeros(2, 0, dtype=torch.int64)], [unit.new_zeros(0)]
        for rows in torch.arange(first, len(unit)).split(CHUNK):
            cosine = unit[rows] @ unit.T
            later, earlier = ((cosine >= self.threshold) & (torch.arange(len(unit)) < rows[:, None])).nonzero().T
            pairs.append(torch.stack([rows[later], earlier]))
            weights.append(cosine[later, earlier])
        return torch.cat(pairs, 1), torch.cat(weights)
