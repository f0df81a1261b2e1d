import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.hypergraph_generators import random_groups, unanimous_groups


def test_classes_are_those_of_whole_groups():
    data = unanimous_groups(200, 300, seed=3)
    node, edge = data.hyperedge_index
    groups = [node[edge == e] for e in range(300)]
    assert {len(group) for group in groups} == {3, 4, 5} and all(len(set(g.tolist())) == len(g) for g in groups)
    want = {v for group in groups if data.bit[group].all() for v in group.tolist()}
    assert set(data.y.nonzero().flatten().tolist()) == want
    assert torch.equal((data.train_mask.int() + data.val_mask.int() + data.test_mask.int()), torch.ones(200).int())
    assert torch.equal(unanimous_groups(200, 300, seed=3).x, data.x)


def test_half_are_positive_and_the_bit_can_be_seen():
    data = unanimous_groups()
    assert 0.4 < data.y.float().mean() < 0.6
    direction = data.x[data.bit].mean(0) - data.x[~data.bit].mean(0)
    assert (((data.x @ direction) > 0) == data.bit).float().mean() > 0.97


def test_random_groups():
    node, edge = random_groups(50, 400, 2, 6, seed=1)
    sizes = edge.bincount()
    assert len(sizes) == 400 and sizes.min() == 2 and sizes.max() == 6 and set(node.tolist()) == set(range(50))


def test_mistakes_are_named():
    with value_error("5 to 2"):
        random_groups(10, 3, 5, 2)
    with value_error("share between 0 and 1"):
        unanimous_groups(share=1.0)
