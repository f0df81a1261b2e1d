import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.thinning import commonest_features, fewer_edges, fewer_labels
from ziggurat.testing.examples import ring_graph


def test_labels_are_drawn_by_class_from_the_old_ones():
    graph = ring_graph()
    few = fewer_labels(graph, 1)
    assert few.y[few.train_mask].tolist().count(0) == 1 and int(few.train_mask.sum()) == 3
    assert not (few.train_mask & ~graph.train_mask).any() and int(graph.train_mask.sum()) == 6
    draws = {tuple(fewer_labels(graph, 1, seed).train_mask.tolist()) for seed in range(8)}
    assert len(draws) > 1 and torch.equal(few.train_mask, fewer_labels(graph, 1).train_mask)
    with value_error("2 there are"):
        fewer_labels(graph, 3)


def test_both_directions_of_an_edge_go_together():
    graph = ring_graph()
    half = fewer_edges(graph, 0.5).edge_index
    assert half.shape[1] == 2 * round(graph.edge_index.shape[1] / 4)
    assert {tuple(e) for e in half.T.tolist()} == {tuple(e) for e in half.flip(0).T.tolist()}
    assert torch.equal(fewer_edges(graph, 1.0).edge_index, graph.edge_index)
    assert fewer_edges(graph, 0.0).edge_index.shape == (2, 0)
    graph.edge_weight = torch.arange(graph.edge_index.shape[1]).float()
    kept = fewer_edges(graph, 0.5)
    assert torch.equal(graph.edge_index[:, kept.edge_weight.long()], kept.edge_index)
    with value_error("share must be"):
        fewer_edges(graph, 1.5)


def test_the_commonest_columns_come_first():
    graph = ring_graph()
    graph.x = torch.tensor([[1.0, 0.0, 3.0]]).expand(12, -1)
    assert commonest_features(graph, 2).x[0].tolist() == [3.0, 1.0]
