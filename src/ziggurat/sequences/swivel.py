"""Swivel: vectors whose products are the pointwise mutual information of a count matrix, with a loss of its own for pairs never seen.

    pmi_ij = log x_ij + log|D| − log x_i* − log x_*j
    x_ij > 0:  ½ f(x_ij) (w_i·u_j − pmi_ij)²,   f(x) = b₀ + b₁ √x
    x_ij = 0:  log(1 + exp(w_i·u_j − pmi*_ij)),   pmi* is the PMI with the count 1 in place of the missing one

The second loss only pushes estimates down: hard for pairs of frequent words, whose absence says much, and hardly for rare ones. All cells
of the matrix are visited, block by block; a block deals frequent and rare rows alike, and one matrix product predicts all of it.

N. Shazeer, R. Doherty, C. Evans, C. Waterson, Swivel: Improving Embeddings by Noticing What's Missing, 2016, arXiv:1602.02215.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import softplus

from ziggurat.data.seeds import generator

ACCUMULATOR = 1e-8
"""What Adagrad's sums of squares start from: next to nothing, or it would slow down a gradient that is divided by the block's side."""


class Cells(NamedTuple):
    """A block of a count matrix with what the whole matrix says of its rows and columns.

    Arguments:
        counts: x_ij, 0 where a pair was never seen.
        row_sums, column_sums: x_i* and x_*j, over the whole matrix and positive.
        total: |D|, the sum of all counts.
    """

    counts: Float[Tensor, "n m"]
    row_sums: Float[Tensor, " n"]
    column_sums: Float[Tensor, " m"]
    total: float


Confidence = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor, Cells], Tensor]


def pmi_target(cells: Cells) -> Float[Tensor, "n m"]:
    """The PMI of seen pairs, and for those never seen what it would be with the count 1."""
    counts = torch.where(
        cells.counts > 0, cells.counts, 1
    )  # before the logarithm: behind it the gradient would not be a number
    marginals = cells.row_sums.log()[:, None] + cells.column_sums.log()
    return counts.log() + float(np.log(cells.total)) - marginals


def swivel_confidence(counts: Float[Tensor, "n m"], base: float = 0.1, scale: float = 0.25) -> Float[Tensor, "n m"]:
    """f(x) = b₀ + b₁ √x. The first public code has b₀ = 0 and b₁ = 1, the later one these defaults."""
    return base + scale * counts.sqrt()


def glove_confidence(counts: Float[Tensor, "n m"], most: float = 100.0, power: float = 0.75) -> Float[Tensor, "n m"]:
    """min(1, (x / x_max)^0.75), the weights of GloVe (J. Pennington, R. Socher, C. Manning, 2014)."""
    return (counts / most).pow(power).clamp(max=1)


def observed_loss(
    predicted: Float[Tensor, "n m"], cells: Cells, confidence: Confidence = swivel_confidence
) -> Float[Tensor, "n m"]:
    """½ f(x) (w·u − pmi)² of the pairs that were seen, and nothing of the others."""
    error = predicted - pmi_target(cells)
    return torch.where(cells.counts > 0, confidence(cells.counts) * error.square() / 2, 0)


def swivel_loss(
    predicted: Float[Tensor, "n m"], cells: Cells, confidence: Confidence = swivel_confidence
) -> Float[Tensor, "n m"]:
    """Both losses, one number a cell."""
    error = predicted - pmi_target(cells)
    return torch.where(cells.counts > 0, confidence(cells.counts) * error.square() / 2, softplus(error))


class CooccurrenceShards:
    """A count matrix in blocks of about `size` × `size` cells, each with frequent and rare rows and columns alike.

    Rows and columns are ordered by their sums and dealt round-robin, so that every block has its part of each frequency. (Neighbours in
    that order put together would leave blocks of rare pairs with nothing to see.)

    Arguments:
        matrix: counts (n, m), finite and not negative, else a `ValueError`; every row and column has one at least.
        size: largest side of a block.

    `rows` and `columns` hold the numbers of the rows and columns of each shard; `shards.cells(a, b)` is the block where they meet.
    """

    def __init__(self, matrix: Any, size: int = 512) -> None:
        if size < 1:
            raise ValueError(f"a shard has a side of 1 or more, got {size}.")
        coo = sparse.coo_matrix(checked_counts(matrix))
        sums = [np.bincount(place, coo.data, length) for place, length in zip((coo.row, coo.col), coo.shape)]
        self.rows, self.columns = (_deal(s, size) for s in sums)
        self.row_sums, self.column_sums = (torch.from_numpy(s).float() for s in sums)
        self.total = float(coo.data.sum())
        (row_shard, row_place), (column_shard, column_place) = map(_places, (self.rows, self.columns))
        block = row_shard[coo.row] * len(self.columns) + column_shard[coo.col]
        order = np.argsort(block, kind="stable")
        self._starts = np.searchsorted(block[order], np.arange(len(self) + 1))
        self._places = torch.from_numpy(np.stack([row_place[coo.row], column_place[coo.col]])[:, order])
        self._values = torch.from_numpy(coo.data[order]).float()

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def cells(self, a: int, b: int) -> Cells:
        """The block of row shard `a` and column shard `b`."""
        block = a * len(self.columns) + b
        part = slice(*self._starts[block : block + 2].tolist())
        rows, columns = self.rows[a], self.columns[b]
        counts = torch.zeros(len(rows), len(columns))
        counts[tuple(self._places[:, part])] = self._values[part]
        return Cells(counts, self.row_sums[rows], self.column_sums[columns], self.total)


def _deal(sums: Float[np.ndarray, " n"], size: int) -> list[Int64[Tensor, " s"]]:
    """Numbers of each shard, dealt from the most frequent on."""
    order = torch.from_numpy(np.argsort(-sums, kind="stable"))
    shards = -(-len(sums) // size)
    return [order[i::shards] for i in range(shards)]


def _places(shards: list[Tensor]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The shard of each number, and its place in there."""
    order = torch.cat(shards).numpy()
    lengths = [len(s) for s in shards]
    shard, place = np.empty_like(order), np.empty_like(order)
    shard[order] = np.repeat(np.arange(len(shards)), lengths)
    place[order] = np.concatenate([np.arange(n) for n in lengths])
    return shard, place


