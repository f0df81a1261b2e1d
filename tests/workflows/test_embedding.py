import json

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

from tests.data import load_or_skip
from tests.typecheck import value_error
from tests.untrained import untrained
from ziggurat.cli.main import app
from ziggurat.data import load
from ziggurat.data.datasets import Segments
from ziggurat.memory.opening import open_store
from ziggurat.report.neighbourhood import explain_node
from ziggurat.workflows.budget import Budget
from ziggurat.workflows.editing import examples
from ziggurat.workflows.embedding import centre, embed, fill, metadata_of, names_of, search
from ziggurat.workflows.methods import parse_method
from ziggurat.workflows.training import prepare, train_method


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    _, artifact = train_method(parse_method("mlp"), prepare("digits"), Budget(100, "steps"), seed=0)
    return artifact.save(tmp_path_factory.mktemp("made") / "mlp")


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_embed_search_explain_and_export_by_command(checkpoint, tmp_path):
    store = tmp_path / "store"
    assert json.loads(invoke("embed", "digits", "--with", checkpoint, "--store", store, "--json"))["embedded"] == 1797
    hits = json.loads(invoke("search", store, "digits/0", "-k", 4, "--json"))
    assert hits[0]["id"] == "digits/0" and len(hits) == 4
    only = json.loads(invoke("search", store, "digits/0", "--where", "label = '8'", "--json"))
    assert {hit["metadata"]["label"] for hit in only} == {"8"} and len(only) == 10
    told = CliRunner().invoke(app, ["search", str(store), "digits/0", "--where", "label = '8'", "--explain", "--json"])
    assert "scan: the exact index looks at every row (174 of 1,797 rows are selected)" in told.stderr

    picture = tmp_path / "zero.png"
    Image.fromarray(load("digits").images[0, 0].numpy()).save(picture)
    by_picture = json.loads(invoke("search", store, picture, "-k", 1, "--with", checkpoint, "--json"))
    assert by_picture[0]["id"] == "digits/0" and by_picture[0]["distance"] == pytest.approx(0, abs=1e-4)

    drawn = json.loads(invoke("explain", checkpoint, picture, "--out", tmp_path, "--json"))
    assert drawn["class"] == "0" and np.asarray(Image.open(drawn["picture"])).std() > 10
    out = json.loads(invoke("export", checkpoint, "--out", tmp_path, "--json"))
    assert out["largest_difference"] < 1e-4 and out["file"].endswith(".onnx")
    said = json.loads(invoke("evaluate", checkpoint, "digits", "--json"))
    assert said["accuracy"] > 0.9


def test_a_picture_that_is_not_square_finds_itself(tmp_path):
    """A folder's pictures are cropped to their middle; so is the one that is looked for."""
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in range(6):
        smooth = Image.fromarray(rng.integers(0, 255, (6, 3), dtype=np.uint8)).resize(
            (24, 48), Image.Resampling.BILINEAR
        )
        smooth.save(tmp_path / "pictures" / f"{name}.png")
    artifact = untrained("mlp")
    embed(artifact, tmp_path / "pictures", tmp_path / "store")
    hits = search(tmp_path / "store", str(tmp_path / "pictures" / "3.png"), 2, artifact=artifact)
    assert hits.ids[0][0] == "pictures/3.png" and hits.distances[0, 0] < 1e-3 < hits.distances[0, 1] / 10


def folder_of(path, names, seed):
    rng = np.random.default_rng(seed)
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(path / name)
    return path


def test_two_folders_with_equal_names_of_files_are_both_kept(tmp_path):
    """Cameras number from one: the second card must not replace the first."""
    artifact, store = untrained("mlp"), tmp_path / "store"
    for seed, name in enumerate(("spring", "autumn")):
        embed(artifact, folder_of(tmp_path / name, ("IMG_1.png", "IMG_2.png"), seed), store)
    rows, count = examples(store)
    assert count == 4 and [row["id"] for row in rows] == [
        f"{of}/IMG_{i}.png" for of in ("autumn", "spring") for i in (1, 2)
    ]
    assert rows[0] == {"id": "autumn/IMG_1.png", "label": None, "data": "autumn", "width": 12, "height": 9}
    embed(artifact, tmp_path / "spring", store)
    assert examples(store)[1] == 4


