"""Average precision and average recall of boxes, by the rules of COCO: greedy matching by score, ten overlaps, 101 recall points.

(torchmetrics computes them only with torchvision or pycocotools.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.data.boxes import box_area, box_iou
from ziggurat.metrics._kernels import match_detections

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
RECALLS = np.linspace(0, 1, 101)
Found = dict[str, Tensor]


def _matched(
    found: Found, target: Found, thresholds: Sequence[float], area: tuple[float, float], most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Of one image and one class: scores, hits (T, n), counted (T, n), and the number of objects that count."""
    order = found["scores"].argsort(descending=True, stable=True)[:most]
    boxes, scores = found["boxes"][order].double(), found["scores"][order]
    size = box_area(target["boxes"].double())
    aside = (size < area[0]) | (size >= area[1])
    behind = aside.int().argsort(stable=True)
    aside = aside[behind]
    overlap = box_iou(boxes, target["boxes"][behind].double())
    matches = match_detections(overlap.numpy(), aside.numpy(), np.asarray(thresholds))
    own = box_area(boxes)
    outside = ((own < area[0]) | (own >= area[1])).numpy()
    silent = np.where(matches >= 0, aside.numpy()[matches] if len(aside) else False, outside[None])
    return scores.numpy(), (matches >= 0) & ~silent, ~silent, int((~aside).sum())


def _of_class(values: Found, label: int) -> Found:
    keep = values["labels"] == label
    return {name: value[keep] for name, value in values.items() if name in ("boxes", "scores", "labels")}


def _check(predictions: Sequence[Found], targets: Sequence[Found]) -> None:
    if len(predictions) != len(targets):
        raise ValueError(f"there are {len(predictions)} predictions for {len(targets)} images; give one for each.")


def average_precision(
    predictions: Sequence[Found],
    targets: Sequence[Found],
    num_classes: int,
    thresholds: Sequence[float] = THRESHOLDS,
    area: tuple[float, float] = (0.0, math.inf),
    most: int = 100,
) -> Float[Tensor, "T K"]:
    """Average precision at each overlap and of each class; NaN for a class without objects. AP is the mean of what is not NaN.

    Arguments:
        predictions: dicts `boxes`, `scores`, `labels`, one an image.
        targets: dicts `boxes`, `labels`.
        thresholds: overlaps from which on a box is a hit.
        area: objects of another area in pixels neither count nor harm.
        most: best detections of an image and class that are looked at.
    """
    _check(predictions, targets)
    table = np.full((len(thresholds), num_classes), np.nan)
    for label in range(num_classes):
        parts = [
            _matched(_of_class(p, label), _of_class(t, label), thresholds, area, most)
            for p, t in zip(predictions, targets, strict=True)
        ]
        objects = sum(part[3] for part in parts)
        if not objects:
            continue
        order = np.argsort(-np.concatenate([part[0] for part in parts]), kind="stable")
        hits = np.concatenate([part[1] for part in parts], 1)[:, order]
        counted = np.concatenate([part[2] for part in parts], 1)[:, order]
        for t in range(len(thresholds)):
            hit = hits[t][counted[t]]
            right = hit.cumsum()
            precision = right / np.arange(1, len(hit) + 1)
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            place = np.searchsorted(right / objects, RECALLS, side="left")
            table[t, label] = np.where(place < len(hit), np.append(envelope, 0)[np.minimum(place, len(hit))], 0).mean()
    return torch.from_numpy(table)


def average_recall(
    predictions: Sequence[Found],
    targets: Sequence[Found],
    thresholds: Sequence[float] = THRESHOLDS,
    area: tuple[float, float] = (0.0, math.inf),
    most: int = 100,
) -> float:
    """Share of objects found by the `most` best boxes of their image, whatever the class, averaged over the overlaps."""
    _check(predictions, targets)
    hits, objects = np.zeros(len(thresholds)), 0
    for p, t in zip(predictions, targets, strict=True):
        _, hit, _, count = _matched(p, t, thresholds, area, most)
        hits += hit.sum(1)
        objects += count
    return float((hits / objects).mean()) if objects else math.nan
