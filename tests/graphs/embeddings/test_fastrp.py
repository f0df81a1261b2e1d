import numpy as np
import pytest
import torch
from scipy import sparse
from torch_geometric.data import Data

from tests.typecheck import value_error
from ziggurat.graphs.adjacency import adjacency
from ziggurat.graphs.embeddings.deepwalk import DeepWalk
from ziggurat.graphs.embeddings.fastrp import FastRP, very_sparse_projection
from ziggurat.testing import ring_graph

OFF = {"normalize": False, "standardize": False}


def dense(graph):
    a = np.zeros((graph.num_nodes,) * 2)
    a[tuple(graph.edge_index.numpy())] = 1
    return a


@pytest.mark.fact("fastrp", 1)
@pytest.mark.parametrize("beta", [0.0, -0.4, -1.0])
def test_equals_the_explicit_similarity(beta):
    graph, weights = ring_graph(30), (0.5, 0.0, 2.0, 1.0)
    model = FastRP(7, weights, beta, sparsity=2.0, random_state=3, **OFF).fit(graph)
    a = dense(graph)
    degree = a.sum(1)
    p, scale = a / degree[:, None], np.diag((degree / degree.sum()) ** beta)
    r = very_sparse_projection(30, 7, 2.0, 3).toarray()
    s = sum(w * np.linalg.matrix_power(p, k) for k, w in enumerate(weights, 1)) @ scale
    np.testing.assert_allclose(model.embedding_, s @ r, rtol=1e-5, atol=1e-5 * np.abs(s @ r).max())


@pytest.mark.fact("fastrp", 2)
def test_moments_of_the_projection():
    n, d = 400, 300
    s = np.sqrt(n)
    r = very_sparse_projection(n, d, s, 0)
    assert r.nnz == pytest.approx(d * np.sqrt(n), rel=0.05)
    assert set(np.round(np.unique(r.data) ** 2, 6)) == {s}
    full = r.toarray()
    assert abs(full.mean()) < 0.02 and full.var() == pytest.approx(1, abs=0.05)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, n))
    draws = [(x @ m) @ (y @ m) / d for m in (very_sparse_projection(n, d, s, k) for k in range(1, 300))]
    assert np.mean(draws) == pytest.approx(x @ y, abs=4 * np.std(draws) / np.sqrt(len(draws)))