def test_columns_of_a_csv_are_what_is_filtered(tmp_path):
    folder_of(tmp_path, ("a.png", "b.png", "c.png"), 0)
    (tmp_path / "list.csv").write_text("path,year,place\na.png,2019,sea\nb.png,2021,\nc.png,2023,hill\n")
    store = tmp_path / "store"
    embed(untrained("mlp"), tmp_path / "list.csv", store)
    hits = search(store, "list/a.png", where="year > 2020")
    assert sorted(hits.ids[0]) == ["list/b.png", "list/c.png"]
    told = {"label": None, "data": "list", "width": 12, "height": 9, "year": 2021}
    assert examples(store, "place is null") == ([{"id": "list/b.png", **told}], 1)
    (tmp_path / "list.csv").write_text("path,thumbnail\na.png,x\n")
    with value_error("list has a column 'thumbnail', which is a word of the memory itself"):
        embed(untrained("mlp"), tmp_path / "list.csv", store)


def test_a_part_keeps_its_numbers_of_the_whole(tmp_path):
    test, whole = load_or_skip("cifar10", "test"), load_or_skip("cifar10")
    assert names_of(test)[7] == names_of(whole)[50_007] == "cifar10/50007"
    assert torch.equal(test.images[7], whole.images[50_007]) and whole.metadata[49_999] == {"split": "train"}
    assert metadata_of(test)[0] == {"label": test.classes[test.labels[0]], "data": "cifar10", "split": "test"}


def test_frames_with_a_class_a_pixel_are_embedded_by_their_middle(tmp_path):
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 255, (3, 3, 6, 10), dtype=np.uint8))
    frames = Segments(
        pixels, torch.zeros(3, 6, 10, dtype=torch.uint8), ("road",), "drive", 255, ("a", "b", "c"), ("x", "x", "y")
    )
    assert metadata_of(frames)[2] == {"label": None, "data": "drive", "group": "y"} and names_of(frames)[1] == "drive/b"
    assert torch.equal(centre(frames.inputs([0]))[0], pixels[0, :, :, 2:8] / 255)


def test_pictures_of_many_sizes_with_boxes_are_no_set_to_embed(tmp_path):
    folder_of(tmp_path / "boxes", ("images/1.png",), 0)
    coco = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "boxes" / "instances.json").write_text(json.dumps(coco))
    with value_error("pictures of different sizes, for detection"):
        embed(untrained("mlp"), tmp_path / "boxes", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def open_after(monkeypatch, act):
    """Lets another process act at the moment at which a store is about to be opened, once."""

    def opened(where):
        monkeypatch.setattr("ziggurat.workflows.embedding.open_store", open_store)
        act(open_store(where, 4))
        return open_store(where)

    monkeypatch.setattr("ziggurat.workflows.embedding.open_store", opened)


def fail_to_fill(store):
    with value_error("vectors have 3 numbers"):
        fill(store, ["ours"], np.ones((1, 3), np.float32), [{}])


def test_a_failure_leaves_what_another_process_stored_meanwhile(tmp_path, monkeypatch):
    """Two fill a folder that was not there; the one whose vectors do not fit must not take the other's rows along."""
    open_after(monkeypatch, lambda theirs: theirs.add(["theirs"], np.ones((1, 4), np.float32)))
    fail_to_fill(tmp_path / "store")
    assert [row["id"] for row in examples(tmp_path / "store")[0]] == ["theirs"]


def test_a_failure_leaves_a_store_that_another_process_has_emptied(tmp_path, monkeypatch):
    def act(theirs):
        theirs.add(["theirs"], np.ones((1, 4), np.float32))
        theirs.remove(["theirs"])

    open_after(monkeypatch, act)
    fail_to_fill(tmp_path / "store")
    assert (tmp_path / "store" / "memory.lance").is_dir()


def test_a_failure_leaves_a_store_that_another_process_writes_to(tmp_path, monkeypatch):
    """Ctrl-C while the other one has the lock and has not stored anything yet."""
    from ziggurat.memory.lance import LanceStore

    def stop(*arguments):
        raise KeyboardInterrupt

    lock = FileLock(tmp_path / "store" / "writing.lock")
    open_after(monkeypatch, lambda theirs: lock.acquire(timeout=0))
    monkeypatch.setattr(LanceStore, "upsert", stop)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "store", ["ours"], np.ones((1, 4), np.float32), [{}])
    lock.release()
    assert (tmp_path / "store" / "memory.lance").is_dir()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_store_that_was_never_filled_is_not_left_behind(tmp_path, monkeypatch, error):
    """Nor the table that was made just before the first rows."""
    from ziggurat.memory.lance import LanceStore

    def stop(self, action):
        raise error

    monkeypatch.setattr(LanceStore, "_retry", stop)
    with pytest.raises(error):
        fill(tmp_path / "store", ["ours"], np.ones((1, 3), np.float32), [{}])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("query", ["--5", "²", "5-", "1" * 5000])
def test_a_query_that_only_looks_like_a_number_is_no_id(tmp_path, query):
    open_store(tmp_path / "store").add([5, -5], np.eye(2, dtype=np.float32))
    assert search(tmp_path / "store", "-5", 1).ids == [[-5]]
    with value_error("neither an id of the store"):
        search(tmp_path / "store", query)


