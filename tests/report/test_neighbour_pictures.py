import numpy as np
import pytest
from PIL import Image

from tests.typecheck import value_error
from tests.untrained import untrained
from ziggurat.data import load
from ziggurat.report.neighbours import explain_neighbours
from ziggurat.workflows.embedding import embed


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """A folder of two kinds of pictures, a checkpoint, and the memory of the folder."""
    folder = tmp_path_factory.mktemp("memory")
    digits = load("digits")
    for k in (0, 1):
        (folder / "pictures" / ["zero", "one"][k]).mkdir(parents=True)
        for i in (digits.labels == k).nonzero().flatten()[:6].tolist():
            pixels = digits.images[i, 0].numpy()
            Image.fromarray(pixels).save(folder / "pictures" / ["zero", "one"][k] / f"{i}.png")
    artifact = untrained("cifar_resnet20", str(folder / "pictures"))
    embed(artifact, folder / "pictures", folder / "store")
    return artifact, folder


def test_neighbours_come_with_their_vote(memory, tmp_path):
    artifact, folder = memory
    asked = sorted((folder / "pictures" / "one").iterdir())[0]
    near = explain_neighbours(artifact, asked, str(folder / "store"), str(folder / "pictures"), None, 5, tmp_path)
    assert near.found[0][0] == f"pictures/one/{asked.name}" and near.found[0][1] == pytest.approx(0, abs=1e-5)
    assert [away for _, away, _ in near.found] == sorted(away for _, away, _ in near.found)
    labels = [label for _, _, label in near.found]
    assert near.votes == {label: labels.count(label) / 5 for label in labels}
    with Image.open(near.path) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert near.path == tmp_path / f"{asked.stem}-neighbours.png" and len(np.unique(pixels)) > 50


def test_a_filter_chooses_among_them(memory, tmp_path):
    artifact, folder = memory
    asked = sorted((folder / "pictures" / "one").iterdir())[0]
    near = explain_neighbours(artifact, asked, str(folder / "store"), None, "label = 'zero'", 3, tmp_path)
    assert near.votes == {"zero": 1.0} and len(near.found) == 3
    with value_error("no example of the memory passes the filter"):
        explain_neighbours(artifact, asked, str(folder / "store"), None, "label = 'two'", 3, tmp_path)
