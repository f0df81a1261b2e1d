import numpy as np
import pytest
from scipy import sparse

from tests.typecheck import value_error
from ziggurat.graphs.embeddings._kernels import below, skip_gram
from ziggurat.graphs.embeddings.deepwalk import DeepWalk
from ziggurat.graphs.embeddings.fastrp import FastRP
from ziggurat.testing import ring_graph

BITS = 2**64 - 1


class Naive:
    """The same random numbers, in Python's integers."""

    def __init__(self, seed):
        self.x = seed

    def below(self, n):
        self.x ^= self.x >> 12
        self.x = (self.x ^ (self.x << 25)) & BITS
        self.x ^= self.x >> 27
        return ((self.x * 2685821657736338717 & BITS) >> 32) * n >> 32


def naive_skip_gram(walks, vectors, contexts, table, window, negative, lr, seed):
    """Skip-gram with negative sampling in float64: ascend log σ(v·c) + Σ log σ(−v·c') for each pair on a walk."""
    random, v, c = Naive(seed), vectors.astype(np.float64), contexts.astype(np.float64)
    for w, walk in enumerate(walks):
        rate = lr * max(1 - w / len(walks), 1e-3)
        walk = [node for node in walk if node >= 0]
        for i, centre in enumerate(walk):
            reach = 1 + random.below(window)
            for j in range(max(0, i - reach), min(len(walk), i + reach + 1)):
                if j == i:
                    continue
                gradient = np.zeros(v.shape[1])
                for target, label in [(centre, 1)] + [(None, 0)] * negative:
                    if not label:
                        target = table[random.below(len(table))]
                        if target == centre:
                            continue
                    step = rate * (label - 1 / (1 + np.exp(-v[walk[j]] @ c[target])))
                    gradient = gradient + step * c[target]
                    c[target] = c[target] + step * v[walk[j]]
                v[walk[j]] = v[walk[j]] + gradient
    return v, c


def test_numbers_are_uniform_and_those_of_the_published_generator():
    state, naive = np.array([88172645463325252], np.uint64), Naive(88172645463325252)
    drawn = [below(state, 7) for _ in range(7000)]
    assert drawn == [naive.below(7) for _ in range(7000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=7) / 1000, 1, atol=0.12)


@pytest.mark.parametrize("negative", [0, 3])
def test_training_equals_a_naive_loop(negative):
    rng = np.random.default_rng(0)
    walks = rng.integers(9, size=(12, 8)).astype(np.int32)
    walks[3, 5:] = -1  # a dead end
    vectors, contexts = (rng.normal(size=(9, 4)).astype(np.float32) for _ in range(2))
    table = rng.integers(9, size=50).astype(np.int32)
    expected = naive_skip_gram(walks, vectors, contexts, table, 3, negative, 0.1, 5)
    skip_gram(walks, vectors, contexts, table, 3, negative, 0.1, np.uint64(5))
    np.testing.assert_allclose(vectors, expected[0], atol=1e-4)
    np.testing.assert_allclose(contexts, expected[1], atol=1e-4)


def test_random_state_decides_and_shapes_are_kept():
    graph = ring_graph(20)
    first, same, other = (DeepWalk(6, 3, 10, random_state=s).fit(graph).embedding_ for s in (0, 0, 1))
    assert first.shape == (20, 6) and first.dtype == np.float32
    assert np.array_equal(first, same) and not np.allclose(first, other)
    lonely = DeepWalk(4, 2, 5).fit(sparse.csr_matrix((3, 3))).embedding_
    assert np.isfinite(lonely).all()


def test_mistakes_of_deepwalk_are_named():
    for options in ({"dimensions": 0}, {"walks": 0}, {"window": 0}, {"epochs": 0}, {"negative": -1}):
        with value_error("must be 1 or more"):
            DeepWalk(**options).fit(ring_graph())


def test_fastrp_takes_the_adjacency_instead_of_the_transition():
    a = np.triu(np.random.default_rng(0).random((15, 15)) < 0.3, 1)
    a = (a + a.T).astype(float)
    model = FastRP(5, (1.0, 2.0), -0.3, normalize=False, standardize=False, matrix="adjacency", sparsity=2.0)
    found = model.fit(sparse.csr_matrix(a)).embedding_
    explicit = (a + 2 * a @ a) @ model.projection_.toarray()
    np.testing.assert_allclose(found, explicit, rtol=1e-5, atol=1e-5 * np.abs(explicit).max())
    with value_error("'transition' or 'adjacency'"):
        FastRP(5, matrix="laplacian").fit(sparse.csr_matrix(a))
