import itertools

import pytest
import torch
from torch import nn
from torch_geometric.nn import HypergraphConv

from tests.typecheck import value_error
from ziggurat.graphs.hypergraphs.convolutions import (
    PMA,
    AllDeepSetsConv,
    AllSetTransformerConv,
    EDHNNConv,
    HNHNConv,
    UniGCNConv,
    with_self_loops,
)
from ziggurat.graphs.hypergraphs.hgnn import HGNNConv
from ziggurat.graphs.hypergraphs.network import CONVOLUTIONS, HypergraphNetwork, hypergraph_features
from ziggurat.testing import example, ring_graph
from ziggurat.testing.examples import example_hyperedges

KINDS = (HGNNConv, HNHNConv, UniGCNConv, AllDeepSetsConv, AllSetTransformerConv, EDHNNConv)


def from_sets(*sets):
    return torch.tensor([[v for members in sets for v in members], [e for e, s in enumerate(sets) for _ in s]])


@pytest.mark.fact("hypergraph_survey", 1)
@pytest.mark.parametrize("kind", KINDS)
def test_names_and_order_do_not_matter(kind):
    x, index = torch.randn(12, 8, dtype=torch.float64), example_hyperedges()
    conv = kind(8, 4).double()
    nodes, edges, order = torch.randperm(12), torch.randperm(6), torch.randperm(index.shape[1])
    renamed = torch.stack([nodes.argsort()[index[0]], edges[index[1]]])[:, order]
    torch.testing.assert_close(conv(x[nodes], renamed), conv(x, index)[nodes])


@pytest.mark.fact("hypergraph_survey", 2)
def test_deep_sets_of_identities_are_two_means():
    x, index = torch.randn(12, 8), example_hyperedges()
    conv = AllDeepSetsConv(8, 8, "mean")
    for part in ("of_node", "to_edge", "of_edge", "to_node"):
        setattr(conv, part, nn.Identity())
    h = torch.zeros(12, 6).index_put(tuple(index), torch.ones(()))
    torch.testing.assert_close(conv(x, index), (h @ (h.T @ x / h.sum(0)[:, None])) / h.sum(1, keepdim=True))
    peer = HypergraphConv(8, 8, bias=False)
    with torch.no_grad():
        peer.lin.weight.copy_(torch.eye(8))
    torch.testing.assert_close(conv(x, index), peer(x, index), atol=1e-5, rtol=1e-5)


@pytest.mark.fact("hypergraph_survey", 3)
def test_cliques_cannot_tell_triples_from_the_whole():
    triples = from_sets(*itertools.combinations(range(4), 3))
    whole = from_sets(range(4))
    x = torch.randn(4, 8)
    clique = HypergraphNetwork(8, 3, "gcn", "clique", width=8).eval()
    assert torch.equal(clique(x, triples), clique(x, whole))
    sets = HypergraphNetwork(8, 3, "alldeepsets", width=8).eval()
    assert not torch.allclose(sets(x, triples), sets(x, whole), atol=1e-3)
    conv = AllDeepSetsConv(8, 4)
    assert not torch.allclose(conv(x, triples), conv(x, whole), atol=1e-3)


@pytest.mark.fact("hypergraph_survey", 4)
def test_unigcn_of_pairs_reaches_neighbours_and_itself():
    edges = ring_graph().edge_index
    pairs = edges[:, edges[0] < edges[1]].T.tolist()
    conv = UniGCNConv(12, 12)
    with torch.no_grad():
        conv.linear.weight.copy_(torch.eye(12))
    reached = conv(torch.eye(12), with_self_loops(from_sets(*pairs), 12)) > 0
    near = torch.eye(12, dtype=torch.bool).index_put(tuple(edges), torch.tensor(True))
    assert torch.equal(reached, near)


