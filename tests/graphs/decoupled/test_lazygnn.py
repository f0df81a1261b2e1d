import copy

import pytest
import torch
from torch_geometric.nn import APPNP as PeerAPPNP

from tests.typecheck import value_error
from ziggurat.graphs.decoupled.lazygnn import LazyGNN, LazyPropagation
from ziggurat.graphs.propagation import gcn_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator
from ziggurat.testing.examples import ring_graph


def setting(channels=3):
    """S of a ring with chords, dense and as an operator, and predictions that ask for a gradient, in float64."""
    graph = ring_graph()
    step = sparse_operator(*gcn_norm(graph.edge_index, None, 12, dtype=torch.float64), 12)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(12, channels, dtype=torch.float64, generator=g).requires_grad_()
    return graph, step, step(torch.eye(12, dtype=torch.float64)), x


@pytest.mark.fact("lazygnn", 1)
@pytest.mark.parametrize("hops", [0, 1, 2, 5])
def test_without_memories_it_is_the_peers_appnp_forward_and_backward(hops):
    graph, step, _, x = setting()
    lazy = LazyPropagation(hops, alpha=0.2, beta=1.0, gamma=1.0)
    direction = torch.randn(12, 3, dtype=torch.float64)
    for _ in range(3):  # whatever was seen before
        ours = lazy(x, step)
        (gradient,) = torch.autograd.grad((ours * direction).sum(), x)
        peer = PeerAPPNP(hops, 0.2)(x, graph.edge_index)
        (expected,) = torch.autograd.grad((peer * direction).sum(), x)
        torch.testing.assert_close(ours, peer, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


def test_backward_goes_against_the_edges_of_a_directed_graph():
    edges, weights = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), torch.rand(4, dtype=torch.float64)
    step, x = sparse_operator(edges, weights, 4), torch.randn(4, 2, dtype=torch.float64).requires_grad_()
    lazy = LazyPropagation(3, 0.3, 1.0, 1.0)
    plain = x
    for _ in range(3):
        plain = 0.7 * step(plain) + 0.3 * x
    direction = torch.randn(4, 2, dtype=torch.float64)
    (expected,) = torch.autograd.grad((plain * direction).sum(), x)
    (gradient,) = torch.autograd.grad((lazy(x, step) * direction).sum(), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.fact("lazygnn", 2)
@pytest.mark.parametrize("hops", [1, 2])
def test_repeated_steps_converge_to_personalised_pagerank(hops):
    _, step, s, x = setting()
    alpha, eye = 0.2, torch.eye(12, dtype=torch.float64)
    limit = alpha * torch.linalg.solve(eye - (1 - alpha) * s, x.detach())
    lazy, before = LazyPropagation(hops, alpha, beta=0.0), float("inf")
    assert torch.allclose(s, s.T)  # of norm 1, so that errors shrink in the plain norm
    for _ in range(60):
        error = float((lazy(x, step).detach() - limit).norm())
        assert error <= before * (1 - alpha) ** hops + 1e-12
        before = error
    assert before < 1e-4


@pytest.mark.fact("lazygnn", 2)
def test_repeated_gradients_converge_to_those_of_personalised_pagerank():
    _, step, s, x = setting()
    lazy, direction = LazyPropagation(1, 0.2, 0.0, 0.0), torch.randn(12, 3, dtype=torch.float64)
    for _ in range(150):
        (gradient,) = torch.autograd.grad((lazy(x, step) * direction).sum(), x)
    exact = 0.2 * torch.linalg.solve(torch.eye(12, dtype=torch.float64) - 0.8 * s.T, direction)
    torch.testing.assert_close(gradient, exact)


@pytest.mark.fact("lazygnn", 3)
@pytest.mark.parametrize(("hops", "beta"), [(1, 0.6), (2, 0.3), (3, 1.0)])
def test_the_fixed_point_with_fresh_predictions(hops, beta):
    _, step, s, x = setting()
    alpha, eye = 0.15, torch.eye(12, dtype=torch.float64)
    lazy = LazyPropagation(hops, alpha, beta)
    for _ in range(200):
        h = lazy(x, step)
    p = torch.linalg.matrix_power((1 - alpha) * s, hops)
    series = alpha * sum(torch.linalg.matrix_power((1 - alpha) * s, k) for k in range(hops))
    expected = torch.linalg.solve(eye - (1 - beta) * p, (beta * p + series) @ x)
    torch.testing.assert_close(h, expected)
    pagerank = alpha * torch.linalg.solve(eye - (1 - alpha) * s, x)
    assert float((h - pagerank).detach().abs().max()) > 0.01


@pytest.mark.fact("lazygnn", 4)
@pytest.mark.parametrize("hops", [1, 2])
def test_a_training_step_takes_two_products_a_hop(hops, monkeypatch):
    graph, calls, product = ring_graph(), [], SparseOperator.__call__
    monkeypatch.setattr(SparseOperator, "__call__", lambda self, x: calls.append(0) or product(self, x))
    network = LazyGNN(8, 3, (8,), hops=hops)
    for _ in range(5):  # however deep the memories have become
        calls.clear()
        network(graph.x, graph.edge_index).sum().backward()
        assert len(calls) == 2 * hops
    calls.clear()
    LazyGNN(8, 3, (8,), hops=10, beta=1.0, gamma=1.0)(graph.x, graph.edge_index).sum().backward()
    assert len(calls) == 20


def test_memories_carry_no_gradient_and_stay_as_they_are_in_evaluation():
    graph = ring_graph()
    network = LazyGNN(8, 3, (8,))
    memory = network.head.propagation
    network(graph.x, graph.edge_index).sum().backward()
    assert not memory.outputs.rows.requires_grad and not memory.gradients.rows.requires_grad
    before = [memory.outputs.rows.clone(), memory.gradients.rows.clone()]
    network.eval()(graph.x, graph.edge_index).sum().backward()
    network.recall(graph.x, graph.edge_index)
    assert torch.equal(before[0], memory.outputs.rows) and torch.equal(before[1], memory.gradients.rows)
    network.reset_memory()
    assert len(memory.outputs.rows) == len(memory.gradients.known) == 0


def test_evaluation_is_appnp_and_recall_one_more_lazy_step():
    graph, network = ring_graph(), LazyGNN(8, 3, (8,), dropout=0.0, test_hops=4, hops=1)
    network(graph.x, graph.edge_index)
    network.eval()
    features = network.forward_features(graph.x, graph.edge_index)
    z = network.head.classifier(features[-1])
    torch.testing.assert_close(network(graph.x, graph.edge_index), PeerAPPNP(4, 0.1)(z, graph.edge_index))
    start = 0.4 * network.head.propagation.outputs.rows + 0.6 * z
    torch.testing.assert_close(network.recall(graph.x, graph.edge_index), 0.9 * features.step(start) + 0.1 * z)


def test_memories_travel_in_the_state():
    graph = ring_graph()
    network, other = LazyGNN(8, 3, (8,), dropout=0.0), LazyGNN(8, 3, (8,), dropout=0.0)
    network(graph.x, graph.edge_index).sum().backward()
    other.load_state_dict(network.state_dict())
    for one in (other, copy.deepcopy(network)):
        torch.testing.assert_close(one(graph.x, graph.edge_index), copy.deepcopy(network)(graph.x, graph.edge_index))


def test_a_part_of_the_graph_is_kept_under_the_numbers_of_the_whole():
    """Targets 3, 5, 6 and their neighbours: the first step gives the targets' rows of the whole, and only they are remembered."""
    graph, _, s, x = setting()
    targets = torch.tensor([5, 3, 6])
    near = (s[targets] > 0).any(0).index_fill(0, targets, False).nonzero().flatten()
    nodes = torch.cat([targets, near])
    place = torch.full((12,), -1).index_copy(0, nodes, torch.arange(len(nodes)))
    edges, weights = gcn_norm(graph.edge_index, None, 12, dtype=torch.float64)
    inside = (place[edges] >= 0).all(0)
    step = sparse_operator(place[edges[:, inside]], weights[inside], len(nodes))
    lazy = LazyPropagation(1, 0.2)
    part = lazy(x[nodes], step, nodes, 3)
    whole = 0.8 * s @ x + 0.2 * x
    torch.testing.assert_close(part[:3], whole[targets])
    (gradient,) = torch.autograd.grad(part[:3].sum(), x)
    assert (
        lazy.outputs.known.nonzero().flatten().tolist()
        == [3, 5, 6]
        == lazy.gradients.known.nonzero().flatten().tolist()
    )
    assert set(gradient.any(1).nonzero().flatten().tolist()) == {3, 5, 6}  # the halo gets none
    torch.testing.assert_close(lazy.outputs.rows[targets], whole[targets].detach())


def test_the_halo_is_read_from_the_memory_alone():
    _, step, s, x = setting()
    lazy, nodes = LazyPropagation(1, 0.2, beta=0.6), torch.arange(12)
    old = lazy(x, step).detach()
    new = lazy(2 * x, step, nodes, 4)
    start = torch.cat([(0.4 * old + 0.6 * 2 * x)[:4], old[4:]])
    torch.testing.assert_close(new, 0.8 * s @ start + 0.2 * 2 * x)
    torch.testing.assert_close(lazy.outputs.rows, torch.cat([new[:4], old[4:]]).detach())


def test_a_network_takes_a_part():
    graph = ring_graph()
    network = LazyGNN(8, 3, (8,))
    edges, weights = gcn_norm(graph.edge_index, None, 12)
    nodes = torch.arange(12) + 100
    rows = network(graph.x, edges, weights, n_id=nodes, batch_size=4)
    rows.sum().backward()
    assert rows.shape == (4, 3)
    assert network.head.propagation.outputs.known.nonzero().flatten().tolist() == [100, 101, 102, 103]
    for wrong in ({"n_id": nodes}, {"n_id": nodes[:3], "edge_weight": weights}):
        with value_error("n_id must name all 12"):
            network(graph.x, edges, **wrong)
    with value_error("batch_size must be"):
        network(graph.x, graph.edge_index, batch_size=13)


def test_mistakes_are_named():
    with value_error("alpha must be"):
        LazyPropagation(alpha=0.0)
    with value_error("hops and test_hops"):
        LazyPropagation(hops=-1)
    with value_error("one hidden width"):
        LazyGNN(8, 3, ())
