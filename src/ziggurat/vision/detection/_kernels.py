import typing

import numba
import numpy as np


@numba.njit(cache=True)
@typing.no_type_check
def greedy_suppression(boxes, threshold):
    """Keeps a box unless a kept one before it overlaps it by more than the threshold; boxes come by falling score."""
    n = len(boxes)
    keep = np.ones(n, np.bool_)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in range(n):
        if not keep[i]:
            continue
        for j in range(i + 1, n):
            if not keep[j]:
                continue
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width > 0 and height > 0:
                shared = width * height
                if shared > threshold * (area[i] + area[j] - shared):
                    keep[j] = False
    return keep
