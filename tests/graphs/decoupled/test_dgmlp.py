import pytest
import torch
from torch_geometric.data import Data

from tests.typecheck import value_error
from ziggurat.explain.smoothness import smoothness_metric
from ziggurat.graphs.convolutions.sgc import SGC
from ziggurat.graphs.decoupled.dgmlp import DGMLP, Depths, depth_study, hop_weights, node_adaptive_combination
from ziggurat.graphs.decoupled.stacks import DeepGCN
from ziggurat.graphs.propagation import components, gcn_norm, hop_stack, stationary
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph


def two_parts():
    """A ring and a triangle with a tail that do not touch, in float64."""
    ring = ring_graph()
    other = torch.tensor([[0, 1, 1, 2, 2, 0, 2, 3], [1, 0, 2, 1, 0, 2, 3, 2]]) + 12
    x = torch.cat([ring.x.double(), torch.randn(4, 8, dtype=torch.float64)]).abs()
    return Data(x=x, edge_index=torch.cat([ring.edge_index, other], 1))


@pytest.mark.fact("dgmlp", 1)
def test_stationary_weights_are_positive_and_sum_to_one_in_each_component():
    graph = two_parts()
    weights = stationary(torch.eye(16, dtype=torch.float64), graph.edge_index, "mean")
    part, degree = components(graph.edge_index, 16), torch.bincount(graph.edge_index[1], minlength=16) + 1
    for i in range(16):
        inside = part == part[i]
        edges, nodes = int(inside[graph.edge_index[0]].sum()) // 2, int(inside.sum())
        expected = torch.where(inside, degree / (2 * edges + nodes), 0).double()
        torch.testing.assert_close(weights[i], expected)
        assert bool((weights[i][inside] > 0).all()) and abs(float(weights[i].sum()) - 1) < 1e-12
    for i in range(16):  # the symmetric form of this module's hops
        row = stationary(torch.eye(16, dtype=torch.float64), graph.edge_index)[i]
        expected = (degree[i] * degree.double()).sqrt() * weights[i] / degree
        torch.testing.assert_close(row, expected)


@pytest.mark.fact("dgmlp", 2)
def test_far_hops_reach_the_stationary_state_and_their_score_vanishes():
    graph = two_parts()
    hops = hop_stack(graph.x, *gcn_norm(graph.edge_index, None, 16, dtype=torch.float64), 400)
    limit = stationary(graph.x, graph.edge_index)
    torch.testing.assert_close(hops[-1], limit)
    likeness = torch.nn.functional.cosine_similarity(limit, hops[-1])
    torch.testing.assert_close(likeness, torch.ones(16, dtype=torch.float64))
    score = torch.nn.functional.cosine_similarity(graph.x, hops[-1]) * (1 - likeness)
    assert float(score.abs().max()) < 1e-12


def test_weights_against_a_loop():
    graph = two_parts()
    hops = hop_stack(graph.x, *gcn_norm(graph.edge_index, None, 16, dtype=torch.float64), 3)
    limit = stationary(graph.x, graph.edge_index)
    expected = torch.zeros(16, 4, dtype=torch.float64)
    for i in range(16):
        for k, hop in enumerate(hops):
            own = graph.x[i] @ hop[i] / (graph.x[i].norm() * hop[i].norm())
            far = limit[i] @ hop[i] / (limit[i].norm() * hop[i].norm())
            expected[i, k] = (own * (1 - far)).exp()
    expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(hop_weights(hops, limit), expected)
    combined = node_adaptive_combination(hops, limit)
    torch.testing.assert_close(combined, torch.einsum("nk,knf->nf", expected, torch.stack(hops)))


def test_rows_of_zeros_weigh_all_hops_alike():
    graph = two_parts()
    weights = hop_weights([torch.zeros(16, 8)] * 3, torch.zeros(16, 8))
    torch.testing.assert_close(weights, torch.full((16, 3), 1 / 3))
    graph.x = graph.x * 0
    assert torch.isfinite(DGMLP(8, 3).precompute(graph)[0]).all()


@pytest.mark.fact("dgmlp", 3)
def test_without_propagation_it_is_a_perceptron_of_the_features():
    graph = ring_graph()
    for combine in ("adaptive", "uniform", "last"):
        torch.testing.assert_close(DGMLP(8, 3, 0, combine=combine).precompute(graph)[0], graph.x)
    network = DGMLP(8, 3, 0, transformations=2, width=6, dropout=0.0).eval()
    linear, norm = network.stages[0].body[1], network.stages[0].body[2]
    expected = network.head.fc(norm(linear(graph.x)).relu())
    torch.testing.assert_close(network(*network.precompute(graph)), expected)


