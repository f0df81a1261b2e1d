"""Trees over the classes of data sets, from tables and from files."""

import pytest

from tests.typecheck import value_error
from ziggurat.data import load
from ziggurat.data.taxonomies import CIFAR10, label_tree, read_ways, ways_of


def test_classes_are_the_first_nodes_of_the_tree():
    tree = label_tree(list(CIFAR10.values()), list(CIFAR10))
    assert len(tree) == 20 and tree.names[:10] == tuple(CIFAR10) and tree.names[tree.root] == "all"
    assert tree.depth[tree.leaves].tolist() == [3] * 10
    cat, dog, deer, ship = (list(CIFAR10).index(name) for name in ("cat", "dog", "deer", "ship"))
    assert [tree.names[int(tree.common[cat, other])] for other in (dog, deer, ship)] == ["pet", "animal", "all"]


def test_one_name_in_two_branches_is_two_nodes():
    tree = label_tree([("a", "other"), ("b", "other"), ("b",)], ["x", "y", "z"])
    assert tree.names == ("x", "y", "z", "a", "other", "b", "other", "all")
    assert tree.depth[tree.leaves].tolist() == [3, 3, 2]


def test_a_csv_gives_the_names_above_each_class(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text("\ufeffcat, animal, pet\n\nshoe,thing\n", encoding="utf-8")
    assert read_ways(path, ("shoe", "cat")) == [("thing",), ("animal", "pet")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat,animal\n", "has no line for shoe; each class needs one"),
        ("cat,animal\nshoe\n", "names nothing, or an empty name, above shoe"),
        ("cat,animal\nshoe,,x\n", "names nothing, or an empty name, above shoe"),
        ("cat,animal\ncat,pet\nshoe,thing\n", "names a class twice"),
    ],
)
def test_a_bad_csv_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "tree.csv"
    path.write_text(text)
    with value_error(message):
        read_ways(path, ("cat", "shoe"))


def test_a_missing_csv_is_a_sentence(tmp_path):
    with value_error("is no csv that can be read"):
        read_ways(tmp_path / "none.csv", ("cat",))
    with value_error("what stands above the classes of digits is not known"):
        ways_of(load("digits"))
