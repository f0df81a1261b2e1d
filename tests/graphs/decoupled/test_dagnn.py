import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import APPNP as PeerAPPNP

from tests.typecheck import value_error
from ziggurat.explain.smoothness import smoothness_metric
from ziggurat.graphs.convolutions.sgc import SGC
from ziggurat.graphs.decoupled.dagnn import DAGNN, AdaptiveHopGate, FixedHops, stacked_hops
from ziggurat.graphs.decoupled.predicting import OnGraph
from ziggurat.graphs.propagation import gcn_norm, hop_stack, mean_norm, stationary
from ziggurat.graphs.sparse_operator import sparse_operator
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph


@pytest.mark.fact("dagnn", 1)
@pytest.mark.parametrize("hops", [0, 10, 20])
def test_parameters_on_cora_do_not_depend_on_the_number_of_hops(hops):
    with torch.device("meta"):
        network = DAGNN(1433, 7, hops)
    assert count_parameters(network) == 1433 * 64 + 64 + 64 * 7 + 7 + 7 + 1 == 92_239


@pytest.mark.fact("dagnn", 2)
@pytest.mark.parametrize("hops", [0, 1, 3])
def test_one_linear_layer_and_the_last_hop_alone_are_sgc(hops):
    graph = ring_graph()
    ours = DAGNN(8, 4, hops, widths=(), dropout=0.0, combine="last").double()
    peer = SGC(8, 4, hops).double()
    peer.head.fc.load_state_dict(ours.head.classifier.fc.state_dict())
    x = graph.x.double()
    with torch.no_grad():  # the bias is propagated as well here, so it is the one part that differs
        ours.head.classifier.fc.bias.zero_()
        peer.head.fc.bias.zero_()
    smooth = peer.precompute(Data(x=x, edge_index=graph.edge_index))
    torch.testing.assert_close(ours(x, graph.edge_index), peer(*smooth))


def test_gates_that_decay_geometrically_are_personalised_pagerank():
    graph, alpha, hops = ring_graph(), 0.2, 4
    z = torch.randn(12, 3, dtype=torch.float64)
    stack = stacked_hops(z, sparse_operator(*gcn_norm(graph.edge_index, None, 12, dtype=torch.float64), 12), hops)
    weights = torch.tensor([alpha * (1 - alpha) ** k for k in range(hops)] + [(1 - alpha) ** hops], dtype=z.dtype)
    expected = PeerAPPNP(hops, alpha)(z, graph.edge_index)
    torch.testing.assert_close(FixedHops(weights)(stack), expected, atol=1e-6, rtol=1e-5)


def test_the_whole_network_against_a_loop():
    graph = ring_graph()
    x = graph.x.double()
    network = DAGNN(8, 3, hops=2).double().eval()
    hidden, classifier, gate = network.stages[0][0], network.head.classifier.fc, network.head.gate.linear
    edges, weights = gcn_norm(graph.edge_index, None, 12, dtype=torch.float64)
    z = classifier(hidden(x).relu())
    hops = [z]
    for _ in range(2):
        nxt = torch.zeros_like(z)
        for s, t, w in zip(*edges.tolist(), weights.tolist(), strict=True):
            nxt[t] += w * hops[-1][s]
        hops.append(nxt)
    expected = torch.zeros_like(z)
    for i in range(12):
        for h in hops:
            score = (h[i] @ gate.weight[0] + gate.bias[0]).item()
            expected[i] += h[i] / (1 + torch.exp(torch.tensor(-score)))
    torch.testing.assert_close(network(x, graph.edge_index), expected)
    gates = network.gates(x, graph.edge_index)
    assert gates.shape == (12, 3) and bool(((gates > 0) & (gates < 1)).all())
    assert not torch.allclose(gates.sum(1), torch.ones(12, dtype=torch.float64))  # no softmax over hops


@pytest.mark.fact("dagnn", 3)
def test_many_hops_end_in_the_stationary_state():
    graph = ring_graph()
    edges, x = graph.edge_index, graph.x.double()
    d = torch.bincount(edges[1], minlength=12).double() + 1
    root = d.sqrt()
    limit = torch.outer(root, root) / d.sum()
    far = hop_stack(x, *gcn_norm(edges, None, 12, dtype=torch.float64), 500)[-1]
    torch.testing.assert_close(far, limit @ x)
    torch.testing.assert_close(stationary(x, edges), limit @ x)
    assert torch.linalg.matrix_rank(hop_stack(torch.eye(12).double(), *gcn_norm(edges, None, 12), 500)[-1]) == 1
    far = hop_stack(x, *mean_norm(edges, None, 12, dtype=torch.float64), 500)[-1]
    torch.testing.assert_close(far, (d / d.sum() @ x).expand(12, -1))
    torch.testing.assert_close(stationary(x, edges, "mean"), far)


