"""The mistakes that people make, each in a process of its own: one clear sentence on stderr, exit code 2, nothing half-written."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FORKSERVER = multiprocessing.get_context(
    "forkserver"
)  # a fresh process for each command, without importing torch again


def in_child(words, folder, said, often):
    """What a child does: the command, with its output in files."""
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(folder)
    from ziggurat.cli import main
    from ziggurat.workflows import training

    if often:
        keep = training.Keep
        training.Keep = lambda path, seconds: keep(path, 0)
    sys.argv = ["ziggurat", *words]
    main.run()


@pytest.fixture
def here(tmp_path):
    """The folder in which the commands run."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def command(tmp_path, here):
    """The command in a process of its own: exit code, stdout, stderr."""
    FORKSERVER.set_forkserver_preload(["ziggurat.cli.main", "ziggurat.workflows.training"])

    def call(*words, often=False):
        child = FORKSERVER.Process(target=in_child, args=(words, here, tmp_path, often))
        child.start()
        child.join(200)
        return child.exitcode, (tmp_path / "out").read_text(), (tmp_path / "err").read_text()

    return call


@pytest.fixture
def mistake(command, here):
    """A command that must end in one sentence with these words, and leave every file as it was."""

    def call(words, *texts):
        before = sorted(here.rglob("*"))
        code, out, err = command(*words)
        assert (code, out) == (2, ""), err
        assert err.startswith("ziggurat: ") and err.count("\n") == 1 and len(err) < 400, err
        assert all(text in err for text in texts), err
        assert sorted(here.rglob("*")) == before, "something was written"

    return call


