import torch

from tests.typecheck import value_error
from ziggurat.graphs.hypergraphs.inductive_split import inductive_split
from ziggurat.testing import ring_graph


def test_nodes_that_are_away_leave_nothing_behind():
    graph = ring_graph(40)
    graph.hyperedge_index = torch.stack([torch.arange(40), torch.arange(40) // 4])
    seen, away = inductive_split(graph, 0.5, 1)
    assert len(away) == 5 and graph.test_mask[away].all() and seen.num_nodes == 35
    kept = torch.ones(40, dtype=torch.bool).index_fill(0, away, False).nonzero().flatten()
    assert torch.equal(seen.x, graph.x[kept]) and torch.equal(seen.val_mask, graph.val_mask[kept])
    assert int(seen.test_mask.sum()) == int(graph.test_mask.sum()) - 5
    node, edge = seen.hyperedge_index
    same = kept[node] // 4
    assert all(len(set(same[edge == e].tolist())) == 1 for e in range(int(edge.max()) + 1))
    assert torch.equal(torch.unique(node), torch.arange(35))


def test_mistakes_are_named():
    with value_error("share must be"):
        inductive_split(ring_graph(40), 1.0)
