import math

import pytest
import torch
from torch_geometric.nn import HypergraphConv

from tests.typecheck import value_error
from ziggurat.graphs.hypergraphs.hgnn import (
    HGNN,
    HGNNConv,
    hypergraph_operator,
    join_hyperedges,
    knn_hyperedges,
    smooth,
)
from ziggurat.graphs.propagation import hop_stack, propagate
from ziggurat.nn import count_parameters
from ziggurat.testing import ring_graph
from ziggurat.testing.examples import example_hyperedges

INDEX = torch.tensor([[0, 1, 2, 1, 3, 0, 1], [0, 0, 0, 1, 1, 2, 2]])
"""{0, 1, 2}, {1, 3}, {0, 1}; node 4 is in none."""


def dense_operator(index, nodes, weight=None, value=None):
    """D_v^-1/2 H W D_e^-1 Hᵀ D_v^-1/2 by loops over memberships."""
    count = int(index[1].max()) + 1
    weight = [1.0] * count if weight is None else weight.tolist()
    value = [1.0] * index.shape[1] if value is None else value.tolist()
    triples = [(*pair, h) for pair, h in zip(index.T.tolist(), value, strict=True)]
    d = [sum(weight[e] * h for v, e, h in triples if v == u) for u in range(nodes)]
    size = [sum(h for _, e, h in triples if e == f) for f in range(count)]
    out = torch.zeros(nodes, nodes, dtype=torch.float64)
    for v, e, h in triples:
        for u, f, g in triples:
            if e == f:
                out[v, u] += weight[e] * h * g / size[e] / math.sqrt(d[v] * d[u])
    return out


