import itertools

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.graphs.hypergraphs.hyperedge_prediction import HyperedgeScore, max_min_pool, negative_hyperedges
from ziggurat.graphs.hypergraphs.incidence import clique_expansion
from ziggurat.testing.examples import example_hyperedges


def groups(index):
    return [set(index[0, index[1] == e].tolist()) for e in range(int(index[1].max()) + 1)]


def test_the_span_of_members():
    index, z = example_hyperedges(), torch.randn(12, 4)
    want = torch.stack([z[list(g)].amax(0) - z[list(g)].amin(0) for g in groups(index)])
    torch.testing.assert_close(max_min_pool(z, index, 6), want)
    assert max_min_pool(z, torch.tensor([[3], [1]]), 3).abs().sum() == 0
    score = HyperedgeScore(4)
    assert score(z, index).shape == (6,)
    torch.testing.assert_close(score(z, index[:, torch.randperm(index.shape[1])]), score(z, index))


@pytest.mark.parametrize("kind", ["sized", "motif", "clique"])
def test_negatives_have_the_sizes_and_are_no_hyperedges(kind):
    index = example_hyperedges()
    negative = negative_hyperedges(index, 12, kind, seed=1)
    true, false = groups(index), groups(negative)
    assert [len(g) for g in true] == [len(g) for g in false] and not any(g in true for g in false)
    assert torch.equal(negative, negative_hyperedges(index, 12, kind, seed=1))


def test_motifs_hang_together_and_cliques_are_joined():
    triples = list(itertools.combinations(range(5), 3))[:7]
    index = torch.tensor([[v for t in triples for v in t], [e for e in range(7) for _ in range(3)]])
    index = torch.cat([index, torch.tensor([[5, 6, 7], [7, 7, 7]])], 1)
    joined = {tuple(pair) for pair in clique_expansion(index, 12)[0].T.tolist()}
    for seed in range(5):
        cliques = groups(negative_hyperedges(index, 12, "clique", seed))[:7]
        assert all(pair in joined for g in cliques for pair in itertools.permutations(g, 2))
        for g in groups(negative_hyperedges(index, 12, "motif", seed))[:7]:
            assert all(any((a, b) in joined for b in g) for a in g) or g & set(range(5, 12))


def test_mistakes_are_named():
    with value_error("kind must be"):
        negative_hyperedges(example_hyperedges(), 12, "other")
    with value_error("has all nodes"):
        negative_hyperedges(torch.tensor([[0, 1], [0, 0]]), 2)