class Swivel(BaseEstimator):
    """The embedding as an estimator, of any count matrix: words and contexts, users and items, nodes and nodes.

    Arguments:
        dimensions: of a vector.
        shard: side of the blocks; the paper has 4,096.
        epochs: visits to every block, in a new random order each.
        lr: of Adagrad.
        objective: the loss of each cell; `observed_loss` instead of the default is the paper's method without what it is named for.
        random_state: of first vectors and orders.

    After `fit` of a matrix (n, m): `row_embedding_` (n, dimensions), `column_embedding_` (m, dimensions), and `embedding_`: their sum
    for a square matrix, else the rows'. `loss_` is the mean loss of a cell in the last epoch.
    """

    def __init__(
        self,
        dimensions: int = 300,
        shard: int = 512,
        epochs: int = 40,
        lr: float = 0.1,
        objective: Objective = swivel_loss,
        random_state: int = 0,
    ) -> None:
        self.dimensions, self.shard, self.epochs, self.lr = dimensions, shard, epochs, lr
        self.objective, self.random_state = objective, random_state

    def fit(self, X: Any, y: Any = None) -> Swivel:
        """Embeds the rows and columns of a count matrix (n, m), sparse or not."""
        if min(self.dimensions, self.epochs) < 1 or not self.lr > 0:
            raise ValueError(
                f"dimensions and epochs must be 1 or more and lr positive, got {self.dimensions}, {self.epochs}, {self.lr}."
            )
        shards = CooccurrenceShards(X, self.shard)
        start = generator(self.random_state, "vectors")
        size = self.dimensions**-0.5
        rows, columns = (
            size * torch.randn(len(sums), self.dimensions, generator=start)
            for sums in (shards.row_sums, shards.column_sums)
        )
        squares = [torch.full_like(v, ACCUMULATOR) for v in (rows, columns)]
        for epoch in range(self.epochs):
            order = torch.randperm(len(shards), generator=generator(self.random_state, "order", epoch))
            loss = sum(self._visit(shards, int(block), rows, columns, squares) for block in order)
        self.loss_ = loss / (len(rows) * len(columns))
        if not np.isfinite(self.loss_):
            raise ValueError(f"the loss is no longer a number at lr={self.lr}; take a smaller one.")
        self.row_embedding_, self.column_embedding_ = rows.numpy(), columns.numpy()
        self.embedding_ = (rows + columns).numpy() if len(rows) == len(columns) else rows.numpy()
        return self

    def _visit(
        self, shards: CooccurrenceShards, block: int, rows: Tensor, columns: Tensor, squares: list[Tensor]
    ) -> float:
        """One step of Adagrad on the vectors of one block; the gradient is of the summed loss over the block's side."""
        a, b = divmod(block, len(shards.columns))
        numbers, cells = (shards.rows[a], shards.columns[b]), shards.cells(a, b)
        own = [table[n].requires_grad_() for table, n in zip((rows, columns), numbers)]
        loss = self.objective(own[0] @ own[1].T, cells).sum()
        gradients = torch.autograd.grad(loss / self.shard, own)
        for table, square, n, gradient in zip((rows, columns), squares, numbers, gradients):
            square[n] += gradient.square()
            table[n] -= self.lr * gradient / square[n].sqrt()
        return float(loss.detach())

    def pmi(self, rows: Int64[np.ndarray, " k"], columns: Int64[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """The estimated PMI w_i·u_j of pairs."""
        if not hasattr(self, "row_embedding_"):
            raise ValueError("this Swivel is not fitted; call fit(X) first.")
        return (self.row_embedding_[rows] * self.column_embedding_[columns]).sum(1)


def checked_counts(X: Any) -> sparse.csr_matrix:
    """A count matrix of finite numbers that are not negative, each row and column with one that is not 0."""
    counts = sparse.csr_matrix(X, dtype=np.float64, copy=True)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    if not np.isfinite(counts.data).all() or (counts.data < 0).any():
        raise ValueError("counts must be finite and not negative.")
    for axis, name in ((1, "row"), (0, "column")):
        empty = np.flatnonzero(np.asarray(counts.sum(axis)).ravel() == 0)
        if len(empty):
            raise ValueError(
                f"{name} {empty[0]} has no count, so it has no PMI; remove it (there are {len(empty)} like it)."
            )
    return counts


def cooccurrence(texts: Sequence[Sequence[str]], words: Sequence[str], window: int = 10) -> sparse.csr_matrix:
    """How often words stand near each other: every pair of one text at most `window` places apart counts 1 / distance, both ways.

    Arguments:
        texts: tokens of each text; no pair crosses the end of one.
        words: the vocabulary. Other tokens keep their place and count for nothing.
    """
    if window < 1:
        raise ValueError(f"window must be 1 or more, got {window}.")
    number = {word: i for i, word in enumerate(words)}
    ids = np.array([number.get(token, -1) for text in texts for token in text], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = sparse.csr_matrix((len(words), len(words)))
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        near = (left >= 0) & (right >= 0) & (owner[:-distance] == owner[distance:])
        weight = np.full(int(near.sum()), 1 / distance)
        counts = counts + sparse.coo_matrix((weight, (left[near], right[near])), shape=counts.shape).tocsr()
    return sparse.csr_matrix(counts + counts.T)
