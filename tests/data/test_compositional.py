import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.compositional import compositional, signatures
from ziggurat.data.datasets import Images


def objects(n=60, kinds=3):
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 8:20] = 255
    return Images(images, torch.arange(n) % kinds, tuple("abc"[:kinds]), "squares")


def test_every_combination_with_its_signature():
    made = compositional(objects(), 2, seed=1)
    assert made.images.images.shape == (60, 3, 32, 32) and len(made.images.classes) == 30
    assert torch.bincount(made.images.labels).tolist() == [2] * 30
    assert made.attributes.shape == (30, 10) and (made.attributes.sum(1) == 3).all()
    assert len(np.unique(made.attributes, axis=0)) == 30
    assert made.images.classes[11] == "red b on checks"
    assert np.flatnonzero(made.attributes[11]).tolist() == [1, 3, 9]
    assert signatures(10).shape == (100, 17)


def test_pixels_are_colour_and_texture():
    made = compositional(objects(), 1)
    pixels, labels = made.images.images, made.images.labels
    assert pixels[0, :, 16, 16].tolist() == [230, 40, 40]  # the middle of a red object
    corners = pixels[:, 0, :8, :8]
    assert set(corners.unique().tolist()) == {70, 130}
    stripes = corners[labels % 2 == 0]
    assert (stripes == stripes[:, :1]).all() and not (corners == corners[:, :1]).all()
    again = compositional(objects(), 1)
    assert torch.equal(again.images.images, pixels)


def test_mistakes_are_named():
    with value_error("10 are needed"):
        compositional(objects(20), 1)
    with value_error("must be grey"):
        compositional(Images(torch.zeros(4, 3, 28, 28, dtype=torch.uint8), torch.zeros(4).long(), ("a",), "x"), 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_each_object_is_used_once_at_most(seed):
    data = objects(60)
    data.images[:, 0, 15, 15] = torch.arange(60, dtype=torch.uint8) * 2 + 100
    made = compositional(data, 2, seed)
    blue = made.images.images[:, :, 17, 17].amax(1)
    assert len(blue) == 60