@pytest.mark.fact("fastrp", 3)
def test_the_degree_acts_on_columns():
    graph = ring_graph(30)
    a = dense(graph)
    row, column = np.diag(np.linspace(0.2, 5, 30)), np.diag(np.linspace(0.2, 5, 30))
    model = FastRP(9, (0.0, 1.0), -0.5, sparsity=2.0, random_state=1).fit(graph)
    step, projection = model.step_.toarray().astype(float), model.projection_.toarray().astype(float)
    hop = step @ step @ projection

    def finished(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return (x - x.mean(0)) / x.std(0)

    np.testing.assert_allclose(model.embedding_, finished(hop), atol=1e-4)
    np.testing.assert_allclose(finished(row @ hop), finished(hop), atol=1e-9)
    bent = step @ step @ column @ projection
    assert np.abs(finished(bent) - finished(hop)).max() > 0.1
    plain = FastRP(9, (0.0, 1.0), -0.5, sparsity=2.0, random_state=1).fit(sparse.csr_matrix(a))
    np.testing.assert_allclose(plain.embedding_, model.embedding_, atol=1e-6)
    p = a / a.sum(1)[:, None]
    unscaled = finished(p @ p @ np.diag(a.sum(1) ** -0.5) @ very_sparse_projection(30, 9, 2.0, 1).toarray())
    np.testing.assert_allclose(model.embedding_, unscaled, atol=1e-4, err_msg="(2m)^-β is global and vanishes")


@pytest.mark.fact("fastrp", 4)
def test_ones_stay_ones(monkeypatch):
    monkeypatch.setattr(
        "ziggurat.graphs.embeddings.fastrp.very_sparse_projection", lambda n, d, *_: sparse.csr_matrix(np.ones((n, d)))
    )
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    found = FastRP(3, (1.0,), 0.0, **OFF).fit(Data(edge_index=edges, num_nodes=4)).embedding_
    np.testing.assert_allclose(found, [[1] * 3] * 3 + [[0] * 3], atol=1e-6)


@pytest.mark.fact("fastrp", 5)
def test_relabelling_permutes_the_rows(monkeypatch):
    graph = ring_graph(25)
    a, r = sparse.csr_matrix(dense(graph)), very_sparse_projection(25, 6, 2.0, 0)
    order = np.random.default_rng(0).permutation(25)
    found = []
    for matrix, projection in ((a, r), (a[order][:, order], r[order])):
        monkeypatch.setattr("ziggurat.graphs.embeddings.fastrp.very_sparse_projection", lambda *_, p=projection: p)
        found.append(FastRP(6, beta=-0.5).fit(matrix).embedding_)
    np.testing.assert_allclose(found[1], found[0][order], atol=1e-4)


def test_new_rows_equal_old_ones_and_hops_can_stand_side_by_side():
    graph = ring_graph(25)
    for options in ({}, {"weights": None}, {"matrix": "adjacency"}, {"normalize": False}):
        model = FastRP(5, **options).fit(graph)
        np.testing.assert_allclose(model.transform(dense(graph)[3:9]), model.embedding_[3:9], atol=1e-4)
    assert FastRP(5, None).fit(graph).embedding_.shape == (25, 20)


def test_clusters_are_told_apart_by_both():
    rng = np.random.default_rng(0)
    side = np.arange(60) % 2
    p = np.where(side[:, None] == side[None], 0.4, 0.02)
    upper = np.triu(rng.random((60, 60)) < p, 1)
    matrix = sparse.csr_matrix((upper | upper.T).astype(float))
    for model in (FastRP(32, (0, 0, 1)), DeepWalk(16, walks=20, length=20, window=3, epochs=3)):
        x = model.fit(matrix).embedding_
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        similarity = x @ x.T
        near = similarity[side[:, None] == side[None]].mean()
        far = similarity[side[:, None] != side[None]].mean()
        assert near > far + 0.2, type(model).__name__


def test_walks_follow_edges():
    from ziggurat.graphs.embeddings._kernels import uniform_walks

    matrix = sparse.csr_matrix(np.array([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0.0]]))
    starts = np.repeat(np.arange(4), 2000)
    walks = uniform_walks(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), starts, 3, np.uint64(1))
    assert (walks[:, 0] == starts).all() and (walks[starts == 3, 1:] == -1).all()
    assert (walks[starts == 1, 1] == 2).all() and (walks[starts == 1, 2] == 0).all()
    assert np.mean(walks[starts == 0, 1] == 1) == pytest.approx(0.5, abs=0.05)


def test_mistakes_are_named():
    graph = ring_graph()
    with value_error("beta must be between"):
        FastRP(beta=0.5).fit(graph)
    with value_error("must be square"):
        FastRP().fit(sparse.csr_matrix(np.ones((2, 3))))
    with value_error("torch_geometric Data or a square"):
        FastRP().fit([1, 2])
    with value_error("call fit"):
        FastRP().transform(np.ones((1, 3)))
    with value_error("finite and not negative"):
        FastRP().fit(sparse.csr_matrix(-np.ones((2, 2))))
    with value_error("12 columns"):
        FastRP(4).fit(graph).transform(np.ones((1, 3)))
    with value_error("length 2 or more"):
        DeepWalk(length=1).fit(graph)
    with value_error("s must be 1"):
        FastRP(3, sparsity=0.5).fit(graph)
    with value_error("weights must be finite"):
        FastRP(3, (1.0, float("nan"))).fit(graph)
    with value_error("lr must be positive"):
        DeepWalk(lr=float("nan")).fit(graph)
    with value_error("no nodes"):
        FastRP().fit(sparse.csr_matrix((0, 0)))


def test_repeated_edges_count_once_and_zeros_are_none():
    edges = torch.tensor([[0, 0, 1, 2], [1, 1, 0, 0]])
    graph = Data(edge_index=edges, edge_weight=torch.tensor([2.0, 5, 1, 0]), num_nodes=3)
    assert adjacency(graph).toarray().tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]
    repeated = sparse.coo_matrix(([1.0, 4, 0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert adjacency(repeated).toarray().tolist() == [[0, 1], [0, 0]] and adjacency(repeated).nnz == 1
