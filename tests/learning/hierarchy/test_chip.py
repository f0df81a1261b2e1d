import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.data.label_tree import LabelTree
from ziggurat.learning.hierarchy.chip import (
    CHIP,
    HierarchicalContrastiveLoss,
    HierarchicalPrototypeClassifier,
    LevelMarginLoss,
)
from ziggurat.nn.losses.level_supcon import level_positives
from ziggurat.nn.losses.supcon import SupConLoss
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import cifar_resnet

LABELS = torch.tensor(
    [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 0, 1], [0, 1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 4]]
)
# 0 root;  1 animal, 2 thing;  3 pet, 4 bird, 5 road;  6 cat, 7 dog, 8 owl, 9 car, 10 truck
PARENT = torch.tensor([-1, 0, 0, 1, 1, 2, 3, 3, 4, 5, 5])
CAT, DOG, OWL, CAR, TRUCK = range(5)


def rows(seed=0):
    return torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.fact("chip", 1)
def test_leaves_alone_are_the_flat_loss():
    flat = SupConLoss(0.1)(rows(), LABELS[:, 2])
    torch.testing.assert_close(HierarchicalContrastiveLoss((0, 0, 1))(rows(), LABELS), flat, atol=1e-6, rtol=0)


def test_levels_are_weighted():
    by_level = HierarchicalContrastiveLoss().by_level(rows(), LABELS)
    for level in range(3):
        torch.testing.assert_close(by_level[level], SupConLoss(0.1)(rows(), LABELS[:, level]))
    torch.testing.assert_close(HierarchicalContrastiveLoss()(rows(), LABELS), by_level.mean())
    weighted = HierarchicalContrastiveLoss((0.5, 0.3, 0.2))(rows(), LABELS)
    torch.testing.assert_close(weighted, 0.5 * by_level[0] + 0.3 * by_level[1] + 0.2 * by_level[2])


@pytest.mark.fact("chip", 2)
def test_one_leaf_a_node_makes_all_levels_equal():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 3])[:, None].expand(9, 3)
    by_level = HierarchicalContrastiveLoss().by_level(rows(), labels)
    torch.testing.assert_close(by_level, by_level[:1].expand(3))


@pytest.mark.fact("chip", 3)
def test_positives_are_nested():
    general, middle, leaf = level_positives(LABELS)
    assert not (leaf & ~middle).any() and not (middle & ~general).any()
    assert int(leaf.sum()) < int(middle.sum()) < int(general.sum())


def clusters(seed=0, spread=0.1):
    """Vectors of five classes whose means follow the tree, and the classes."""
    rng = np.random.default_rng(seed)
    axes = np.eye(8)
    ways = {CAT: (0, 2, 5), DOG: (0, 2, 6), OWL: (0, 3, 3), CAR: (1, 4, 4), TRUCK: (1, 4, 7)}
    means = np.stack([2 * axes[a] + axes[b] + 0.7 * axes[c] for a, b, c in ways.values()])
    y = np.repeat(np.arange(5), 12)
    return means[y] + spread * rng.normal(size=(60, 8)), y


@pytest.mark.fact("chip", 4)
@pytest.mark.parametrize(("stop", "depth"), [(0.0, 3), (1.001, 0)])
def test_how_far_it_goes(stop, depth):
    tree = LabelTree(PARENT)
    X, y = clusters(spread=0.5)
    found = HierarchicalPrototypeClassifier(tree).fit(X, y).descend(X, stop)
    assert (tree.depth[torch.from_numpy(found.node)] == depth).all()
    assert (found.path[:, depth] == found.node).all() and (found.path[:, depth + 1 :] == -1).all()
    assert stop == 0 or (found.confidence == 1).all()


