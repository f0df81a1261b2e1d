import numpy as np
import torch

from tests.typecheck import value_error
from ziggurat.data.datasets import Images
from ziggurat.data.scenes import scenes

GLYPHS = Images(torch.full((2, 1, 12, 12), 200, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "squares")
PHOTOS = [torch.zeros(3, 70, 90, dtype=torch.uint8), torch.zeros(3, 20, 90, dtype=torch.uint8)]


def make(**options):
    return scenes(GLYPHS, PHOTOS, 20, **{"size": 48, "objects": (2, 4), "side": (6, 20), **options})


def test_boxes_masks_and_pixels_agree():
    found = make(seed=3)
    assert len(found) == 20
    counts = set()
    for image, target in zip(found.images, found.targets, strict=True):
        assert image.shape == (3, 48, 48)
        counts.add(len(target["labels"]))
        painted = (image > 0).any(0)
        assert torch.equal(painted, target["masks"].any(0)), "every bright pixel belongs to an object on a black photo"
        assert int(target["masks"].sum(0).max()) == 1, "visible masks do not overlap"
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            y, x = mask.nonzero().T
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert counts <= {2, 3, 4} and len(counts) > 1


def test_the_seed_decides_everything():
    first, again, other = make(seed=1), make(seed=1), make(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.images, again.images, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.images, other.images, strict=True))


def test_sides_are_log_uniform_and_objects_stay_visible():
    found = scenes(GLYPHS, PHOTOS, 400, 64, (1, 1), (8, 64), seed=0)
    sides = np.array([float(t["boxes"][0, 2] - t["boxes"][0, 0]) for t in found.targets])
    assert abs(np.log(sides).mean() - np.log([8, 64]).mean()) < 0.08
    crowded = make(objects=(6, 6), visible=0.5)
    for target in crowded.targets:
        boxes = target["boxes"]
        square = (boxes[:, 2:] - boxes[:, :2]).amax(1) ** 2
        assert (target["masks"].sum((1, 2)) >= 0.5 * square - 1e-3).all()


def test_impossible_scenes_are_refused():
    with value_error("no photograph has 80 pixels each way"):
        make(size=80)
    with value_error("sides between 2 and the size 48"):
        make(side=(6, 60))
