import itertools
import math

import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.boxes import box_iou
from ziggurat.nn.losses.focal import focal_loss
from ziggurat.vision.detection.anchors import base_anchors, decode, encode, grid_anchors
from ziggurat.vision.detection.assigning import max_iou_assign, sample
from ziggurat.vision.detection.nms import nms
from ziggurat.vision.detection.roi_align import level_of, pyramid_roi_align, roi_align


def some_boxes(n, seed=0, span=30.0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g, dtype=torch.float64) * span
    return torch.cat([corner, corner + 2 + torch.rand(n, 2, generator=g, dtype=torch.float64) * span / 2], 1)


def test_anchors_have_their_areas_ratios_and_centres():
    a = base_anchors([8.0, 16.0], [0.5, 1.0, 2.0])
    size = a[:, 2:] - a[:, :2]
    assert size.prod(1).tolist() == pytest.approx([64] * 3 + [256] * 3)
    assert (size[:, 1] / size[:, 0]).tolist() == pytest.approx([0.5, 1, 2] * 2)
    (grid,) = grid_anchors([(2, 3)], [4], [[8.0]], [1.0])
    assert ((grid[:, :2] + grid[:, 2:]) / 2).tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]]


def test_offsets_go_there_and_back():
    a, b = some_boxes(50), some_boxes(50, 1)
    scales = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(decode(encode(b, a, scales), a, scales), b)
    assert encode(a, a).abs().max() < 1e-12
    huge = decode(torch.tensor([[0.0, 0, 99, 99]]), torch.tensor([[0.0, 0, 1, 1]]))
    assert float(huge[0, 2] - huge[0, 0]) == pytest.approx(62.5)


def test_assignment():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 4, 4], [50, 50, 60, 60], [52, 50, 70, 60]])
    objects = torch.tensor([[0.0, 0, 10, 10], [60, 50, 80, 60]])
    # overlaps with the first: 1, .5, .16, 0, 0; with the second: 0, 0, 0, 0, 1/2.8
    assert max_iou_assign(anchors, objects).tolist() == [0, -2, -1, -1, 1]
    assert max_iou_assign(anchors, objects, keep_best=False).tolist() == [0, -2, -1, -1, -2]
    assert max_iou_assign(anchors, torch.zeros(0, 4)).tolist() == [-1] * 5
    with value_error("0 <= negative <= positive <= 1"):
        max_iou_assign(anchors, objects, 0.3, 0.7)


def test_drawing_candidates():
    matched = torch.tensor([0] * 10 + [-1] * 40 + [-2] * 5)
    positive, negative = sample(matched, 16, 0.25, torch.Generator().manual_seed(0))
    assert int(positive.sum()) == 4 and int(negative.sum()) == 12
    assert (matched[positive] >= 0).all() and (matched[negative] == -1).all()
    positive, negative = sample(matched, 100, 0.5)
    assert int(positive.sum()) == 10 and int(negative.sum()) == 40


def test_suppression_against_plain_loops():
    boxes = some_boxes(60)
    scores = torch.rand(60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    overlap = box_iou(boxes, boxes)
    for threshold in (0.3, 0.5, 0.7):
        kept = []
        for i in scores.argsort(descending=True).tolist():
            if all(overlap[i, j] <= threshold for j in kept):
                kept.append(i)
        assert nms(boxes, scores, threshold).tolist() == kept
    groups = torch.arange(60) % 3
    together = nms(boxes, scores, 0.4, groups).tolist()
    apart = [torch.where(groups == g)[0][nms(boxes[groups == g], scores[groups == g], 0.4)] for g in range(3)]
    assert sorted(together) == sorted(torch.cat(apart).tolist())
    assert nms(boxes[:0], scores[:0], 0.5).tolist() == []


def read(image, y, x):
    """One bilinear read at a place in pixels from the centre of the first one, zero beyond one pixel outside."""
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return float(
        image[top, left] * (1 - dy) * (1 - dx) + image[top, right] * (1 - dy) * dx
        + image[bottom, left] * dy * (1 - dx) + image[bottom, right] * dy * dx
    )  # fmt: skip


def test_pooling_against_plain_loops():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 1, 6, 7, generator=g, dtype=torch.float64)
    boxes = [some_boxes(2, 1, 24.0) - 3, some_boxes(1, 2, 24.0)]
    got = roi_align(maps, boxes, 3, 0.25, 2)
    rows = [(i, b) for i, own in enumerate(boxes) for b in own.tolist()]
    for r, (i, b) in enumerate(rows):
        x0, y0, x1, y1 = (v * 0.25 - 0.5 for v in b)
        for p, q in itertools.product(range(3), range(3)):
            reads = [
                read(maps[i, 0], y0 + (y1 - y0) * (p * 2 + a + 0.5) / 6, x0 + (x1 - x0) * (q * 2 + c + 0.5) / 6)
                for a in range(2)
                for c in range(2)
            ]
            assert float(got[r, 0, p, q]) == pytest.approx(sum(reads) / 4, abs=1e-9)


def test_pooling_equals_torchvision():
    ops = pytest.importorskip("torchvision.ops", reason="peer: torchvision is absent")
    maps, boxes = torch.randn(2, 3, 9, 11), [some_boxes(4, 1, 60.0).float(), some_boxes(3, 2, 60.0).float()]
    want = ops.roi_align(maps, boxes, 7, 0.125, 2, aligned=True)
    torch.testing.assert_close(roi_align(maps, boxes, 7, 0.125, 2), want, atol=1e-5, rtol=1e-5)


@pytest.mark.fact("fpn", 4)
def test_level_rule():
    sides = torch.tensor([224.0, 112, 448, 50, 2000])
    boxes = torch.stack([torch.zeros(5), torch.zeros(5), sides, sides], 1)
    assert level_of(boxes).tolist() == [4, 3, 5, 2, 5]


def test_every_box_is_pooled_from_its_level():
    levels = [torch.full((1, 2, 512 // s, 512 // s), float(s)) for s in (4, 8, 16)]
    boxes = [torch.tensor([[1.0, 1, 60, 60], [100, 100, 400, 400], [0, 0, 130, 130]])]
    pooled = pyramid_roi_align(levels, (4, 8, 16), boxes, 2)
    assert pooled[0].unique().tolist() == [4.0] and pooled[2].unique().tolist() == [8.0]


def test_focal_loss():
    logits, target = torch.randn(40, dtype=torch.float64), (torch.arange(40) % 3 == 0).double()
    for z, t, got in zip(logits.tolist(), target.tolist(), focal_loss(logits, target).tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        want = -0.25 * (1 - p) ** 2 * math.log(p) if t else -0.75 * p**2 * math.log(1 - p)
        assert got == pytest.approx(want)
