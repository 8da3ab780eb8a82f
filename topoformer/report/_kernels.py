"""A quick layout of tensors in memory, for the eye: compiled, since many are alive at once."""

import numpy as np
from numba import njit

from graphs.csr import Int64Array


@njit(cache=True)
def first_fit(lower: Int64Array, upper: Int64Array, size: Int64Array) -> Int64Array:
    """Offset of each buffer, int64[b]: the lowest gap that is free when its life ``[lower, upper)`` begins.

    Buffers come by ``lower``, as an allocator without foresight meets them; O(b * alive).
    """
    count = len(lower)
    offset = np.zeros(count, np.int64)
    bottom, top, end = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    alive = 0
    for i in range(count):
        kept, floor, place, at = 0, 0, -1, 0
        for j in range(alive):  # by place; those that have ended are dropped on the way
            if end[j] <= lower[i]:
                continue
            if place < 0 and bottom[j] - floor >= size[i]:
                place, at = floor, kept
            floor = top[j]
            bottom[kept], top[kept], end[kept] = bottom[j], top[j], end[j]
            kept += 1
        if place < 0:
            place, at = floor, kept
        for j in range(kept, at, -1):
            bottom[j], top[j], end[j] = bottom[j - 1], top[j - 1], end[j - 1]
        bottom[at], top[at], end[at] = place, place + size[i], upper[i]
        alive = kept + 1
        offset[i] = place
    return offset
