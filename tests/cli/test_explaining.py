"""`explain` in all its forms, as a person calls it."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.untrained import untrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, two pictures, a tree of the digits, and nothing else."""
    folder = tmp_path_factory.mktemp("explain")
    untrained("cifar_resnet20").save(folder / "net")
    for name, seed in (("a", 0), ("b", 1)):
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "tree.csv").write_text("".join(f"{k},{'small' if k < 5 else 'large'}\n" for k in range(10)))
    return folder


def told(command, folder, *words):
    """The JSON of a call that works; its picture is there."""
    code, out, err = command("explain", f"{folder}/net", *words, "--out", f"{folder}/out", "--json")
    assert code == 0, err
    result = json.loads(out)
    with Image.open(result["picture"]) as drawn:
        assert drawn.format == "PNG"
    return result


def test_a_picture_beside_another(command, folder):
    result = told(command, folder, f"{folder}/a.png", "--beside", f"{folder}/b.png")
    assert -1 <= result["cosine"] <= 1 and result["picture"].endswith("a-b.png")


def test_a_picture_and_its_neighbours(command, folder):
    code, _, err = command("embed", "digits", "--with", f"{folder}/net", "--store", f"{folder}/store")
    assert code == 0, err
    result = told(command, folder, f"{folder}/a.png", "--memory", f"{folder}/store", "-k", "4")
    assert len(result["neighbours"]) == 4 and sum(result["votes"].values()) == pytest.approx(1)


def test_parts_beside_the_patches_that_they_resemble(command, folder):
    words = ("digits", "prototype_parts/cifar_resnet20:per_class=2,width=8,last_epochs=1", "--budget", "3steps")
    code, out, err = command("train", *words, "--out", f"{folder}/parts", "--json")
    assert code == 0, err
    checkpoint = next((folder / "parts").glob("*.safetensors"))
    code, out, err = command("explain", str(checkpoint), f"{folder}/a.png", "--out", f"{folder}/out", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert len(result["evidence"]) == 4 and all(one["source"] >= 0 for one in result["evidence"])
    contributions = [one["contribution"] for one in result["evidence"]]
    assert contributions == sorted(contributions, reverse=True)
    with Image.open(result["picture"]) as drawn:
        assert drawn.height > 800


def test_mistakes_in_a_tree(command, folder):
    result = told(command, folder, "digits", "--tree", f"{folder}/tree.csv")
    assert set(result["shares"]) == {"small", "large", "all"} and 1 <= result["severity"] <= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("a.png", "--beside", "b.png", "--memory", "store"),
            "--beside and --memory ask for different pictures; give one of them.",
        ),
        (
            ("a.png", "--where", "x = 1"),
            "--images and --where belong to the neighbours in a memory; give --memory, too.",
        ),
        (("digits",), "what stands above the classes of digits is not known; say it in a csv"),
        (("none.png",), "none.png cannot be read as a picture"),
    ],
)
def test_mistakes_of_the_caller_are_one_sentence(command, folder, words, message):
    code, _, err = command("explain", f"{folder}/net", *words)
    assert code == 2 and message in err and err.count("\n") == 1