@pytest.mark.parametrize("weighed", [False, True])
def test_two_sparse_products_equal_the_loops(weighed):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=g, dtype=torch.float64)
    weight = torch.rand(3, generator=g, dtype=torch.float64) + 0.1 if weighed else None
    value = torch.rand(7, generator=g, dtype=torch.float64) + 0.1 if weighed else None
    want = dense_operator(INDEX, 5, weight, value)
    torch.testing.assert_close(smooth(x, INDEX, weight, value), want @ x)
    edges, weights = hypergraph_operator(INDEX, 5, weight, value)
    torch.testing.assert_close(propagate(x, edges, weights), want @ x, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(hop_stack(x, edges, weights, 2)[2], want @ want @ x, atol=1e-6, rtol=1e-6)


@pytest.mark.fact("hgnn", 1)
def test_hyperedges_of_two_are_half_a_graph_convolution():
    edges = ring_graph().edge_index
    edges = edges[:, edges[0] < edges[1]]
    index = torch.stack([edges.T.flatten(), torch.arange(edges.shape[1]).repeat_interleave(2)])
    a = torch.zeros(12, 12, dtype=torch.float64).index_put(tuple(edges), torch.ones(()).double())
    a = a + a.T
    root = a.sum(1) ** -0.5
    eye = torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(smooth(eye, index), (eye + root[:, None] * a * root) / 2)


@pytest.mark.fact("hgnn", 2)
@pytest.mark.parametrize("seed", range(4))
def test_the_laplacian_is_positive_and_bounded(seed):
    g = torch.Generator().manual_seed(seed)
    index = example_hyperedges(seed)
    weight = torch.rand(6, generator=g, dtype=torch.float64) + 0.05
    value = torch.rand(index.shape[1], generator=g, dtype=torch.float64) + 0.05
    eye = torch.eye(12, dtype=torch.float64)
    delta = eye - smooth(eye, index, weight, value)
    torch.testing.assert_close(delta, delta.T)
    spectrum = torch.linalg.eigvalsh(delta)
    assert spectrum[0] > -1e-12 and spectrum[-1] < 1 + 1e-12
    degree = torch.zeros(12, dtype=torch.float64).index_add(0, index[0], weight[index[1]] * value)
    assert (delta @ degree.sqrt()).abs().max() < 1e-12


@pytest.mark.fact("hgnn", 3)
def test_equals_the_peer_between_two_scalings():
    x, index = torch.randn(12, 8), example_hyperedges()
    ours, peer = HGNNConv(8, 5, bias=False), HypergraphConv(8, 5, bias=False)
    with torch.no_grad():
        peer.lin.weight.copy_(ours.linear.weight)
    root = torch.bincount(index[0], minlength=12).float().sqrt()[:, None]
    torch.testing.assert_close(ours(x, index), root * peer(x / root, index), atol=1e-5, rtol=1e-5)


@pytest.mark.fact("hgnn", 4)
def test_two_halves_of_a_hyperedge_are_the_whole():
    x, index = torch.randn(12, 4, dtype=torch.float64), example_hyperedges()
    weight = torch.rand(6, dtype=torch.float64) + 0.1
    own = index[1] == 2
    twin = torch.cat([index, torch.stack([index[0, own], torch.full((int(own.sum()),), 6)])], 1)
    halves = torch.cat([weight, weight[2:3] / 2])
    halves = halves.index_fill(0, torch.tensor([2]), float(weight[2] / 2))
    torch.testing.assert_close(smooth(x, twin, halves), smooth(x, index, weight))


def test_weights_can_be_learned_and_lonely_nodes_have_the_bias_only():
    weight = torch.ones(3, requires_grad=True)
    conv = HGNNConv(4, 2)
    torch.nn.init.constant_(conv.bias, 7.0)
    out = conv(torch.randn(5, 4), INDEX, weight)
    assert out[4].tolist() == [7, 7]
    out.square().sum().backward()
    assert torch.isfinite(weight.grad).all() and weight.grad.any()


def test_network_equals_two_operators():
    x, index = torch.randn(12, 8), example_hyperedges()
    network, second = HGNN(8, 3).eval(), HGNNConv(16, 3)
    with torch.no_grad():
        second.linear.weight.copy_(network.head.fc.weight)
        second.bias.copy_(network.head.fc.bias)
    torch.testing.assert_close(network(x, index), second(network.stages[0](x, index).relu(), index))
    assert count_parameters(HGNN(1433, 7)) == 23_063  # as the GCN
    deep = HGNN(8, 3, width=6, depth=5)
    assert len(deep.stages) == len(deep.channels) == 5 and count_parameters(deep) == 8 * 6 + 3 * 36 + 24 + 21


def test_nearest_neighbours_with_copies():
    x = torch.tensor([[0.0, 0], [0, 0], [0, 0], [3, 4], [0, 1]])
    index, value = knn_hyperedges(x, 2)
    for e in range(5):
        assert e in index[0, index[1] == e]
    far = index[1] == 3
    assert sorted(index[0, far].tolist()) == [3, 4]
    mean = (5 + 5 + 5 + 0 + 18**0.5) / 5
    torch.testing.assert_close(value[far].min(), torch.tensor(math.exp(-18 / mean**2)))
    assert value[index[0] == index[1]].tolist() == [1] * 5
    assert knn_hyperedges(x, 3, prob=False)[1].tolist() == [1] * 15
    assert knn_hyperedges(torch.ones(4, 2), 2)[1].tolist() == [1] * 8
    wide = knn_hyperedges(x, 2, scale=2.0)[1]
    torch.testing.assert_close(wide, value**0.25)


def test_modalities_stand_side_by_side():
    joined = join_hyperedges([INDEX, INDEX[:, :3]])
    assert joined[:, 7:].tolist() == [[0, 1, 2], [3, 3, 3]] and torch.equal(joined[:, :7], INDEX)


def test_mistakes_are_named():
    with value_error("names hyperedge 2, but there are 2 weights"):
        smooth(torch.ones(5, 1), INDEX, torch.ones(2))
    with value_error("names node 4"):
        HGNNConv(2, 2)(torch.ones(4, 2), INDEX + torch.tensor([[1], [0]]))
    with value_error("depth must be 2"):
        HGNN(8, 3, depth=1)
    with value_error("between 1 and the 4 objects"):
        knn_hyperedges(torch.ones(4, 2), 5)
    with value_error("scale must be positive"):
        knn_hyperedges(torch.ones(4, 2), 2, scale=0.0)