def test_unigcn_and_hnhn_against_loops():
    x, index = torch.randn(12, 8, dtype=torch.float64), example_hyperedges()
    sets = [index[0, index[1] == e].tolist() for e in range(6)]
    mine = [[e for e in range(6) if v in sets[e]] for v in range(12)]
    degree = [len(m) for m in mine]
    uni = UniGCNConv(8, 4).double()
    xw = x @ uni.linear.weight.T
    h = [sum(xw[v] for v in s) / len(s) for s in sets]
    of = [(sum(degree[v] for v in s) / len(s)) ** -0.5 for s in sets]
    want = torch.stack([degree[v] ** -0.5 * sum(of[e] * h[e] for e in mine[v]) for v in range(12)])
    torch.testing.assert_close(uni(x, index), want)
    conv = HNHNConv(8, 4, alpha=-1.0, beta=0.5).double()
    y = conv.there(x)
    h = [sum(degree[v] ** 0.5 * y[v] for v in s) / sum(degree[v] ** 0.5 for v in s) for s in sets]
    z = [conv.back(one.relu()) for one in h]
    rows = [sum(z[e] / len(sets[e]) for e in m) / sum(1 / len(sets[e]) for e in m) for m in mine]
    torch.testing.assert_close(conv(x, index), torch.stack(rows))


@pytest.mark.fact("hypergraph_survey", 5)
def test_attention_pooling_of_sets():
    x = torch.randn(5, 8, dtype=torch.float64)
    pool = PMA(8, 12, 3).double()
    pairs = torch.tensor([[0, 1, 2, 3, 4, 0], [0, 0, 0, 1, 1, 1]])
    out = pool(x, pairs, 2)
    assert out.shape == (2, 12)
    doubled = torch.cat([pairs, pairs[:, pairs[1] == 0]], 1)
    torch.testing.assert_close(pool(x, doubled, 2), out)
    torch.testing.assert_close(pool(x[:3], pairs[:, :3], 1), out[:1])
    assert not torch.allclose(pool(x, pairs[:, :5], 2)[1], out[1])


def test_messages_of_edhnn_depend_on_the_member():
    x, index = torch.randn(3, 8), from_sets([0, 1, 2])
    conv = EDHNNConv(8, 4)
    assert torch.equal(conv(x, index), conv(x, index, x))
    assert not torch.allclose(conv(x, index), conv(x, index, x + 1))


@pytest.mark.parametrize("conv", list(CONVOLUTIONS))
def test_every_choice_trains_and_starts_calm(conv):
    x, index = example("hypergraph")
    network = HypergraphNetwork(8, 3, conv, width=16)
    out = network(x, index)
    assert 1e-3 < out.std() < 10
    out.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_features_from_the_structure():
    index = from_sets([0, 1, 2], [1, 3], [0, 1], [2, 3, 4])
    counts = hypergraph_features(index, 6)
    assert counts.shape == (6, 5) and counts.mean(0).abs().max() < 1e-5
    assert counts[:, 0].argmax() == 1 and (counts.argmin(0) == 5).all(), "node 5 is in none"
    spectral = hypergraph_features(index, 6, "spectral", 3)
    torch.testing.assert_close(spectral.T @ spectral, torch.eye(3), atol=1e-5, rtol=0)
    assert hypergraph_features(index, 6, "walks", 4).shape == (6, 4)
    assert torch.equal(hypergraph_features(index, 6, "identity"), torch.eye(6))


def test_mistakes_are_named():
    with value_error("conv must be one of gcn for the structure 'clique'"):
        HypergraphNetwork(8, 3, "hgnn", "clique")
    with value_error("structure must be"):
        HypergraphNetwork(8, 3, structure="line")
    with value_error("takes no weights of hyperedges"):
        HypergraphNetwork(8, 3)(*example("hypergraph"), torch.ones(6))
    with value_error("multiple of heads"):
        AllSetTransformerConv(8, 6)
    with value_error("aggregate must be"):
        AllDeepSetsConv(8, 6, "max")
    with value_error("kind must be"):
        hypergraph_features(example_hyperedges(), 12, "other")
    with value_error("dimensions must be between"):
        hypergraph_features(example_hyperedges(), 12, "spectral", 12)
    with value_error("depth must be 1"):
        HypergraphNetwork(8, 3, depth=0)
