import pytest
import torch
from torch_geometric.nn import APPNP as PeerAPPNP
from torch_geometric.utils import to_dense_adj, to_undirected

from tests.typecheck import value_error
from ziggurat.graphs.propagation import APPNP, components, gcn_norm, hop_stack, mean_norm, propagate, stationary
from ziggurat.testing import ring_graph


def dense(edges, weights, n):
    return torch.zeros(n, n, dtype=weights.dtype).index_put((edges[1], edges[0]), weights, accumulate=True)


def two_parts():
    """A triangle with a tail, an edge, and a node alone; undirected."""
    return to_undirected(torch.tensor([[0, 1, 2, 2, 4], [1, 2, 0, 3, 5]]), num_nodes=7)


def test_mean_norm_is_the_mean_over_neighbours_and_itself():
    edges = two_parts()
    a = to_dense_adj(edges, max_num_nodes=7)[0].double() + torch.eye(7)
    s = dense(*mean_norm(edges, None, 7, dtype=torch.float64), 7)
    torch.testing.assert_close(s, a / a.sum(1, keepdim=True))
    without = dense(*mean_norm(edges, None, 7, self_loops=0, dtype=torch.float64), 7)
    torch.testing.assert_close(without.sum(1), torch.tensor([1.0, 1, 1, 1, 1, 1, 0]).double())


def test_a_loop_of_its_own_keeps_its_weight():
    edges, weights = torch.tensor([[0, 0, 1], [0, 1, 0]]), torch.tensor([3.0, 1, 1])
    s = dense(*mean_norm(edges, weights, 2), 2)
    torch.testing.assert_close(s, torch.tensor([[0.75, 0.25], [0.5, 0.5]]))


@pytest.mark.parametrize(("norm", "make"), [("symmetric", gcn_norm), ("mean", mean_norm)])
def test_many_steps_reach_the_stationary_state_of_every_component(norm, make):
    edges = two_parts()
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    far = hop_stack(x, *make(edges, None, 7, dtype=torch.float64), 500)[-1]
    torch.testing.assert_close(stationary(x, edges, norm), far, atol=1e-9, rtol=0)
    assert components(edges, 7).tolist() == [0, 0, 0, 0, 1, 1, 2]


def test_personalised_pagerank_equals_the_peer_and_its_limit():
    graph = ring_graph()
    x = graph.x.double()
    ours, theirs = APPNP(4, 0.2)(x, graph.edge_index), PeerAPPNP(4, 0.2)(x, graph.edge_index)
    torch.testing.assert_close(ours, theirs)
    s = dense(*gcn_norm(graph.edge_index, None, 12, dtype=torch.float64), 12)
    limit = 0.2 * torch.linalg.solve(torch.eye(12).double() - 0.8 * s, x)
    torch.testing.assert_close(APPNP(200, 0.2)(x, graph.edge_index), limit)
    for hops, alpha in ((-1, 0.1), (2, 1.5)):
        with value_error("hops must be 0 or more and alpha between 0 and 1"):
            APPNP(hops, alpha)


def test_hops_equal_steps_of_autograd():
    graph = ring_graph()
    norm = gcn_norm(graph.edge_index, None, 12)
    torch.testing.assert_close(
        hop_stack(graph.x, *norm, 2)[-1], propagate(propagate(graph.x, *norm), *norm), atol=1e-6, rtol=0
    )
