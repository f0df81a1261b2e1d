import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.typecheck import value_error
from ziggurat.sequences.swivel import (
    Cells,
    CooccurrenceShards,
    Swivel,
    cooccurrence,
    glove_confidence,
    observed_loss,
    pmi_target,
    swivel_loss,
)


def counts(n=23, m=17, seed=0):
    """Sparse counts without an empty row or column."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 9, (n, m)) * (rng.random((n, m)) < 0.3)
    x[np.arange(n), np.arange(n) % m] += 1
    return x.astype(np.float64)


def whole(x):
    x = torch.as_tensor(x, dtype=torch.float64)
    return Cells(x, x.sum(1), x.sum(0), float(x.sum()))


def test_loss_against_a_loop_over_cells():
    x, predicted = counts(), torch.randn(23, 17, dtype=torch.float64)
    found = swivel_loss(predicted, whole(x))
    for i in range(23):
        for j in range(17):
            count = x[i, j] or 1
            target = math.log(count) + math.log(x.sum()) - math.log(x[i].sum()) - math.log(x[:, j].sum())
            error = float(predicted[i, j]) - target
            f = 0.1 + 0.25 * math.sqrt(x[i, j])
            expected = f * error**2 / 2 if x[i, j] else math.log(1 + math.exp(error))
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.fact("swivel", 1)
@pytest.mark.parametrize("size", [1, 5, 8, 100])
def test_shards_partition_the_matrix(size):
    x = counts()
    shards = CooccurrenceShards(sparse.csr_matrix(x), size)
    assert torch.cat(shards.rows).sort().values.tolist() == list(range(23))
    assert torch.cat(shards.columns).sort().values.tolist() == list(range(17))
    assert len(shards) == len(shards.rows) * len(shards.columns)
    assert max(len(s) for s in (*shards.rows, *shards.columns)) <= size
    w, u = torch.randn(23, 4), torch.randn(17, 4)
    total = 0.0
    for a, rows in enumerate(shards.rows):
        for b, columns in enumerate(shards.columns):
            cells = shards.cells(a, b)
            np.testing.assert_array_equal(cells.counts.numpy(), x[np.ix_(rows, columns)])
            total += float(swivel_loss(w[rows] @ u[columns].T, cells).sum())
    assert total == pytest.approx(float(swivel_loss((w @ u.T).double(), whole(x)).sum()), rel=1e-5)


def test_every_shard_has_its_part_of_frequent_and_rare_rows():
    frequency = np.arange(1, 41)[::-1].astype(float)
    shards = CooccurrenceShards(sparse.csr_matrix(np.diag(frequency)), 10)
    assert [s.tolist() for s in shards.rows] == [list(range(i, 40, 4)) for i in range(4)]


@pytest.mark.fact("swivel", 2)
def test_nothing_seen_gives_the_soft_hinge_only_and_pushes_down():
    w, u = (torch.randn(n, 3, dtype=torch.float64) for n in (5, 6))
    predicted = (w @ u.T).requires_grad_()
    cells = Cells(torch.zeros(5, 6).double(), torch.rand(5).double() + 1, torch.rand(6).double() + 1, 40.0)
    loss = swivel_loss(predicted, cells)
    expected = torch.nn.functional.softplus(predicted - pmi_target(cells))
    torch.testing.assert_close(loss, expected)
    assert not observed_loss(predicted, cells).any()
    loss.sum().backward()
    assert bool((predicted.grad > 0).all())


@pytest.mark.fact("swivel", 3)
def test_a_pmi_matrix_of_low_rank_is_reproduced():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    x = np.exp(a @ b.T / 2)
    target = pmi_target(whole(x))
    rank = int(torch.linalg.matrix_rank(target, rtol=1e-6))
    assert rank <= 5  # 3, and one more for each marginal
    model = Swivel(dimensions=5, shard=12, epochs=600, lr=0.3).fit(x)
    assert model.loss_ < 1e-4
    rows, columns = np.indices(x.shape).reshape(2, -1)
    np.testing.assert_allclose(model.pmi(rows, columns), target.flatten(), atol=0.05)


@pytest.mark.fact("swivel", 4)
def test_counts_times_c():
    x = counts()
    base, scaled = pmi_target(whole(x)), pmi_target(whole(7 * x))
    seen = torch.from_numpy(x > 0)
    torch.testing.assert_close(scaled[seen], base[seen])
    torch.testing.assert_close(scaled[~seen], base[~seen] - math.log(7))


@pytest.mark.fact("swivel", 5)
def test_gradient_of_the_unobserved_term_is_a_sigmoid():
    cells = whole(counts())
    predicted = (3 * torch.randn(23, 17, dtype=torch.float64)).requires_grad_()
    swivel_loss(predicted, cells).sum().backward()
    empty = cells.counts == 0
    gradient = predicted.grad[empty]
    torch.testing.assert_close(gradient, torch.sigmoid(predicted - pmi_target(cells))[empty].detach())
    assert float(gradient.min()) > 0 and float(gradient.max()) < 1
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.fact("swivel", 6)
def test_without_the_unobserved_term_and_with_free_biases_it_is_glove():
    x = torch.from_numpy(60 * counts())
    w, u = torch.randn(23, 4).double(), torch.randn(17, 4).double()
    b, c = torch.randn(23).double(), torch.randn(17).double()
    free = Cells(x, b.exp(), c.exp(), 1.0)
    found = observed_loss(w @ u.T, free, glove_confidence)
    expected = 0.0
    for i, j in (x > 0).nonzero().tolist():
        f = min(1.0, (float(x[i, j]) / 100) ** 0.75)
        expected += f * float(w[i] @ u[j] + b[i] + c[j] - x[i, j].log()) ** 2
    assert float(found.sum()) == pytest.approx(expected / 2)


def test_unseen_pairs_of_frequent_words_are_told_apart():
    """Two groups of words that never meet: only the loss on unseen pairs says so."""
    x = np.kron(np.eye(2), np.full((10, 10), 5.0))
    apart = np.indices(x.shape).reshape(2, -1)[:, x.flatten() == 0]
    full, observed = (
        Swivel(dimensions=8, shard=10, epochs=60, objective=loss).fit(x) for loss in (swivel_loss, observed_loss)
    )
    assert full.pmi(*apart).mean() < -1 < observed.pmi(*apart).mean()
    assert observed.pmi(*np.indices(x.shape).reshape(2, -1)[:, x.flatten() > 0]).mean() == pytest.approx(0.69, abs=0.05)


def test_a_rectangular_matrix_and_an_own_objective():
    x = counts()
    model = Swivel(dimensions=4, shard=8, epochs=2, objective=partial(swivel_loss, confidence=glove_confidence)).fit(x)
    assert model.row_embedding_.shape == model.embedding_.shape == (23, 4) and model.column_embedding_.shape == (17, 4)
    square = Swivel(dimensions=4, shard=8, epochs=2).fit(x[:17])
    np.testing.assert_array_equal(square.embedding_, square.row_embedding_ + square.column_embedding_)


def test_cooccurrence_against_a_loop():
    texts = [["a", "b", "?", "a", "c"], ["c", "b"], [], ["a", "a"]]
    words = ["a", "b", "c"]
    found = cooccurrence(texts, words, window=3).toarray()
    expected = np.zeros((3, 3))
    for text in texts:
        for i, first in enumerate(text):
            for j, second in enumerate(text):
                if i != j and abs(i - j) <= 3 and first in words and second in words:
                    expected[words.index(first), words.index(second)] += 1 / abs(i - j)
    np.testing.assert_allclose(found, expected)


def test_mistakes_are_named():
    x = counts()
    with value_error("row 3 has no count"):
        Swivel().fit(np.where(np.arange(23)[:, None] == 3, 0, x))
    with value_error("not negative"):
        Swivel().fit(-x)
    with value_error("lr positive"):
        Swivel(lr=0).fit(x)
    with value_error("side of 1 or more"):
        Swivel(shard=0).fit(x)
    for wrong in (-1.0, np.nan, np.inf):
        with value_error("finite and not negative"):
            CooccurrenceShards(sparse.csr_matrix(np.where(np.arange(17) == 0, wrong, x)))
    with value_error("column 5 has no count"):
        CooccurrenceShards(sparse.csr_matrix(np.where(np.arange(17) == 5, 0, x)))
    with value_error("window must be"):
        cooccurrence([["a"]], ["a"], 0)
    with value_error("call fit"):
        Swivel().pmi(np.array([0]), np.array([0]))
