"""Hot loops over flat arrays, compiled once and cached; callers check what they pass.

Indices that address arrays are unsigned: a signed one costs a test for negative values at each access.
"""

import numpy as np
from numba import njit

from graphs.csr import Int32Array, Int64Array, UInt32Array


@njit(cache=True)
def _freed(
    order: Int32Array, ptr: UInt32Array, idx: UInt32Array, size: Int64Array, drop: Int64Array
) -> tuple[Int32Array, Int64Array]:
    """(position, bytes freed after each step), int32[n] and int64[n].

    A tensor goes with the last of its readers (its row of ``ptr``, ``idx``): a maximum over a row, which runs in
    vector registers, where counting readers down one by one would not.
    """
    n = len(order)
    position = np.empty(n, np.int32)
    freed = np.empty(n, np.int64)
    for t in range(n):
        node = np.uint32(order[t])
        position[node] = t
        freed[t] = drop[node]
    for tensor in range(len(size)):
        last = np.int32(-1)
        for entry in range(ptr[tensor], ptr[tensor + 1]):
            last = max(last, position[idx[entry]])
        freed[np.uint32(last)] += size[tensor]
    return position, freed


@njit(cache=True)
def live_profile(
    order: Int32Array,
    ptr: UInt32Array,
    idx: UInt32Array,
    size: Int64Array,
    alloc: Int64Array,
    drop: Int64Array,
    start: int,
) -> tuple[Int64Array, Int64Array]:
    """Bytes live while each step runs, and once it has ended, int64[n] each."""
    _, freed = _freed(order, ptr, idx, size, drop)
    during = np.empty(len(order), np.int64)
    live = start
    for t in range(len(order)):
        during[t] = live + alloc[np.uint32(order[t])]
        live = during[t] - freed[t]
        freed[t] = live
    return during, freed


@njit(cache=True)
def peak(
    order: Int32Array,
    ptr: UInt32Array,
    idx: UInt32Array,
    size: Int64Array,
    alloc: Int64Array,
    drop: Int64Array,
    start: int,
) -> int:
    """Most bytes live while any step runs; ``start`` where there are no steps."""
    _, freed = _freed(order, ptr, idx, size, drop)
    live = highest = start
    for t in range(len(order)):
        live += alloc[np.uint32(order[t])]
        highest = max(highest, live)
        live -= freed[t]
    return highest


@njit(cache=True)
def first_late(position: Int32Array, ptr: Int32Array, idx: Int32Array) -> int:
    """First node that does not come after all of its predecessors (rows ``ptr``, ``idx``), or -1."""
    for node in range(len(position)):
        for entry in range(ptr[node], ptr[node + 1]):
            if position[np.uint32(idx[entry])] >= position[node]:
                return node
    return -1


@njit(cache=True)
def reachable(ptr: Int32Array, idx: Int32Array, start: int) -> Int32Array:
    """Nodes, int32[reached], that one step or more along the rows (``ptr``, ``idx``) lead to from ``start``."""
    seen = np.zeros(len(ptr) - 1, np.bool_)
    found = np.empty(len(ptr) - 1, np.int32)
    count = done = 0
    node = start
    while True:
        for entry in range(ptr[node], ptr[node + 1]):
            following = idx[entry]
            if not seen[following]:
                seen[following] = True
                found[count] = following
                count += 1
        if done == count:
            return found[:count]
        node = found[done]
        done += 1
