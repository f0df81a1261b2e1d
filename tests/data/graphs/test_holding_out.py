import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.holding_out import hold_out, hold_out_by_class
from ziggurat.testing import ring_graph


def test_validation_comes_from_the_test_part():
    graph = ring_graph(60)
    for held in (hold_out(graph, 6, 3), hold_out_by_class(graph, 2, 3)):
        assert int(held.val_mask.sum()) == 6
        assert torch.equal(held.val_mask | held.test_mask, graph.test_mask)
        assert not (held.val_mask & held.test_mask).any()
    assert torch.equal(held.y[held.val_mask].bincount(), torch.tensor([2, 2, 2]))
    assert int(graph.test_mask.sum()) == 15, "the graph itself is left as it was"
    assert torch.equal(hold_out(graph, 6, 3).val_mask, hold_out(graph, 6, 3).val_mask)
    assert not torch.equal(hold_out(graph, 6, 3).val_mask, hold_out(graph, 6, 4).val_mask)


def test_mistakes_are_named():
    with value_error("between 1 and 14"):
        hold_out(ring_graph(60), 15)
    with value_error("a class has 5 test nodes"):
        hold_out_by_class(ring_graph(60), 5)
