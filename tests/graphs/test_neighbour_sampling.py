"""Neighbourhoods drawn for mini-batches of a graph."""

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import GraphSAGE

from tests.typecheck import value_error
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.neighbour_sampling import Neighbourhoods, Nodes, neighbour_loader
from ziggurat.learning.supervised import Supervised
from ziggurat.nn.fitting import fit


@pytest.fixture
def graph():
    g = torch.Generator().manual_seed(0)
    edges = torch.randint(60, (2, 400), generator=g)
    mask = torch.arange(60) % 3 == 0
    y = torch.randint(3, (60,), generator=g)
    x = torch.randn(60, 8, generator=g) + torch.nn.functional.one_hot(y, 8)
    return Data(x=x, edge_index=edges, y=y, edge_weight=torch.rand(400, generator=g), train_mask=mask)


def test_all_neighbours_give_the_result_of_the_whole_graph(graph):
    torch.manual_seed(0)
    network = GraphSAGE(8, 16, 2, 3).eval()
    whole = network(graph.x, graph.edge_index)
    seen = []
    for batch in neighbour_loader(graph, (-1, -1), batch_size=7):
        torch.testing.assert_close(batch.pick(network(*batch.inputs[:2])), whole[batch.index])
        torch.testing.assert_close(batch.target, graph.y[batch.index])
        seen += batch.index.tolist()
    assert sorted(seen) == graph.train_mask.nonzero().flatten().tolist()


def test_degrees_of_both_ends_need_one_hop_more(graph):
    torch.manual_seed(0)
    network, whole = (
        GCN(8, 3).eval(),
        Data(x=graph.x, edge_index=graph.edge_index, y=graph.y, train_mask=graph.train_mask),
    )
    expected = network(whole.x, whole.edge_index)
    for hops, equal in ((2, False), (3, True)):
        batch = next(iter(neighbour_loader(whole, (-1,) * hops, batch_size=2)))
        assert torch.allclose(batch.pick(network(*batch.inputs)), expected[batch.index], atol=1e-5) is equal


def test_a_hop_draws_different_edges_evenly_and_their_weights_with_them(graph):
    nodes, kind = Nodes(graph), Neighbourhoods((3,))
    root = int(nodes.nodes[0])
    incoming = graph.edge_index[1].eq(root).nonzero().flatten()
    counts, draws = torch.zeros(len(incoming)), 2000
    for i in range(draws):
        batch = kind.batch(nodes, torch.tensor([0]), torch.Generator().manual_seed(i))
        x, edges, weight = batch.inputs
        assert edges.shape[1] == 3 and (edges[1] == 0).all() and torch.equal(x[0], graph.x[root])
        picked = [int((graph.edge_weight[incoming] == w).nonzero()) for w in weight]
        assert len(set(picked)) == 3
        counts[picked] += 1
    expected = draws * 3 / len(incoming)
    assert ((counts - expected).abs() < 5 * expected**0.5).all(), counts


def test_the_same_seed_draws_the_same_and_a_network_learns_from_it(graph):
    one, two = (list(neighbour_loader(graph, (4, 4), 8, seed=3)) for _ in range(2))
    assert all(torch.equal(a.inputs[1], b.inputs[1]) for a, b in zip(one, two, strict=True))
    torch.manual_seed(0)
    del graph.edge_weight
    network = GraphSAGE(8, 32, 2, 3)
    learner = fit(Supervised(network, lr=0.05), neighbour_loader(graph, (5, 5), 10), epochs=40)
    right = (learner.predict(graph.x, graph.edge_index).argmax(1) == graph.y)[graph.train_mask]
    assert right.float().mean() > 0.9


def test_isolated_nodes_are_batches_of_their_own_and_mistakes_are_named(graph):
    alone = Data(
        x=torch.ones(3, 2),
        edge_index=torch.zeros(2, 0, dtype=torch.long),
        y=torch.arange(3),
        train_mask=torch.ones(3).bool(),
    )
    (batch,) = neighbour_loader(alone, (5,), 8)
    assert batch.inputs[0].shape == (3, 2) and batch.inputs[1].shape == (2, 0)
    with value_error("no val_mask"):
        Nodes(graph, "val_mask")
    with value_error("one or more positive numbers"):
        Neighbourhoods((0,))
    graph.train_mask[:] = False
    with value_error("nothing to train on"):
        Nodes(graph)
