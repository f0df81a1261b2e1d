"""Trees of labels, and how bad mistakes are by them."""

import networkx as nx
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.datasets import Taxonomy
from ziggurat.data.label_tree import LabelTree
from ziggurat.metrics.hierarchy import consistency, hierarchical_distance_at, hierarchical_scores, mistake_severity

#            0 root;  1 animal, 2 thing;  3 dog, 4 cat (animals), 5 car (thing), 6 poodle (dog)
PARENT = torch.tensor([-1, 0, 0, 1, 1, 2, 3])


def tree():
    return LabelTree(PARENT)


def test_leaves_depths_and_heights():
    t = tree()
    assert t.leaves.tolist() == [4, 5, 6] and t.root == 0 and len(t) == 7
    assert t.depth.tolist() == [0, 1, 1, 2, 2, 2, 3] and t.height.tolist() == [3, 2, 1, 1, 0, 0, 0]


def test_common_ancestors_and_distances_are_those_of_networkx():
    t = tree()
    graph = nx.DiGraph([(int(p), c) for c, p in enumerate(PARENT) if p >= 0])
    plain = graph.to_undirected()
    for i, a in enumerate(t.leaves.tolist()):
        for j, b in enumerate(t.leaves.tolist()):
            assert int(t.common[i, j]) == nx.lowest_common_ancestor(graph, a, b)
            assert int(t.distance[i, j]) == nx.shortest_path_length(plain, a, b)


def test_levels_group_the_classes():
    assert tree().level(0).tolist() == [0, 0, 0]
    assert tree().level(1).tolist() == [0, 1, 0]  # cat, car, poodle: animal, thing, animal
    assert tree().level(2).tolist() == [1, 2, 0]  # cat and car are nearer to the root than a poodle


def test_scores_by_hand():
    t = tree()  # classes 0 cat, 1 car, 2 poodle
    predicted, truth = torch.tensor([0, 2, 1]), torch.tensor([0, 0, 2])
    # shared {animal, cat} of 2 and 2; {animal} of {animal, dog, poodle} and {animal, cat}; nothing of {thing, car} and 3
    scores = hierarchical_scores(predicted, truth, t)
    assert scores.precision == pytest.approx(3 / 7) and scores.recall == pytest.approx(3 / 7)
    assert mistake_severity(predicted, truth, t) == pytest.approx((2 + 3) / 2)
    assert mistake_severity(truth, truth, t) == 0
    assert hierarchical_distance_at(torch.tensor([[0, 2], [2, 1]]), torch.tensor([0, 2]), t) == pytest.approx(
        (0 + 2 + 0 + 3) / 4
    )


def test_consistency_is_on_one_way():
    fine, coarse = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 1, 0])
    assert consistency([coarse, fine], [torch.tensor([0, 0, 1])]) == 0.75
    with value_error("2 levels need 1 maps"):
        consistency([coarse, fine], [])


def test_trees_from_groups_and_from_a_taxonomy():
    t = LabelTree.from_groups([[0, 2], [1]])
    assert t.level(1).tolist() == [0, 1, 0] and t.distance.tolist() == [[0, 4, 2], [4, 0, 4], [2, 4, 0]]
    two_tops = Taxonomy(("a", "b", "a1", "b1"), torch.tensor([[2, 3], [0, 1]]), "two")
    made = LabelTree.from_taxonomy(two_tops)
    assert made.names[-1] == "everything" and made.leaves.tolist() == [2, 3] and made.height[made.root] == 2
    assert made.common[0, 1] == made.root


def test_mistakes_are_named():
    with value_error("one root"):
        LabelTree(torch.tensor([-1, -1, 0]))
    with value_error("in a circle"):
        LabelTree(torch.tensor([-1, 2, 1]))
    with value_error("in one only"):
        LabelTree.from_groups([[0, 1], [1]])
    with value_error("classes must be nodes"):
        LabelTree(PARENT, torch.tensor([9]))
