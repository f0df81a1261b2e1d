"""Labels of all levels, and batches with siblings."""

import pytest
import torch

from tests.data import load_or_skip
from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.data.label_levels import as_levels, label_levels, path_ids
from ziggurat.data.label_tree import LabelTree
from ziggurat.data.readers import CIFAR10 as CIFAR10_NAMES
from ziggurat.data.readers import GARMENTS
from ziggurat.data.subtree_feed import PerSubtree
from ziggurat.data.taxonomies import CIFAR10, FASHION_MNIST, numbered
from ziggurat.testing.examples import example_images


def test_levels_of_a_tree():
    #                        0 root;  1 animal, 2 thing;  3 dog, 4 cat, 5 car, 6 poodle (dog)
    tree = LabelTree(torch.tensor([-1, 0, 0, 1, 1, 2, 3]))  # classes cat, car, poodle
    levels = label_levels(tree)
    assert levels[:, 0].tolist() == [0, 1, 0]  # animal, thing, animal
    assert levels[:, 1].tolist() == [1, 2, 0]  # dog stands for the poodle, and comes first among the nodes
    assert levels[:, 2].tolist() == [0, 1, 2]  # cat and car are nearer to the root and stand for themselves


def test_a_path_holds_all_levels_above():
    labels = torch.tensor([[0, 0], [1, 0], [1, 0], [1, 1]])  # the finer label 0 stands under both
    ids = path_ids(labels)
    assert ids[:, 0].tolist() == [0, 1, 1, 1] and ids[:, 1].tolist() == [0, 1, 1, 2]


def test_levels_are_checked():
    assert as_levels([[0, 0], [0, 1]]).dtype == torch.int64
    with value_error("a column for each level"):
        as_levels([0, 1])
    with value_error("tell every class apart"):
        as_levels([[0, 1], [0, 1]])


@pytest.mark.parametrize("seed", range(3))
def test_classes_come_with_siblings(seed):
    data, groups = example_images(72, classes=9), (0, 0, 0, 1, 1, 1, 2, 2, 2)
    loader = feed(data, PerSubtree(2, groups=groups), 8, seed)
    batches = list(loader)
    assert len(batches) == len(loader) == 2
    for batch in batches:
        classes, counts = batch.target.unique(return_counts=True)
        assert len(classes) == 4 and set(counts.tolist()) == {2}
        _, together = torch.tensor(groups)[classes].unique(return_counts=True)
        assert together.tolist() == [2, 2]


def test_every_class_is_drawn_as_often():
    data, g = example_images(72, classes=9), torch.Generator().manual_seed(0)
    kind, drawn = PerSubtree(2, groups=(0, 0, 0, 1, 1, 1, 2, 2, 2)), torch.zeros(9)
    for _ in range(150):
        for index in kind.order(data, 8, g, None):
            drawn += torch.bincount(data.labels[index], minlength=9)
    assert (drawn / drawn.mean() - 1).abs().max() < 0.25


def test_every_class_needs_a_group():
    with value_error("have a group"):
        list(feed(example_images(8, classes=4), PerSubtree(2, groups=(0, 0)), 4, 0))


def test_tiny_imagenet_has_five_classes_a_group():
    data = load_or_skip("tiny_imagenet_60", "train")
    assert data.images.shape == (4800, 3, 64, 64) and len(data.classes) == 60
    assert {data.groups.count(group) for group in data.groups} == {5} and len(set(data.groups)) == 12
    assert torch.bincount(data.labels).tolist() == [80] * 60
    assert data.groups[data.classes.index("tabby")] == "feline"
    assert torch.bincount(load_or_skip("tiny_imagenet_60", "test").labels).tolist() == [20] * 60


@pytest.mark.parametrize(
    ("names", "table", "sizes"), [(GARMENTS, FASHION_MNIST, [2, 6, 10]), (CIFAR10_NAMES, CIFAR10, [2, 7, 10])]
)
def test_taxonomies_of_known_sets(names, table, sizes):
    levels = numbered([table[name] for name in names])
    assert [len(column.unique()) for column in levels.T] == sizes and set(table) == set(names)
    assert levels[:, 2].tolist() == list(range(10))
    assert torch.equal(path_ids(levels)[:, 1].unique(), levels[:, 1].unique())  # no name stands under two others
