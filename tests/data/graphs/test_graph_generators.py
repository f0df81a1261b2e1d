import networkx as nx
import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.generators import (
    CSL_SKIPS,
    circular_skip_links,
    csl,
    planted,
    relabelled,
    rook,
    shrikhande,
    stochastic_blocks,
)


def as_networkx(edges):
    return nx.Graph(edges.T.tolist())


def test_blocks_are_linked_as_often_as_asked():
    edges, block = stochastic_blocks([600, 400], planted(0.05, 0.01, 2), seed=1)
    assert torch.equal(edges[:, (edges.flip(0)[0] * 1000 + edges.flip(0)[1]).argsort()].flip(0), edges)
    assert not (edges[0] == edges[1]).any()
    inside = (block[edges[0]] == block[edges[1]]).sum() / (600 * 599 + 400 * 399)
    across = (block[edges[0]] != block[edges[1]]).sum() / (2 * 600 * 400)
    assert float(inside) == pytest.approx(0.05, abs=0.001) and float(across) == pytest.approx(0.01, abs=0.001)
    assert torch.equal(edges, stochastic_blocks([600, 400], planted(0.05, 0.01, 2), seed=1)[0])


def test_direction_follows_the_matrix():
    edges, block = stochastic_blocks([300, 300], np.array([[0.0, 0.1], [0.0, 0.0]]), directed=True)
    assert set(zip(block[edges[0]].tolist(), block[edges[1]].tolist(), strict=True)) == {(0, 1)}
    assert edges.shape[1] == pytest.approx(9000, rel=0.05)
    with value_error("needs symmetric probabilities"):
        stochastic_blocks([3, 3], np.array([[0.0, 0.1], [0.0, 0.0]]))


def test_the_pair_that_colour_refinement_cannot_tell_apart():
    first, second = as_networkx(rook()), as_networkx(shrikhande())
    for graph in (first, second):
        assert graph.number_of_nodes() == 16 and nx.is_strongly_regular(graph)
        assert {d for _, d in graph.degree} == {6} and nx.diameter(graph) == 2
    assert not nx.is_isomorphic(first, second)


def test_ten_classes_of_skip_link_cycles_none_like_another():
    graphs = [as_networkx(circular_skip_links(41, skip)) for skip in CSL_SKIPS]
    assert all({d for _, d in graph.degree} == {4} for graph in graphs)
    assert not any(
        nx.could_be_isomorphic(a, b) and nx.is_isomorphic(a, b) for i, a in enumerate(graphs) for b in graphs[:i]
    )
    data = csl(copies=2)
    assert [int(graph.y) for graph in data[::2]] == list(range(10))
    assert nx.is_isomorphic(as_networkx(data[3].edge_index), graphs[1]) and not torch.equal(
        data[2].edge_index, data[3].edge_index
    )
    assert nx.is_isomorphic(as_networkx(relabelled(rook(), 16, 1)), as_networkx(rook()))
    with value_error("skip must be between 2 and 39"):
        circular_skip_links(41, 40)