def test_what_a_memory_holds_by_command(checkpoint, tmp_path):
    store = tmp_path / "a store"
    made = CliRunner().invoke(app, ["embed", "digits", "--with", str(checkpoint), "--store", str(store)])
    assert f"ziggurat search '{store}'" in made.stderr and "--images" not in made.stderr
    said = json.loads(invoke("search", store, "--where", "label = '8'", "-k", 2, "--json"))
    assert said["count"] == 174 and [set(row) for row in said["examples"]] == [{"id", "label", "data"}] * 2
    shown = CliRunner().invoke(app, ["search", str(store), "-k", "1"])
    assert shown.stdout == "id\tlabel\tdata\ndigits/0\t0\tdigits\n" and "1 of 1,797" in shown.stderr


def test_mistakes_are_named(checkpoint, tmp_path):
    from ziggurat.workflows.artifact import load_artifact

    artifact = load_artifact(checkpoint)
    embed(artifact, "digits", tmp_path)
    with value_error("neither an id of the store"):
        search(tmp_path, "digits/99999")
    picture = tmp_path / "p.png"
    Image.new("L", (8, 8)).save(picture)
    with value_error("--with"):
        search(tmp_path, str(picture))
    np.savez(tmp_path / "g.npz", edge_index=np.array([[0], [1]]), y=np.array([0, 1]))
    with value_error("not of that kind"):
        embed(artifact, tmp_path / "g.npz", tmp_path / "other")


@pytest.fixture(scope="module")
def two_rings(tmp_path_factory):
    """A graph of two rings of twelve nodes, joined by one edge; a class a ring; features of the ring with a little noise."""
    ring = np.stack([np.arange(12), (np.arange(12) + 1) % 12])
    edges = np.concatenate([ring, ring + 12, [[0], [12]]], 1)
    y = np.repeat([0, 1], 12)
    x = np.eye(2)[y] + 0.3 * np.random.default_rng(0).random((24, 2))
    path = tmp_path_factory.mktemp("graphs") / "rings.npz"
    np.savez(path, edge_index=np.concatenate([edges, edges[::-1]], 1), y=y, x=x.astype(np.float32))
    return path


def test_nodes_are_embedded_by_a_method_without_training(two_rings, tmp_path):
    store = tmp_path / "store"
    made = invoke("embed", two_rings, "--method", "node2vec:dimensions=8", "--store", store, "--json")
    assert json.loads(made)["embedded"] == 24
    hits = json.loads(invoke("search", store, "rings/6", "-k", 3, "--json"))
    assert hits[0]["id"] == "rings/6" and all(int(hit["id"].split("/")[1]) < 12 for hit in hits)
    with value_error("must be trained first"):
        invoke_raising("embed", two_rings, "--method", "gcn", "--store", tmp_path / "none")
    with value_error("is none"):
        invoke_raising("embed", "digits", "--method", "fastrp", "--store", tmp_path / "none")
    with value_error("either a checkpoint"):
        invoke_raising("embed", two_rings, "--store", tmp_path / "none")
    with value_error("no argument colour"):
        invoke_raising("embed", two_rings, "--method", "fastrp:colour=1", "--store", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_nodes_are_embedded_and_explained_by_a_checkpoint(two_rings, tmp_path):
    _, artifact = train_method(parse_method("gcn"), prepare(str(two_rings)), Budget(100, "steps"), seed=0)
    checkpoint = artifact.save(tmp_path / "gcn")
    assert embed(artifact, two_rings, tmp_path / "store") == 24
    path, label, sure, nodes = explain_node(artifact, 6, None, tmp_path, str(two_rings))
    assert label == "0" and sure > 0.5 and np.asarray(Image.open(path)).std() > 10
    assert {u for u, _ in nodes} == {4, 5, 6, 7, 8}  # two convolutions reach two steps far
    assert sum(share for _, share in nodes) == pytest.approx(1)
    with value_error("node must be in"):
        explain_node(artifact, 99, None, tmp_path, str(two_rings))
    with value_error("no class of this checkpoint"):
        explain_node(artifact, 6, "red", tmp_path, str(two_rings))
    with value_error("give a node's number"):
        invoke_raising("explain", checkpoint, "picture.png")


def invoke_raising(*arguments):
    """A command whose mistake is raised as it is, before the command line makes a sentence of it."""
    raise_from = CliRunner().invoke(app, [str(a) for a in arguments])
    if raise_from.exception is not None and not isinstance(raise_from.exception, SystemExit):
        raise raise_from.exception
    raise AssertionError(f"{arguments} went through: {raise_from.output}")