@pytest.mark.fact("dgmlp", 3)
@pytest.mark.parametrize("hops", [0, 1, 4])
def test_the_last_hop_and_one_layer_are_sgc(hops):
    graph = ring_graph()
    ours, peer = DGMLP(8, 3, hops, combine="last").eval(), SGC(8, 3, hops)
    peer.head.fc.load_state_dict(ours.head.fc.state_dict())
    torch.testing.assert_close(ours(*ours.precompute(graph)), peer(*peer.precompute(graph)))
    assert count_parameters(ours) == count_parameters(peer)


@pytest.mark.fact("dgmlp", 4)
def test_after_the_precomputation_no_edge_is_touched():
    """The network's inputs are as many numbers for a sparse graph as for a full one, and an epoch takes nothing else."""
    nodes = torch.arange(12)
    full = torch.cartesian_prod(nodes, nodes).T
    network = DGMLP(8, 3, 3).eval()
    for edges in (full[:, full[0] != full[1]], full[:, :0], ring_graph().edge_index):
        inputs = network.precompute(Data(x=ring_graph().x, edge_index=edges))
        assert [tuple(x.shape) for x in inputs] == [(12, 8)]
        assert not inputs[0].requires_grad and network(*inputs).shape == (12, 3)


def test_precompute_is_pure_and_refuses_weights():
    graph = ring_graph()
    before = graph.x.clone()
    network = DGMLP(8, 3, 5)
    assert torch.equal(network.precompute(graph)[0], network.precompute(graph)[0]) and torch.equal(graph.x, before)
    graph.edge_weight = torch.ones(graph.edge_index.shape[1])
    with value_error("without edge weights"):
        network.precompute(graph)


def test_skips_stand_where_widths_agree():
    network = DGMLP(8, 3, 2, transformations=4, width=6)
    assert [stage.residual for stage in network.stages] == [False, True, True]
    assert network.recipe().optimizer.param_groups[0]["lr"] == 0.01
    assert DGMLP(8, 3).recipe().optimizer.param_groups[0]["lr"] == 0.2


def test_the_study_has_a_row_for_each_of_the_depths_and_is_seeded():
    graph = ring_graph()
    state = torch.get_rng_state()
    grid = [Depths(2, 2), Depths(2, 6, "skips"), Depths(4, 2, "adaptive"), Depths(4, 1, "last")]
    rows = depth_study(graph, grid, steps=20, every=5, width=8, measures={"smoothness": smoothness_metric})
    assert torch.equal(state, torch.get_rng_state())
    assert rows == depth_study(graph, grid, 20, 5, 8, measures={"smoothness": smoothness_metric})
    assert [(r["propagations"], r["transformations"], r["kind"]) for r in rows] == [
        (d.propagations, d.transformations, d.kind) for d in grid
    ]
    for row in rows:
        assert 0 <= row["test"] <= 1 and 0 <= row["smoothness"] <= 1 and row["gradient"] > 0


def test_gradients_vanish_through_many_plain_transformations_only():
    graph = ring_graph()
    kinds = (Depths(2, 2), Depths(2, 32), Depths(2, 32, "skips"), Depths(32, 2))
    shallow, plain, skips, far = (r["gradient"] for r in depth_study(graph, kinds, 10, 10, width=16, dropout=0.0))
    assert plain < 0.05 * shallow and skips > 0.2 * shallow and far > 0.1 * shallow


def test_depths_make_the_networks_that_they_name():
    assert isinstance(Depths(2, 4).network(8, 3), DeepGCN) and isinstance(Depths(2, 4, "last").network(8, 3), DGMLP)
    assert Depths(2, 4, "skips").network(8, 3).stages[1].residual
    with value_error("kind must be"):
        Depths(2, 2, "residual").network(8, 3)


def test_mistakes_are_named():
    with value_error("transformations 1 or more"):
        DGMLP(8, 3, 2, 0)
    with value_error("combine must be"):
        DGMLP(8, 3, combine="mean")
    with value_error("every must be"):
        depth_study(ring_graph(), [Depths(2, 2)], steps=5, every=10)
