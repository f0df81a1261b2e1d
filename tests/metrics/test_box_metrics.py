import math

import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.boxes import box_iou
from ziggurat.metrics.detection import THRESHOLDS, average_precision, average_recall


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def found(b, scores, labels=None):
    labels = torch.zeros(len(b), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return {"boxes": b, "scores": torch.tensor(scores, dtype=torch.float32), "labels": labels}


def truth(b, labels=None):
    return {"boxes": b, "labels": torch.zeros(len(b), dtype=torch.int64) if labels is None else torch.tensor(labels)}


def test_perfect_and_hopeless():
    b = boxes([0, 0, 10, 10], [20, 20, 40, 30])
    assert average_precision([found(b, [0.9, 0.1])], [truth(b)], 1).mean() == pytest.approx(1)
    assert average_recall([found(b, [0.9, 0.1])], [truth(b)]) == 1
    assert average_precision([found(b + 50, [0.9, 0.1])], [truth(b)], 1).mean() == 0
    nothing = average_precision([found(boxes(), [])], [truth(b)], 2)
    assert nothing[:, 0].tolist() == [0] * 10 and nothing[:, 1].isnan().all()


def test_a_second_box_on_the_same_object_is_wrong():
    b = boxes([0, 0, 10, 10], [20, 20, 30, 30])
    shown = found(boxes([0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]), [0.9, 0.8, 0.7])
    ap = average_precision([shown], [truth(b)], 1, (0.5,))
    want = (51 * 1 + 50 * (2 / 3)) / 101  # recall 0.5 at precision 1, then 2 of 3
    assert float(ap) == pytest.approx(want)


def naive_ap(predictions, targets, threshold):
    """Plain loops over pooled detections, one class, no areas."""
    rows = sorted(
        ((float(s), i, j) for i, p in enumerate(predictions) for j, s in enumerate(p["scores"])), key=lambda r: -r[0]
    )
    taken, hits = set(), []
    for _, i, j in rows:
        overlap = box_iou(predictions[i]["boxes"][j : j + 1].double(), targets[i]["boxes"].double())[0]
        best, which = -1.0, None
        for g, value in enumerate(overlap.tolist()):
            if (i, g) not in taken and value >= threshold - 1e-10 and value >= best:
                best, which = value, g
        hits.append(which is not None)
        if which is not None:
            taken.add((i, which))
    total = sum(len(t["boxes"]) for t in targets)
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    recall = [sum(hits[: k + 1]) / total for k in range(len(hits))]
    points = [
        max([p for p, r in zip(precision, recall, strict=True) if r >= x], default=0.0) for x in np.linspace(0, 1, 101)
    ]
    return sum(points) / 101


def test_against_plain_loops():
    g = torch.Generator().manual_seed(3)

    def random_boxes(n):
        corner = torch.rand(n, 2, generator=g) * 40
        return torch.cat([corner, corner + 5 + torch.rand(n, 2, generator=g) * 20], 1)

    targets = [truth(random_boxes(n)) for n in (3, 5, 1, 4)]
    predictions = []
    for t in targets:
        near = t["boxes"] + torch.randn(t["boxes"].shape, generator=g)
        b = torch.cat([near, random_boxes(4)])
        predictions.append(found(b, torch.rand(len(b), generator=g).tolist()))
    got = average_precision(predictions, targets, 1)
    want = [naive_ap(predictions, targets, t) for t in THRESHOLDS]
    np.testing.assert_allclose(got[:, 0].numpy(), want, atol=1e-9)


def test_areas_set_objects_aside():
    small, large = [0, 0, 4, 4], [20, 20, 50, 50]
    targets = [truth(boxes(large, small))]
    shown = [found(boxes(small, large, [60, 60, 90, 90]), [0.5, 0.9, 0.8])]
    assert average_recall(shown, targets, area=(0, 16 * 16)) == 1
    assert average_precision(shown, targets, 1, area=(0, 16 * 16)).mean() == pytest.approx(1)
    assert average_recall(shown, targets, area=(0, 10)) != average_recall(shown, targets) or math.isnan(
        average_recall(shown, targets, area=(0, 10))
    )
    assert average_recall(shown, targets, most=1) == 0.5


def test_counts_must_agree():
    with value_error("1 predictions for 0 images"):
        average_recall([found(boxes(), [])], [])
