"""Greedy placement of buffers in an arena and a descent over the order in which they are placed, compiled.

Buffers are sorted by the start of their lifetimes, so that those which overlap one in time are a stretch of the array
up to a point; blocks of it that have ended by then are skipped by their latest end (``reach``).
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from graphs.csr import Int64Array

UInt64Array = npt.NDArray[np.uint64]

BLOCK = 64
FAR = (1 << 63) - 1
LONG_JUMP = 4  # one move in so many goes anywhere in front, the others a short way


@njit(cache=True)
def block_reach(upper: Int64Array) -> Int64Array:
    """Latest end of each block of ``BLOCK`` buffers, int64[ceil(b / BLOCK)]."""
    reach = np.zeros((len(upper) + BLOCK - 1) // BLOCK, np.int64)
    for i in range(len(upper)):
        reach[i // BLOCK] = max(reach[i // BLOCK], upper[i])
    return reach


@njit(cache=True)
def fit(
    order: Int64Array,
    lower: Int64Array,
    upper: Int64Array,
    size: Int64Array,
    reach: Int64Array,
    tightest: bool,
    limit: int,
    offset: Int64Array,
) -> int:
    """Place buffers one by one in ``order`` into ``offset`` (int64[b]); returns the arena's size.

    Each goes into the lowest gap that holds it among those placed that overlap it in time, or, if ``tightest``, into
    the smallest such gap. Gives up, with a size above ``limit``, once a buffer sticks out. O(b * overlaps * log).
    """
    bottoms, tops = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    offset[:] = -1
    highest = 0
    for i in order:
        count = 0
        end = np.searchsorted(lower, upper[i])
        for block in range((end + BLOCK - 1) // BLOCK):
            if reach[block] <= lower[i]:
                continue
            for j in range(block * BLOCK, min(end, (block + 1) * BLOCK)):
                if upper[j] > lower[i] and offset[j] >= 0:
                    bottoms[count], tops[count] = offset[j], offset[j] + size[j]
                    count += 1
        place, floor, least = -1, 0, FAR
        for entry in np.argsort(bottoms[:count]):
            gap = bottoms[entry] - floor
            if size[i] <= gap < least:
                place, least = floor, gap
                if not tightest:
                    break
            floor = max(floor, tops[entry])
        offset[i] = floor if place < 0 else place
        highest = max(highest, offset[i] + size[i])
        if highest > limit:
            break
    return highest


@njit(cache=True)
def draw(state: UInt64Array, below: int) -> int:
    """A number in [0, below) from a xorshift generator whose ``state`` (uint64[1], not 0) is moved on."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return int(np.int64((x >> np.uint64(11)) % np.uint64(below)))


@njit(cache=True)
def descend(
    order: Int64Array,
    lower: Int64Array,
    upper: Int64Array,
    size: Int64Array,
    reach: Int64Array,
    goal: int,
    tries: int,
    offset: Int64Array,
    state: UInt64Array,
) -> int:
    """Try changed orders ``tries`` times, keeping each that is no worse; returns the arena's size.

    ``order`` and ``offset`` (int64[b] both) hold the best on return; ends early where ``goal`` is met. A try moves
    buffers forward, most of them such as stick out over ``goal``.
    """
    count = len(order)
    best = fit(order, lower, upper, size, reach, False, FAR, offset)
    changed, placed = order.copy(), offset.copy()
    for _ in range(tries):
        if best <= goal:
            break
        changed[:] = order
        for _ in range(1 + draw(state, 3)):
            at = draw(state, count)
            for step in range(count):  # the first that sticks out, from a random place on
                i = changed[(at + step) % count]
                if offset[i] + size[i] > goal:
                    at = (at + step) % count
                    break
            if draw(state, LONG_JUMP) == 0:
                at = draw(state, count)
            to = draw(state, at + 1) if draw(state, LONG_JUMP) == 0 else max(0, at - 1 - draw(state, 8))
            moved = changed[at]
            for step in range(at, to, -1):
                changed[step] = changed[step - 1]
            changed[to] = moved
        found = fit(changed, lower, upper, size, reach, False, best, placed)
        if found <= best:
            best = found
            order[:] = changed
            offset[:] = placed
    return best
