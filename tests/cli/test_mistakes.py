"""The mistakes that people make: one clear sentence on stderr, exit code 2, nothing half-written."""

import subprocess

import numpy as np
import pytest
from PIL import Image


def pictures(folder, classes=("cat", "dog"), each=8, size=16):
    rng = np.random.default_rng(0)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 120, (size, size, 3)) + 100 * k
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.jpg")
    return folder


def sentence(result, *words):
    code, out, err = result
    lines = [line for line in err.strip().splitlines() if line]
    assert code == 2, (code, err)
    assert out == "" and "Traceback" not in err
    for word in words:
        assert word in lines[-1], err
    assert len(lines[-1]) < 400


def test_data_that_is_not_there(command):
    sentence(command("compare", "nowhere/", "resnet18"), "nowhere/", "neither a data set known by name nor a file")


def test_an_empty_folder(command, tmp_path):
    sentence(command("compare", str(tmp_path), "resnet18"), "no")


def test_one_class_only(command, tmp_path):
    folder = pictures(tmp_path / "data", ("cat",))
    sentence(command("compare", str(folder), "resnet18"), "fewer than two classes", "folder of its own")


def test_an_unknown_method_gets_its_three_nearest(command):
    sentence(command("compare", "digits", "resnt18"), "resnt18", "resnet18")


@pytest.mark.parametrize("budget", ["-5s", "soon", "0steps", "10", "5 bananas", "nans"])
def test_nonsensical_budgets(command, budget):
    sentence(command("compare", "digits", "mlp", "--budget", budget), budget)


def test_a_method_that_does_not_fit(command):
    sentence(command("compare", "digits", "sgc"), "sgc")
    sentence(command("train", "digits", "gcn", "--budget", "2steps"), "gcn")


@pytest.mark.parametrize("words", [("evaluate", "lost.safetensors", "digits"), ("explain", "lost.safetensors", "x.png"),
                                   ("export", "lost.safetensors"), ("search", "lost_store", "x.png")])  # fmt: skip
def test_a_checkpoint_or_store_that_is_missing(command, words, tmp_path):
    verb, lost, *rest = words
    sentence(command(verb, str(tmp_path / lost), *rest), "lost")
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_a_damaged_picture_among_good_ones_is_counted(command, tmp_path):
    folder = pictures(tmp_path / "data")
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff this is no picture")
    code, _, err = command("train", str(folder), "mlp", "--budget", "3steps", "--out", str(tmp_path / "out"))
    assert code == 0, err
    assert "broken.jpg" in err and "1" in err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("machine: a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(command, small_disk):
    result = command("train", "digits", "cifar_resnet20", "--budget", "2steps", "--out", str(small_disk))
    sentence(result, "space")
    assert not list(small_disk.glob("*.safetensors")), "no half-written checkpoint"
    assert not [p for p in small_disk.iterdir() if p.name.startswith(".")], "no temporary file is left"