def test_descent_against_a_loop():
    tree = LabelTree(PARENT)
    X, y = clusters(spread=0.8)
    classifier = HierarchicalPrototypeClassifier(tree, stop=0.6, temperature=0.2).fit(X, y)
    found = classifier.descend(X)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([unit[tree.ancestors[y, node].numpy()].mean(0) for node in range(len(tree))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for row in range(len(X)):
        node, sure = 0, 1.0
        while children := (node == PARENT).nonzero().flatten().tolist():
            p = np.exp([unit[row] @ means[c] / 0.2 for c in children])
            p /= p.sum()
            if p.max() < 0.6:
                break
            node, sure = children[int(p.argmax())], sure * p.max()
        assert found.node[row] == node and found.confidence[row] == pytest.approx(sure)


def test_an_unseen_class_ends_above_it_and_can_be_added():
    tree = LabelTree(PARENT)
    X, y = clusters()
    seen = y != TRUCK
    classifier = HierarchicalPrototypeClassifier(tree, stop=0.0).fit(X[seen], y[seen])
    assert set(classifier.predict(X[~seen])) == {
        9
    }  # the only road vehicle it has seen; a truck's own prototype is not there
    assert (classifier.descend(X[~seen]).path[:, 2] == 5).all()
    new = classifier.add_leaf(X[~seen][:3])
    assert new == 11 and int(classifier.tree_.parent[new]) == 5 and int(classifier.tree_.leaves[-1]) == new
    assert (classifier.predict(X[~seen][3:]) == new).all() and len(tree) == 11


def test_shots_count_in_the_prototypes_above():
    X, y = clusters()
    classifier = HierarchicalPrototypeClassifier(LabelTree(PARENT)).fit(X[y != TRUCK], y[y != TRUCK])
    classifier.add_leaf(X[y == TRUCK][:4], stop=0)
    road = np.concatenate([X[y == CAR], X[y == TRUCK][:4]])
    np.testing.assert_allclose(classifier.sums_[5], (road / np.linalg.norm(road, axis=1, keepdims=True)).sum(0))
    assert classifier.counts_[5] == 16 and classifier.counts_[0] == 52


@pytest.mark.fact("chip", 5)
@pytest.mark.parametrize("loss", [HierarchicalContrastiveLoss((0.5, 0.3, 0.2)), LevelMarginLoss()])
def test_order_and_rotation_change_nothing(loss):
    order = torch.randperm(9)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    torch.testing.assert_close(loss(rows()[order], LABELS[order]), loss(rows(), LABELS))
    torch.testing.assert_close(loss(rows() @ rotation, LABELS), loss(rows(), LABELS))


def test_margin_form_pair_by_pair():
    z, total, pairs = rows() / rows().norm(dim=1, keepdim=True), 0.0, 0
    for i in range(9):
        for j in range(i + 1, 9):
            shared = int((LABELS[i] == LABELS[j]).sum())
            d = float((z[i] - z[j]).norm())
            total += d**2 if shared == 3 else max(0, 0.25 * (3 - shared) - d) ** 2
            pairs += 1
    assert float(LevelMarginLoss()(rows(), LABELS)) == pytest.approx(total / pairs, abs=1e-9)


def test_learner_looks_up_the_levels_of_its_classes():
    levels = [[0, 0, 0], [0, 0, 1], [1, 1, 2], [1, 2, 3]]
    learner = CHIP(cifar_resnet(8, 4, widths=(4, 4, 8)), levels, width=6).eval()
    batch = next(iter(feed(example_images(16), learner.feed, 8)))
    z = learner.represent(*batch.inputs)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(8))
    want = HierarchicalContrastiveLoss()(z, torch.tensor(levels)[batch.target])
    torch.testing.assert_close(learner.losses(batch)["levels"], want)
    assert learner.feed.groups == (0, 0, 1, 2)


def test_mistakes_are_named():
    X, y = clusters()
    with value_error("3 levels, and there are 2 weights"):
        HierarchicalContrastiveLoss((1, 1))(rows(), LABELS)
    with value_error("one of them above 0"):
        HierarchicalContrastiveLoss((0, 0, 0))
    with value_error("temperature"):
        HierarchicalContrastiveLoss(temperature=0)
    with value_error("step"):
        LevelMarginLoss(0)
    with value_error("another one of its class"):
        CHIP(cifar_resnet(8), [[0], [1]], samples=1)
    with value_error("classes 0 … 4"):
        HierarchicalPrototypeClassifier(LabelTree(PARENT)).fit(X, y + 1)
    with value_error("same features"):
        HierarchicalPrototypeClassifier(LabelTree(PARENT)).fit(X, y).predict(X[:, :3])
