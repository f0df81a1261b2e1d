import pytest
import torch

from tests.typecheck import value_error
from ziggurat.graphs.hypergraphs.incidence import (
    add_singletons,
    check_incidence,
    clique_expansion,
    hyperedge_sizes,
    node_degrees,
    star_expansion,
    to_hyperedges,
    to_nodes,
)

INDEX = torch.tensor([[0, 1, 2, 1, 3, 0, 1], [0, 0, 0, 1, 1, 2, 2]])
"""{0, 1, 2}, {1, 3}, {0, 1}; node 4 is in none."""


def incidence(nodes=5, edges=3):
    return torch.zeros(nodes, edges, dtype=torch.float64).index_put(tuple(INDEX), torch.ones(7).double())


def test_degrees_and_sizes():
    assert node_degrees(INDEX, 5).tolist() == [2, 3, 1, 1, 0]
    assert node_degrees(INDEX, 5, torch.tensor([1.0, 10, 100])).tolist() == [101, 111, 1, 10, 0]
    assert hyperedge_sizes(INDEX, 4).tolist() == [3, 2, 2, 0]


def test_sums_and_means_in_both_directions():
    h = incidence()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_hyperedges(x, INDEX, 3, "sum"), h.T @ x)
    torch.testing.assert_close(to_hyperedges(x, INDEX, 3), h.T @ x / h.sum(0)[:, None])
    back = to_nodes(h.T @ x, INDEX, 5)
    torch.testing.assert_close(back[:4], (h @ h.T @ x / h.sum(1, keepdim=True))[:4])
    assert not back[4].any()
    weighed = to_hyperedges(x, INDEX, 3, "mean", torch.tensor([1.0, 3, 0, 1, 1, 1, 1]))
    torch.testing.assert_close(weighed[0], (x[0] + 3 * x[1]) / 4)


def test_a_node_in_no_hyperedge_gets_its_own():
    assert add_singletons(INDEX, 5)[:, -1].tolist() == [4, 3]
    assert torch.equal(add_singletons(add_singletons(INDEX, 5), 5), add_singletons(INDEX, 5))


def test_expansions():
    edges, weights = clique_expansion(INDEX, 5, "share")
    known = {(0, 1): 1.5, (0, 2): 0.5, (1, 2): 0.5, (1, 3): 1.0}
    got = {tuple(e): w for e, w in zip(edges.T.tolist(), weights.tolist(), strict=True)}
    assert got == {**known, **{(b, a): w for (a, b), w in known.items()}}
    assert clique_expansion(INDEX, 5)[1].tolist() == [1] * 8
    star = star_expansion(INDEX, 5)
    assert star.shape == (2, 14) and star[:, 0].tolist() == [0, 5] and star[:, 7].tolist() == [5, 0]


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        (torch.tensor([[5], [0]]), "names node 5, but there are nodes 0 to 4"),
        (torch.tensor([[0], [-1]]), "names hyperedge -1"),
        (torch.tensor([[0.0], [0.0]]), "must be int64 of shape"),
    ],
)
def test_mistakes(index, wrong):
    with value_error(wrong):
        check_incidence(index, 5)
