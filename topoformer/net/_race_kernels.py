"""Exact samples of a static policy by an exponential race, compiled.

When node v becomes ready at clock T it is to run at T + Exp(1) / exp(priority of v), and the earliest runs next. As
exponential waits have no memory, each step picks a ready node with probability exp(priority) over the sum of the ready
nodes', and yet draws one number a node, where picking anew at each step would look at all that are ready.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def push(heap, size, time, node):
    """Put ``node`` into the binary heap of ``size`` nodes, ordered by ``time``."""
    at = size
    while at and time[heap[(at - 1) // 2]] > time[node]:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = node


@njit(cache=True, nogil=True)
def pop(heap, size, time):
    """Take the earliest node out of a heap of ``size`` nodes."""
    first, moved = heap[0], heap[size - 1]
    at = 0
    while 2 * at + 1 < size - 1:
        child = 2 * at + 1
        if child + 1 < size - 1 and time[heap[child + 1]] < time[heap[child]]:
            child += 1
        if time[heap[child]] >= time[moved]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = moved
    return first


@njit(cache=True, nogil=True)
def race(waits, succ_ptr, succ_idx, priority, seed, orders):
    """Independent orders into ``orders``, int32[samples, n]; O((n + m) log n) each."""
    np.random.seed(seed)
    n = len(waits)
    highest = priority.max() if n else np.float32(0)
    slowness = np.exp((highest - priority).astype(np.float64))  # 1 / rate, the fastest at 1
    time, heap = np.empty(n), np.empty(n, np.int32)
    for s in range(len(orders)):
        left, size, clock = waits.copy(), 0, 0.0
        for node in range(n):
            if left[node] == 0:
                time[node] = np.random.exponential() * slowness[node]
                push(heap, size, time, node)
                size += 1
        for t in range(n):
            node = pop(heap, size, time)
            size -= 1
            orders[s, t], clock = node, time[node]
            for entry in range(succ_ptr[node], succ_ptr[node + 1]):
                succ = succ_idx[entry]
                left[succ] -= 1
                if left[succ] == 0:
                    time[succ] = clock + np.random.exponential() * slowness[succ]
                    push(heap, size, time, succ)
                    size += 1
