import pytest
import torch
from torch_geometric.nn import ChebConv as PeerChebConv

from tests.typecheck import value_error
from ziggurat.graphs.convolutions.chebnet import (
    ChebConv,
    ChebNet,
    ChebTerms,
    chebyshev_sum,
    chebyshev_terms,
    scaled_laplacian,
)
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph

F64 = torch.float64


def dense(edges, n, lambda_max=2.0):
    """L̃ as a matrix."""
    a = torch.zeros(n, n, dtype=F64)
    for s, t in edges.T.tolist():
        a[t, s] = 1
    root = a.sum(1).clamp_min(1).rsqrt()
    return 2 / lambda_max * (torch.eye(n, dtype=F64) - root[:, None] * a * root) - torch.eye(n, dtype=F64)


@pytest.mark.fact("gnn_survey", 1)
def test_parameters_of_a_chebnet_on_cora():
    with torch.device("meta"):
        network = ChebNet(1433, 7)
    assert count_parameters(network) == 3 * 1433 * 16 + 16 + 3 * 16 * 7 + 7 == 69_143


@pytest.mark.fact("gnn_survey", 2)
def test_two_terms_with_opposite_weights_are_the_first_graph_convolution():
    torch.manual_seed(0)
    graph, conv = ring_graph(), ChebConv(8, 5, order=2, lambda_max=2.0).double()
    with torch.no_grad():
        conv.weight[1] = -conv.weight[0]
    x, smoothed = graph.x.double(), -dense(graph.edge_index, 12)  # D^-1/2 A D^-1/2
    want = (torch.eye(12) + smoothed) @ x @ conv.weight[0]
    torch.testing.assert_close(conv(x, graph.edge_index), want)


@pytest.mark.parametrize("lambda_max", [2.0, 1.5])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_convolution_against_dense_polynomials(order, lambda_max):
    torch.manual_seed(0)
    graph, conv = ring_graph(), ChebConv(8, 5, order, lambda_max).double()
    torch.nn.init.normal_(conv.bias)
    x, l = graph.x.double(), dense(graph.edge_index, 12, lambda_max)  # noqa: E741
    terms = [x, l @ x]
    for _ in range(order - 2):
        terms.append(2 * l @ terms[-1] - terms[-2])
    want = sum(t @ w for t, w in zip(terms, conv.weight, strict=False)) + conv.bias
    torch.testing.assert_close(conv(x, graph.edge_index), want)


@pytest.mark.parametrize("order", [1, 3, 4])
def test_it_is_the_peers_convolution(order):
    torch.manual_seed(0)
    graph, conv, peer = ring_graph(), ChebConv(8, 5, order), PeerChebConv(8, 5, order)
    weight = torch.rand(graph.edge_index.shape[1])
    both = (graph.edge_index[0] < graph.edge_index[1]).nonzero().flatten()
    for e in both.tolist():  # the same weight in both directions
        back = (graph.edge_index[:, e].flip(0) == graph.edge_index.T).all(1)
        weight[back] = weight[e]
    with torch.no_grad():
        for mine, theirs in zip(conv.weight, peer.lins, strict=True):
            theirs.weight.copy_(mine.T)
    for given in (None, weight):
        torch.testing.assert_close(
            conv(graph.x, graph.edge_index, given), peer(graph.x, graph.edge_index, given), atol=1e-5, rtol=1e-5
        )


def test_both_recurrences_agree():
    torch.manual_seed(0)
    graph = ring_graph()
    scaled = scaled_laplacian(graph.edge_index, None, 12, 1.7, F64)
    for order in (1, 2, 3, 6):
        parts = [torch.randn(12, 4, dtype=F64) for _ in range(order)]
        want = sum(chebyshev_terms(part, scaled, order)[k] for k, part in enumerate(parts))
        torch.testing.assert_close(chebyshev_sum(parts, scaled), want)


def test_the_classifier_has_the_weights_of_the_second_convolution():
    torch.manual_seed(0)
    graph, network = ring_graph(), ChebNet(8, 3, width=6).double().eval()
    conv = ChebConv(6, 3).double()
    with torch.no_grad():
        conv.weight.copy_(network.head.fc.weight.T.view(3, 6, 3))
        conv.bias.copy_(network.head.fc.bias)
    x = graph.x.double()
    hidden = network.stages[0](x, graph.edge_index).relu()
    torch.testing.assert_close(network(x, graph.edge_index), conv(hidden, graph.edge_index))
    assert ChebTerms(3)(hidden, graph.edge_index).shape == (12, 18)


def test_mistakes_of_chebyshev():
    with value_error("order must be 1 or more"):
        ChebConv(4, 2, order=0)
    with value_error("lambda_max positive"):
        ChebConv(4, 2, lambda_max=0.0)