def pictures(folder, classes=("cat", "dog"), each=8, size=16):
    rng = np.random.default_rng(0)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 120, (size, size, 3)) + 100 * k
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A trained perceptron."""
    from ziggurat.workflows.budget import Budget
    from ziggurat.workflows.methods import parse_method
    from ziggurat.workflows.training import prepare, train_method

    _, artifact = train_method(parse_method("mlp"), prepare("digits"), Budget(2, "steps"), 0)
    return str(artifact.save(tmp_path_factory.mktemp("made") / "mlp"))


def test_data_that_is_not_there(mistake):
    mistake(["compare", "nowhere/", "resnet18"], "nowhere/ is neither a data set known by name nor a file or folder")
    mistake(["train", "digit", "mlp"], "Did you mean digits")


def test_an_empty_folder(mistake, here):
    (here / "empty").mkdir()
    mistake(["compare", "empty", "resnet18"], "empty has no pictures", "one folder for each class")
    mistake(["search", "empty", "1"], "there is no store at empty", "ziggurat embed")


def test_one_class_only(mistake, here):
    pictures(here / "data", ("cat",))
    mistake(["compare", "data", "resnet18"], "fewer than two classes", "folder of its own")


def test_an_unknown_method_gets_its_three_nearest(mistake):
    mistake(["compare", "digits", "resnt18"], "no 'resnt18'", "nearest names are resnet18, ")
    mistake(["compare", "digits", "mlp", "simsam/mlp"], "no 'simsam'", "nearest names are simsiam, ")


@pytest.mark.parametrize("budget", ["-5s", "soon", "0steps", "10", "5 bananas", "nans", "1.5epochs"])
def test_nonsensical_budgets(mistake, budget):
    mistake(["compare", "digits", "mlp", "--budget", budget], repr(budget), "budget")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--threads", "0"], "threads must be 1 or more"),
        (["--seeds", "0"], "seeds must be 1 or more"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--device", "tpu"], "device must be cpu, cuda, mps or auto"),
    ],
)
def test_nonsensical_options(mistake, options, text):
    mistake(["compare", "digits", "mlp", *options], text)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("sgc", "sgc takes hops input, and digits is image data"),
        ("gcn", "gcn takes graph input, and digits is image data"),
        ("retinanet", "retinanet has the contract detector"),
        ("saliency", "saliency has the contract function"),
        ("simsiam/fastrp", "fastrp has the contract embedding and cannot be trained by simsiam"),
        ("mlp:wings=2", "no argument wings"),
        ("resnet18:stem=banana", "stem must be"),
    ],
)
def test_a_method_that_does_not_fit_is_named_before_anything_is_trained(mistake, method, text):
    mistake(["compare", "digits", "mlp", method], text)


@pytest.mark.parametrize(
    "words", [("evaluate", "lost", "digits"), ("explain", "lost", "x.png"), ("export", "lost"),
              ("embed", "digits", "--store", "new", "--with", "lost"), ("search", "lost", "x.png")],
)  # fmt: skip
def test_a_checkpoint_or_store_that_is_missing(mistake, words):
    mistake(words, "lost", "there is no")


def test_nothing_to_resume(mistake):
    mistake(["train", "digits", "mlp", "--resume", "--out", "new"], "nothing to resume", "without --resume")


def test_other_data_than_the_checkpoint_was_trained_on(mistake, here, checkpoint):
    pictures(here / "data")
    code_and_words = ["evaluate", checkpoint, "data", "--quiet"]
    mistake(code_and_words, "was trained on digits (10 classes", "data has 2 classes")


def test_a_damaged_picture_among_good_ones_is_counted_and_named(command, here):
    pictures(here / "data")
    (here / "data" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff this is no picture")
    words = ("train", "data", "mlp", "--budget", "3steps", "--out", "out")
    code, _, err = command(*words)
    assert code == 0, err
    assert "1 of 17 files could not be read and were left out (broken.jpg)" in err and ".py" not in err
    assert command(*words, "--quiet")[2] == ""


def test_methods_that_all_fail_are_a_table_and_a_mistake(command, here):
    pictures(here / "data", each=20)
    code, out, err = command("compare", "data", "mlp:lr=1e30", "--budget", "5steps", "--seeds", "1", "--json")
    assert code == 2 and err.splitlines()[-1].startswith(
        "ziggurat: no method could be trained; the first said: Floating"
    )
    assert json.loads(out)[0]["accuracy_mean"] is None


@pytest.fixture
def disk(here):
    """A file system of 300 kB in the folder of the commands."""
    place = here / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("machine: a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


FULL = "ziggurat: the disk is full; free some space or choose another folder with --out."


@pytest.mark.parametrize("often", [False, True], ids=["at the end", "in a checkpoint on the way"])
def test_a_full_disk_while_training(command, disk, often):
    words = ("train", "digits", "cifar_resnet20", "--budget", "2steps", "--out", "disk", "--quiet")
    code, out, err = command(*words, often=often)
    assert (code, out, err.strip()) == (2, "", FULL)
    assert [path.name for path in disk.iterdir()] == ["cifar_resnet20-seed0.unfinished.json"], "what --resume needs"


def test_a_full_disk_while_comparing(command, disk):
    code, out, err = command("compare", "digits", "mlp", "--budget", "2steps", "--seeds", "1", "--out", "disk", "-q")
    assert code == 2 and "No space left on device" in out and "no method could be trained" in err
    assert not [path for path in disk.rglob("*") if path.suffix == ".safetensors" or path.name.startswith(".")]


@pytest.mark.parametrize("words", [("export", "CHECKPOINT", "--out", "disk"),
                                   ("embed", "digits", "--with", "CHECKPOINT", "--store", "disk/new")])  # fmt: skip
def test_a_full_disk_while_exporting_and_embedding(command, disk, checkpoint, words):
    code, out, err = command(*(checkpoint if word == "CHECKPOINT" else word for word in words))
    assert (code, out, err.strip()) == (2, "", FULL)
    assert not list(disk.iterdir()), "nothing is left"


def test_the_same_in_an_ordinary_process(here):
    """The children above are forks of a process that has imported the command; this one starts like a person's."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    words = [sys.executable, "-c", "from ziggurat.cli.main import run; run()", "compare", "nowhere/", "resnet18"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=here, env=environment, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and not list(here.iterdir())
