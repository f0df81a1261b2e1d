import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.typecheck import value_error
from ziggurat.cli.main import app
from ziggurat.data import load
from ziggurat.workflows.budget import Budget
from ziggurat.workflows.embedding import embed, search
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
