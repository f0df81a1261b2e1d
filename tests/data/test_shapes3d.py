import numpy as np
import torch

from tests.typecheck import value_error
from ziggurat.data.shapes3d import relief_clouds


def test_clouds_are_balanced_repeatable_and_in_the_unit_sphere():
    data = relief_clouds(16, 200, seed=1)
    assert data.labels.bincount().tolist() == [2] * 8 and len(data.classes) == 8
    assert data.points.norm(dim=2).amax(1).allclose(torch.ones(16))
    assert torch.equal(relief_clouds(16, 200, seed=1).points, data.points)
    assert not torch.equal(relief_clouds(16, 200, seed=2).points, data.points)
    assert data.inputs(torch.tensor([3, 5])).shape == (2, 200, 3)


def test_ridges_are_where_they_should_be():
    data = relief_clouds(80, 2000, relief=0.1, seed=0)
    rough = []
    for points, label in zip(data.points.numpy(), data.labels.tolist(), strict=True):
        if label // 2 != 2:
            continue
        mantle = points[np.abs(points[:, 2]) < 0.8 * np.abs(points[:, 2]).max()]
        r2 = np.square(mantle[:, :2])
        _, residual, *_ = np.linalg.lstsq(r2, np.ones(len(r2)), rcond=None)
        rough.append((label % 2, float(residual[0]) / len(r2)))
    smooth, ridged = (np.mean([v for kind, v in rough if kind == k]) for k in (0, 1))
    assert ridged > 1.5 * smooth


def test_a_gradient_thins_one_end():
    even, uneven = (relief_clouds(40, 300, gradient=g, seed=0) for g in (0.0, 4.0))

    def lopsided(data):
        return float((data.points.median(1).values).norm(dim=1).mean())

    assert lopsided(uneven) > 1.5 * lopsided(even)


def test_mistakes_are_named():
    with value_error("count and points"):
        relief_clouds(0)