@pytest.mark.fact("dagnn", 3)
def test_each_component_has_a_limit_of_its_own():
    one, two = ring_graph(), ring_graph(seed=1)
    edges, x = torch.cat([one.edge_index, two.edge_index + 12], 1), torch.cat([one.x, two.x]).double()
    far = hop_stack(x, *gcn_norm(edges, None, 24, dtype=torch.float64), 500)[-1]
    torch.testing.assert_close(far, torch.cat([stationary(g.x.double(), g.edge_index) for g in (one, two)]))
    assert torch.linalg.matrix_rank(far) == 2


def test_gates_are_shared_by_all_hops_and_not_normalised():
    gate = AdaptiveHopGate(3)
    hops = torch.randn(5, 1, 3).expand(-1, 4, -1)
    got = gate.gates(hops)
    assert torch.equal(got, got[:, :1].expand(-1, 4))
    torch.testing.assert_close(gate(hops), got.sum(1, keepdim=True) * hops[:, 0])


def test_a_vector_before_the_classifier_is_mixed_by_the_gates_of_the_predictions():
    graph = ring_graph()
    network = DAGNN(8, 3, hops=3).eval()
    features = network.forward_features(graph.x, graph.edge_index)
    vector = network.forward_head(features, pre_logits=True)
    stack = stacked_hops(features[-1], features.step, 3)
    torch.testing.assert_close(vector, torch.einsum("nk,nkd->nd", network.gates(graph.x, graph.edge_index), stack))


def test_several_graphs_give_a_row_each():
    graph = ring_graph()
    network, batch = DAGNN(8, 3).eval(), torch.tensor([0] * 12 + [1] * 12)
    both, edges = torch.cat([graph.x, graph.x]), torch.cat([graph.edge_index, graph.edge_index + 12], 1)
    rows = network(both, edges, None, batch)
    torch.testing.assert_close(rows, network(graph.x, graph.edge_index).mean(0).expand(2, -1))


def test_deep_networks_still_tell_nodes_apart():
    """Before any training: the last of 200 hops has forgotten the nodes, their gated sum has not."""
    graph = ring_graph()
    hidden = torch.randn(12, 64)
    stack = stacked_hops(hidden, sparse_operator(*gcn_norm(graph.edge_index, None, 12), 12), 200)
    assert float(smoothness_metric(stack[:, -1]).mean()) < 1e-3
    assert float(smoothness_metric(AdaptiveHopGate(64)(stack)).mean()) > 1e-2


def test_smoothness_against_a_loop_whatever_the_chunk():
    x = torch.randn(7, 4, dtype=torch.float64)
    expected = torch.zeros(7, dtype=torch.float64)
    for i in range(7):
        for j in range(7):
            if i != j:
                expected[i] += 0.5 * (x[i] / x[i].norm() - x[j] / x[j].norm()).norm() / 6
    for chunk in (1, 3, 100):
        torch.testing.assert_close(smoothness_metric(x, chunk), expected)


def test_smoothness_of_equal_opposite_and_lonely_rows():
    row = torch.randn(1, 4)
    assert float(smoothness_metric(torch.cat([row, 2 * row, 3 * row])).max()) < 1e-6
    torch.testing.assert_close(smoothness_metric(torch.cat([row, -row])), torch.ones(2))
    assert smoothness_metric(row).tolist() == [0.0] and smoothness_metric(row[:0]).shape == (0,)
    assert torch.isfinite(smoothness_metric(torch.zeros(3, 4))).all()
    with value_error("chunk must be"):
        smoothness_metric(row, 0)


def test_mistakes_are_named():
    with value_error("hops must be 0 or more"):
        DAGNN(4, 2, hops=-1)
    with value_error("combine must be"):
        DAGNN(4, 2, combine="softmax")
    graph, network = ring_graph(), DAGNN(8, 2)
    with value_error("the very list"):
        network.forward_head([graph.x])
    assert isinstance(network.forward_features(graph.x, graph.edge_index), OnGraph)
