import torch

from ziggurat.data.boxes import box_iou, clip_boxes, mask_boxes


def test_tight_boxes():
    mask = torch.zeros(3, 5, 6, dtype=torch.bool)
    mask[0, 1:3, 2:6] = True
    mask[1, 4, 0] = True
    assert mask_boxes(mask).tolist() == [[2, 1, 6, 3], [0, 4, 1, 5], [0, 0, 0, 0]]


def test_overlap_equals_counted_pixels():
    g = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 12, (20, 2), generator=g)
    boxes = torch.cat([corner, corner + torch.randint(1, 9, (20, 2), generator=g)], 1).double()
    grid = torch.zeros(20, 24, 24, dtype=torch.bool)
    for mask, (x, y, right, bottom) in zip(grid, boxes.long().tolist(), strict=True):
        mask[y:bottom, x:right] = True
    flat = grid.flatten(1).double()
    shared = flat @ flat.T
    want = shared / (flat.sum(1)[:, None] + flat.sum(1)[None] - shared)
    torch.testing.assert_close(box_iou(boxes, boxes), want)
    empty = torch.zeros(1, 4, dtype=torch.float64)
    assert box_iou(empty, empty).item() == 0


def test_clipping():
    boxes = torch.tensor([[-3.0, 2, 9, 30], [1, 1, 2, 2]])
    assert clip_boxes(boxes, 10, 8).tolist() == [[0, 2, 8, 10], [1, 1, 2, 2]]
