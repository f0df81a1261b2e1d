from itertools import pairwise

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn import SGConv as PeerSGConv

from tests.typecheck import value_error
from ziggurat.graphs import GCN, SGC, SGCClassifier, SGConv
from ziggurat.graphs.propagation import check_edges, gcn_norm, hop_stack, propagate
from ziggurat.graphs.spectral import laplacian_spectrum, response
from ziggurat.nn import count_parameters


def random_graph(nodes=12, extra=16, seed=0):
    """A connected undirected graph: a ring and some chords."""
    g = torch.Generator().manual_seed(seed)
    ring = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    chords = torch.randint(nodes, (2, extra), generator=g)
    edges = torch.cat([ring, chords[:, chords[0] != chords[1]]], 1)
    return torch.unique(torch.cat([edges, edges.flip(0)], 1), dim=1)


def dense(edges, weights, nodes):
    matrix = torch.zeros(nodes, nodes, dtype=weights.dtype)
    for (s, t), w in zip(edges.T.tolist(), weights, strict=True):
        matrix[t, s] += w
    return matrix


def test_normalisation_against_a_dense_loop():
    edges = random_graph()
    a = dense(edges, torch.ones(edges.shape[1], dtype=torch.float64), 12) + 0.7 * torch.eye(12, dtype=torch.float64)
    d = a.sum(1) ** -0.5
    expected = d[:, None] * a * d[None]
    got = dense(*gcn_norm(edges, None, 12, self_loops=0.7, dtype=torch.float64), 12)
    torch.testing.assert_close(got, expected)


def test_propagation_and_hop_stack_equal_dense_products():
    edges, weights = gcn_norm(random_graph(), None, 12, dtype=torch.float64)
    s, x = dense(edges, weights, 12), torch.randn(12, 3, dtype=torch.float64)
    torch.testing.assert_close(propagate(x, edges, weights), s @ x)
    for k, hop in enumerate(hop_stack(x, edges, weights, 3)):
        torch.testing.assert_close(hop, torch.linalg.matrix_power(s, k) @ x)


def test_directed_weights_go_from_source_to_target():
    y = propagate(torch.tensor([[1.0], [10.0]]), torch.tensor([[0], [1]]), torch.tensor([2.0]))
    assert y.flatten().tolist() == [0.0, 2.0]


def test_own_loops_keep_their_weight_and_isolated_nodes_get_zero():
    edges, weights = gcn_norm(torch.tensor([[0], [0]]), torch.tensor([3.0]), 2)
    torch.testing.assert_close(dense(edges, weights, 2), torch.eye(2))
    _, weights = gcn_norm(torch.tensor([[0], [1]]), None, 3, self_loops=0.0)
    assert torch.isfinite(weights).all()


@pytest.mark.fact("sgc", 1)
@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_equals_the_peer_with_copied_weights(hops):
    edges, x = random_graph(), torch.randn(12, 5)
    ours, peer = SGConv(5, 4, hops), PeerSGConv(5, 4, K=hops)
    peer.lin.load_state_dict(ours.linear.state_dict())
    torch.testing.assert_close(ours(x, edges), peer(x, edges), atol=1e-6, rtol=1e-5)


@pytest.mark.fact("sgc", 2)
def test_equals_stacked_convolutions_whose_weights_multiply_to_theta():
    edges, x = random_graph(), torch.randn(12, 5, dtype=torch.float64)
    one, two = GCNConv(5, 6, bias=False).double(), GCNConv(6, 4, bias=False).double()
    ours = SGConv(5, 4, 2).double()
    with torch.no_grad():
        ours.linear.weight.copy_(two.lin.weight @ one.lin.weight)
        ours.linear.bias.zero_()
    torch.testing.assert_close(ours(x, edges), two(one(x, edges), edges))


@pytest.mark.fact("sgc", 3)
def test_parameter_counts_on_cora():
    assert count_parameters(SGC(1433, 7)) == 10_038
    assert count_parameters(SGConv(1433, 7)) == 10_038
    assert count_parameters(GCN(1433, 7)) == 23_063


@pytest.mark.fact("sgc", 4)
@pytest.mark.parametrize("seed", range(5))
def test_self_loops_shrink_the_spectrum(seed):
    edges = random_graph(seed=seed)
    largest = []
    for gamma in (0.0, 0.5, 1.0, 2.0):
        spectrum = laplacian_spectrum(edges, 12, gamma)
        assert abs(float(spectrum[0])) < 1e-10
        largest.append(float(spectrum[-1]))
    assert all(a > b for a, b in pairwise(largest))


def test_response_of_odd_powers_is_negative_beyond_one():
    assert response(torch.tensor([0.0, 1.0, 1.5]), 3).tolist() == [1.0, 0.0, -0.125]


def test_decoupled_network_equals_the_operator_and_precompute_is_pure():
    data = Data(x=torch.randn(12, 5), edge_index=random_graph())
    before = data.x.clone()
    network, layer = SGC(5, 4), SGConv(5, 4)
    layer.linear.load_state_dict(network.head.fc.state_dict())
    torch.testing.assert_close(network(*network.precompute(data)), layer(data.x, data.edge_index))
    assert torch.equal(data.x, before)
    data.x = data.x + 1  # nothing is cached: new features give new hops
    assert not torch.allclose(
        network.precompute(data)[0], SGC(5, 4).precompute(Data(x=before, edge_index=data.edge_index))[0]
    )


def test_gcn_equals_two_peer_convolutions():
    edges, x = random_graph(), torch.randn(12, 5)
    ours, second = GCN(5, 3).eval(), GCNConv(16, 3)
    with torch.no_grad():
        second.lin.weight.copy_(ours.head.fc.weight)
        second.bias.copy_(ours.head.fc.bias)
    expected = second(ours.stages[0](x, edges).relu(), edges)
    torch.testing.assert_close(ours(x, edges), expected, atol=1e-6, rtol=1e-5)


def test_estimator_learns_two_communities():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(40) // 20
    near = (torch.rand(40, 40, generator=g) < torch.where(y[:, None] == y[None], 0.3, 0.02)).triu(1)
    edges = near.nonzero().T
    x = torch.randn(40, 8, generator=g) + 0.5 * y[:, None]
    data = Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=y, train_mask=torch.arange(40) % 5 == 0)
    model = SGCClassifier(weight_decay=1e-3).fit(data)
    assert (model.predict(data) == y.numpy()).mean() >= 0.95
    assert (SGCClassifier(weight_decay=1e-3).fit(data).predict_proba(data) == model.predict_proba(data)).all()
    with value_error("fit\\(data\\) first"):
        SGCClassifier().predict(data)


@pytest.mark.parametrize(
    ("edges", "says"),
    [
        (torch.tensor([[0.0], [1.0]]), "int64"),
        (torch.tensor([[0, 1]]), "sources in the first row"),
        (torch.tensor([[0], [5]]), "node 5"),
        (torch.tensor([[-1], [0]]), "node -1"),
    ],
)
def test_bad_edges_are_named(edges, says):
    with value_error(says):
        check_edges(edges, 3)
