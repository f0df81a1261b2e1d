import pytest
import torch
from torch_geometric.nn import GatedGraphConv

from tests.typecheck import value_error
from ziggurat.graphs.recurrent.fixed_point import FixedPoint, FixedPointGNN, aggregate
from ziggurat.graphs.recurrent.gated import GatedGNN, GatedSteps, ToState
from ziggurat.testing.examples import ring_graph

F64 = torch.float64


def exact(width=5, contraction=0.9):
    torch.manual_seed(0)
    layer = FixedPoint(8, width, contraction, tolerance=1e-14, max_steps=2000).double()
    with torch.no_grad():
        layer.state.mul_(3)  # so that rows are scaled down
        layer.bias.normal_()
    return layer


def test_the_map_against_loops():
    graph, layer = ring_graph(), exact()
    x, h = graph.x.double(), torch.randn(12, 5, dtype=F64)
    w = layer.contractive()
    want = torch.zeros(12, 5, dtype=F64)
    for v in range(12):
        near = [s for s, t in graph.edge_index.T.tolist() if t == v]
        for u in near:
            inside = w @ h[u] + layer.sent @ x[u] + layer.own @ x[v] + layer.bias
            want[v] += inside.tanh() / len(near)
    edges = graph.edge_index
    share = 1 / torch.bincount(edges[1]).double()[edges[1]]
    torch.testing.assert_close(aggregate(h, w, layer.inputs(x), edges, share), want)
    fixed = layer(x, edges)
    torch.testing.assert_close(aggregate(fixed, w, layer.inputs(x), edges, share), fixed, atol=1e-12, rtol=0)


@pytest.mark.fact("gnn_survey", 3)
def test_the_state_does_not_depend_on_its_start():
    graph, layer = ring_graph(), exact()
    x = graph.x.double()
    zero, steps = layer.solve(x, graph.edge_index)
    for scale in (1.0, 50.0):
        other, _ = layer.solve(x, graph.edge_index, start=scale * torch.randn(12, 5, dtype=F64))
        torch.testing.assert_close(other, zero, atol=1e-11, rtol=0)
    assert steps < 2000 and float(zero.abs().max()) > 0.1


@pytest.mark.fact("gnn_survey", 3)
def test_the_map_is_a_contraction():
    graph, layer = ring_graph(), exact(contraction=0.7)
    layer.requires_grad_(False)
    assert float(layer.contractive().abs().sum(1).max()) <= 0.7 + 1e-12
    edges, x = graph.edge_index, graph.x.double()
    share = 1 / torch.bincount(edges[1]).double()[edges[1]]
    for _ in range(20):
        a, b = torch.randn(12, 5, dtype=F64), torch.randn(12, 5, dtype=F64)
        one, two = (aggregate(h, layer.contractive(), layer.inputs(x), edges, share) for h in (a, b))
        assert float((one - two).abs().max()) <= 0.7 * float((a - b).abs().max())


def test_implicit_gradients_are_those_of_the_unrolled_iterations():
    graph, layer = ring_graph(), exact()
    edges, weight = graph.edge_index, torch.rand(graph.edge_index.shape[1], dtype=F64) + 0.5
    x = graph.x.double().requires_grad_()
    target = torch.randn(12, 5, dtype=F64)
    given = (x, *layer.parameters())
    got = torch.autograd.grad((layer(x, edges, weight) * target).sum(), given)
    total = torch.zeros(12, dtype=F64).index_add(0, edges[1], weight)
    h = torch.zeros(12, 5, dtype=F64)
    for _ in range(400):
        h = aggregate(h, layer.contractive(), layer.inputs(x), edges, weight / total[edges[1]])
    want = torch.autograd.grad((h * target).sum(), given)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


def test_iterations_stop_at_the_tolerance():
    torch.manual_seed(0)
    graph, layer = ring_graph(), FixedPoint(8, 6)
    state, steps = layer.solve(graph.x, graph.edge_index)
    again, more = layer.solve(graph.x, graph.edge_index, start=state)
    assert steps > 2 and more == 1 and float((again - state).abs().max()) <= 1e-4
    assert layer.solve(graph.x, graph.edge_index[:, :0])[0].abs().sum() == 0


def test_a_network_of_fixed_points_learns():
    torch.manual_seed(0)
    graph, network = ring_graph(), FixedPointGNN(8, 3, dropout=0.0)
    optimizer = network.recipe().optimizer
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(graph.x, graph.edge_index), graph.y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_gated_steps_are_the_peers_with_one_matrix_for_all():
    torch.manual_seed(0)
    graph, ours, peer = ring_graph(), GatedSteps(8, 3).double(), GatedGraphConv(8, 3).double()
    with torch.no_grad():
        peer.weight.copy_(ours.message.T.expand(3, -1, -1))
    peer.rnn.load_state_dict(ours.cell.state_dict())
    x = graph.x.double()
    torch.testing.assert_close(ours(x, graph.edge_index), peer(x, graph.edge_index), atol=1e-5, rtol=1e-5)
    weight = torch.rand(graph.edge_index.shape[1], dtype=F64)
    torch.testing.assert_close(ours(x, graph.edge_index, weight), peer(x, graph.edge_index, weight))


def test_weights_are_shared_by_all_steps():
    assert sum(p.numel() for p in GatedSteps(8, 1).parameters()) == sum(
        p.numel() for p in GatedSteps(8, 9).parameters()
    )


def test_a_gated_step_against_a_loop():
    torch.manual_seed(0)
    graph, layer = ring_graph(), GatedSteps(8, 1).double()
    h, cell = graph.x.double(), layer.cell
    got = layer(h, graph.edge_index)
    for v in range(12):
        heard = sum(layer.message @ h[s] for s, t in graph.edge_index.T.tolist() if t == v)
        r, z, n = (cell.weight_ih @ heard + cell.bias_ih).chunk(3)
        rh, zh, nh = (cell.weight_hh @ h[v] + cell.bias_hh).chunk(3)
        z = (z + zh).sigmoid()
        want = (1 - z) * (n + (r + rh).sigmoid() * nh).tanh() + z * h[v]
        torch.testing.assert_close(got[v], want)


def test_narrow_inputs_are_padded_and_wide_ones_pass_a_linear_layer():
    x = torch.randn(4, 3)
    padded = ToState(3, 5)(x)
    assert torch.equal(padded[:, :3], x) and not padded[:, 3:].any() and not list(ToState(3, 5).parameters())
    assert torch.equal(ToState(3, 3)(x), x)
    wide = ToState(3, 2)
    assert torch.equal(wide(x), wide.linear(x))
    assert isinstance(GatedGNN(8, 3, width=4).stem.linear, torch.nn.Linear)


def test_mistakes_of_recurrent_networks():
    with value_error("contraction must be between 0 and 1"):
        FixedPoint(4, 2, contraction=1.0)
    with value_error("steps must be 1 or more"):
        GatedSteps(4, 0)
