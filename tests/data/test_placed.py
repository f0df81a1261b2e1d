import numpy as np
import torch

from tests.typecheck import value_error
from ziggurat.data.datasets import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.placed import MixedSizes, centred, one_object, place, warped

GLYPHS = Images(torch.full((5, 1, 28, 28), 200, dtype=torch.uint8), torch.arange(5) % 3, ("a", "b", "c"), "squares")
PHOTOGRAPHS = [torch.full((3, 90, 70), 10, dtype=torch.uint8), torch.full((3, 50, 99), 20, dtype=torch.uint8)]


def test_one_whole_object_in_each_scene():
    data = one_object(GLYPHS, PHOTOGRAPHS, (40, 64), 20)
    assert data.images.shape == (20, 3, 40, 64)
    bright = (data.images > 100).all(1)
    for scene in bright:
        rows, columns = scene.any(1).sum(), scene.any(0).sum()
        assert rows == columns and 20 <= rows <= 28 and scene.sum() == rows * columns
    assert {int(x) for x in data.images[:, :, 0, 0].unique()} >= {10, 20}
    again = one_object(GLYPHS, PHOTOGRAPHS, (40, 64), 20)
    assert torch.equal(again.images, data.images) and torch.equal(again.labels, data.labels)


def test_placing_leaves_the_rest():
    scene = torch.full((3, 10, 12), 7, dtype=torch.uint8)
    placed = place(scene, GLYPHS.images[0, 0], 4, 5, 2, np.random.default_rng(0))
    inside = torch.zeros(10, 12, dtype=torch.bool)
    inside[5:9, 2:6] = True
    assert (placed[:, inside] > 100).all() and (placed[:, ~inside] == 7).all() and (scene == 7).all()


def test_squares():
    data = Images(
        torch.randint(1, 255, (2, 3, 6, 12), dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",), "x"
    )
    middle = centred(data, 8).images
    assert torch.equal(middle[:, :, 1:7], data.images[..., 2:10]) and not middle[:, :, [0, 7]].any()
    assert warped(data, 8).images.shape == (2, 3, 8, 8)


def test_batches_of_one_size_in_an_order_of_seed_and_epoch():
    parts = [one_object(GLYPHS, PHOTOGRAPHS, size, 7) for size in ((32, 32), (32, 48), (48, 32))]
    loader = MixedSizes([feed(part, Labelled(), 3, seed=1) for part in parts], seed=1)

    def epoch(n):
        loader.sampler.set_epoch(n)
        return [tuple(batch.inputs[0].shape) for batch in loader]

    first = epoch(0)
    assert len(first) == len(loader) == 9 and sum(shape[0] for shape in first) == 21
    assert epoch(1) != first == epoch(0)


def test_photographs_that_are_too_small_are_named():
    with value_error("100×20"):
        one_object(GLYPHS, PHOTOGRAPHS, (100, 20), 1, edges=(4, 8))
