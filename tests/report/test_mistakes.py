import pytest
import torch
from PIL import Image

from tests.typecheck import value_error
from tests.untrained import untrained
from ziggurat.data.taxonomies import CIFAR10, label_tree
from ziggurat.report.mistakes import draw_mistakes, explain_mistakes, places
from ziggurat.workflows.training import answers, prepare

CLASSES = tuple(CIFAR10)
TREE = label_tree(list(CIFAR10.values()), CLASSES)


def test_each_mistake_falls_on_the_lowest_node_above_both_classes(tmp_path):
    pairs = [("cat", "dog"), ("dog", "cat"), ("cat", "bird"), ("cat", "ship"), ("ship", "ship")]
    labels, said = (torch.tensor([CLASSES.index(pair[i]) for pair in pairs]) for i in (0, 1))
    found = draw_mistakes(labels, said, TREE, "a network on pictures", tmp_path / "mistakes.png")
    assert found.accuracy == pytest.approx(1 / 5)
    assert {name: share for name, share in found.shares.items() if share} == {"pet": 0.5, "animal": 0.25, "all": 0.25}
    assert found.severity == pytest.approx((1 + 1 + 2 + 3) / 4)
    with Image.open(tmp_path / "mistakes.png") as drawn:
        assert drawn.width > 800


def test_without_a_mistake_all_shares_are_zero(tmp_path):
    labels = torch.arange(10)
    found = draw_mistakes(labels, labels, TREE, "all right", tmp_path / "mistakes.png")
    assert (found.accuracy, found.severity, set(found.shares.values())) == (1.0, 0.0, {0.0})


def test_branches_do_not_cross():
    rows = places(TREE)
    leaves = [rows[v] for v in TREE.leaves.tolist()]
    assert sorted(leaves) == list(range(10))
    for v in range(len(TREE)):
        below = sorted(leaves[k] for k in range(10) if TREE.ancestors[k, v])
        assert below == list(range(int(below[0]), int(below[0]) + len(below))), (
            f"what is below {TREE.names[v]} stands together"
        )


def test_a_checkpoint_is_drawn_by_a_tree_of_ones_own(tmp_path):
    artifact, tree = untrained("mlp"), tmp_path / "tree.csv"
    tree.write_text("".join(f"{k},{'small' if k < 5 else 'large'}\n" for k in range(10)))
    path, found = explain_mistakes(artifact, "digits", tree, tmp_path)
    labels, said = answers(artifact, prepare("digits"))
    far = ((said < 5) != (labels < 5)).sum() / (said != labels).sum()
    assert found.shares["all"] == pytest.approx(float(far)) and sum(found.shares.values()) == pytest.approx(1)
    assert path == tmp_path / "digits-mistakes.png" and path.stat().st_size > 5_000


def test_what_has_no_tree_says_how_to_give_one(tmp_path):
    with value_error("what stands above the classes of digits is not known; say it in a csv"):
        explain_mistakes(untrained("mlp"), "digits", None, tmp_path)
