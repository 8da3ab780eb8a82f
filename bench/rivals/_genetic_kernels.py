"""Compiled decoder of the genetic rival: keys to an order by list scheduling, with its peak."""

import numpy as np
import numpy.typing as npt
from numba import njit

from graphs.csr import Int32Array, Int64Array

Keys = npt.NDArray[np.float32]


@njit(cache=True)
def _push(heap: Int32Array, size: int, node: int, key: Keys) -> None:
    at = size
    while at > 0 and key[heap[(at - 1) // 2]] > key[node]:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = node


@njit(cache=True)
def _pop(heap: Int32Array, size: int, key: Keys) -> np.int32:
    top, last, at = heap[0], heap[size - 1], 0
    while 2 * at + 1 < size - 1:
        child = 2 * at + 1
        if child + 1 < size - 1 and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[heap[child]] >= key[last]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last
    return np.int32(top)


@njit(cache=True)
def decode(
    keys: Keys,
    waits: Int32Array,
    succ_ptr: Int32Array,
    succ_idx: Int32Array,
    ptr: Int32Array,
    idx: Int32Array,
    uses: Int32Array,
    size: Int64Array,
    alloc: Int64Array,
    drop: Int64Array,
    start: int,
    order: Int32Array,
) -> Int64Array:
    """Peak, in bytes, of each row of ``keys``, float32[p, n]: the ready node with the smallest key runs next.

    ``order``, int32[n], is overwritten by that of the last row. O(p (n log n + m)).
    """
    n = len(alloc)
    peaks = np.empty(len(keys), np.int64)
    waiting, left, heap = np.empty_like(waits), np.empty_like(uses), np.empty(n + 1, np.int32)
    for row in range(len(keys)):
        key = keys[row]
        waiting[:] = waits
        left[:] = uses
        ready = 0
        for node in range(n):
            if waits[node] == 0:
                _push(heap, ready, node, key)
                ready += 1
        live = highest = start
        for t in range(n):
            node = _pop(heap, ready, key)
            ready -= 1
            order[t] = node
            live += alloc[node]
            highest = max(highest, live)
            live -= drop[node]
            for entry in range(ptr[node], ptr[node + 1]):
                tensor = idx[entry]
                left[tensor] -= 1
                if left[tensor] == 0:
                    live -= size[tensor]
            for entry in range(succ_ptr[node], succ_ptr[node + 1]):
                succ = succ_idx[entry]
                waiting[succ] -= 1
                if waiting[succ] == 0:
                    _push(heap, ready, succ, key)
                    ready += 1
        peaks[row] = highest
    return peaks
