import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.tree_match import tree_match


def test_the_label_is_the_bit_of_the_leaf_with_the_root_s_key():
    trees = tree_match(3, 50, seed=1)
    assert trees.x.shape == (50, 15, 12) and trees.edge_index.shape == (2, 14)
    assert sorted(trees.edge_index[1].bincount().tolist()) == [2] * 7
    keys, values = trees.x[..., :9].argmax(2), trees.x[..., 9:].argmax(2)
    for b in range(50):
        leaf = 7 + (keys[b, 7:] == keys[b, 0]).nonzero().item()
        assert values[b, leaf] - 1 == trees.labels[b]
    assert not keys[:, 1:7].any() and not values[:, :7].any() and 0 < trees.labels.sum() < 50
    assert torch.equal(trees.x, tree_match(3, 50, seed=1).x) and not torch.equal(trees.x, tree_match(3, 50).x)
    with value_error("depth and count must be"):
        tree_match(0, 5)
