import typing

import numba
import numpy as np


@numba.njit(cache=True)
@typing.no_type_check
def match_detections(overlap, aside, thresholds):
    """Greedy matching of detections by falling score to objects, as COCO does it.

    overlap (n, m); aside (m,) objects that neither count nor harm, all behind the others. Returns (T, n): index of the object, or -1.
    """
    n, m = overlap.shape
    found = np.full((len(thresholds), n), -1, np.int64)
    for t in range(len(thresholds)):
        taken = np.zeros(m, np.bool_)
        for d in range(n):
            best, least = -1, thresholds[t] - 1e-10
            for g in range(m):
                if taken[g]:
                    continue
                if best >= 0 and not aside[best] and aside[g]:
                    break
                if overlap[d, g] >= least:
                    best, least = g, overlap[d, g]
            if best >= 0:
                taken[best] = True
                found[t, d] = best
    return found
