import pytest
import torch
from torch_geometric.nn import GCNConv

from tests.typecheck import value_error
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.decoupled.stacks import DeepGCN
from ziggurat.nn import count_parameters
from ziggurat.testing import CONTRACTS, Subject, run_checks
from ziggurat.testing.examples import ring_graph


@pytest.mark.parametrize("residual", [False, True])
def test_three_layers_are_three_of_the_peers(residual):
    graph = ring_graph()
    ours = DeepGCN(8, 3, 3, width=6, residual=residual).eval()
    peers = [GCNConv(8, 6), GCNConv(6, 6), GCNConv(6, 3)]
    weights = [(s.linear.weight, s.bias) for s in ours.stages[:2]] + [(ours.head.fc.weight, ours.head.fc.bias)]
    for peer, (weight, bias) in zip(peers, weights, strict=True):
        with torch.no_grad():
            peer.lin.weight.copy_(weight)
            peer.bias.copy_(bias)
    first = peers[0](graph.x, graph.edge_index).relu()
    second = peers[1](first, graph.edge_index).relu() + (first if residual else 0)
    expected = peers[2](second, graph.edge_index)
    torch.testing.assert_close(ours(graph.x, graph.edge_index), expected, atol=1e-6, rtol=1e-5)


def test_the_usual_stack_has_the_size_of_the_usual_gcn():
    assert count_parameters(DeepGCN(1433, 7, width=16)) == count_parameters(GCN(1433, 7))


@pytest.mark.parametrize(
    ("layers", "hops", "spread"),
    [(4, None, [1, 1, 1, 1]), (2, 16, [8, 8]), (4, 2, [0, 1, 0, 1]), (1, 3, [3]), (3, 0, [0, 0, 0])],
)
def test_propagations_are_spread_evenly(layers, hops, spread):
    stages = DeepGCN(8, 3, layers, hops).stages
    assert [s.hops.hops for s in stages[:-1]] + [stages[-1].hops] == spread


def test_keeps_the_contract_of_a_network_of_stages():
    checked = Subject(lambda: DeepGCN(8, 3, 4, 6, width=8, residual=True, norm=True, dropout=0.0), "staged", "graph")
    assert run_checks(checked, CONTRACTS["staged"])["check_head"] == "ran"


def test_skips_keep_deep_layers_apart():
    """How different the nodes are after 32 transformations and two propagations, before any training."""
    graph, spread = ring_graph(), {}
    for skips in (False, True):
        torch.manual_seed(0)
        features = DeepGCN(8, 3, 32, 2, residual=skips).eval().forward_features(graph.x, graph.edge_index)
        spread[skips] = features[-1].std(0).mean().item() / features[0].std(0).mean().item()
    assert spread[False] < 0.05 and spread[True] > 1


def test_mistakes_are_named():
    with value_error("transforms once at least"):
        DeepGCN(8, 3, 0)


def test_dropout_does_not_touch_the_skip():
    network = DeepGCN(8, 3, 12, 2, width=6, residual=True, dropout=0.9).train()
    graph = ring_graph()
    with torch.no_grad():
        for layer in list(network.stages)[1:-1]:  # layers that add nothing: what is left is the skip
            layer.linear.weight.zero_()
    features = network.forward_features(graph.x, graph.edge_index)
    torch.testing.assert_close(features[-2], features[0])
