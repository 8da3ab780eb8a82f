"""Compiled safe moves of several nodes: a climb that comes back to no more live bytes than it began with.

From the ideal S a node v runs, then those of its descendants that free no less than they leave behind, then a dearer
one of these descendants, and so on, each step within the budget, until an ideal T with live(T) <= live(S) is reached.
Any ideal between S and T holds the climbs up to some point, and at least as much is live there as in T, as the nodes
that lower live bytes lower them no less the more has run. So if any order from S on is within the budget, one that
begins with v is.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def cost_of(node, graph, left):
    """(Bytes that ``node``'s step adds while it runs, and those that it adds to what is live afterwards).

    A tensor comes to life with its writer and is freed with its last reader; going backwards it comes to life with the
    first reader met, its last, and is gone with its writer.
    """
    _, _, ptr, idx, size, alloc, drop, turn, backwards = graph
    read = 0
    for entry in range(ptr[node], ptr[node + 1]):
        tensor = np.uint32(idx[entry])
        if left[tensor] == turn[tensor]:
            read += size[tensor]
    if backwards:
        return alloc[node] + read, alloc[node] - drop[node] + read
    return alloc[node], alloc[node] - drop[node] - read


@njit(cache=True)
def advance(node, graph, waits, left, fresh, count):
    """Run ``node`` and append what it makes ready to ``fresh``; the new number of these."""
    succ_ptr, succ_idx, ptr, idx = graph[:4]
    for entry in range(ptr[node], ptr[node + 1]):
        left[np.uint32(idx[entry])] -= 1
    for entry in range(succ_ptr[node], succ_ptr[node + 1]):
        succ = np.uint32(succ_idx[entry])
        waits[succ] -= 1
        if waits[succ] == 0:
            fresh[count] = succ
            count += 1
    return count


@njit(cache=True)
def _undo(node, graph, waits, left):
    succ_ptr, succ_idx, ptr, idx = graph[:4]
    for entry in range(ptr[node], ptr[node + 1]):
        left[np.uint32(idx[entry])] += 1
    for entry in range(succ_ptr[node], succ_ptr[node + 1]):
        waits[np.uint32(succ_idx[entry])] += 1


@njit(cache=True)
def descends(node, graph, waits, left, live, budget, climbs, fresh, log):
    """Whether ``node`` begins a safe move with at most ``climbs`` climbs; arrays are as before afterwards."""
    start, ran, safe = live, 0, False
    for _ in range(climbs):
        live += cost_of(node, graph, left)[1]
        log[ran] = node
        ran += 1
        count, i = advance(node, graph, waits, left, fresh, 0), 0
        while i < count:
            step, net = cost_of(fresh[i], graph, left)
            if net <= 0 and live + step <= budget:
                live += net
                log[ran] = fresh[i]
                ran += 1
                count -= 1
                fresh[i] = fresh[count]
                count, i = advance(log[ran - 1], graph, waits, left, fresh, count), 0
            else:
                i += 1
        if live <= start:
            safe = True
            break
        node, least = -1, np.int64(1) << 62
        for i in range(count):
            step, net = cost_of(fresh[i], graph, left)
            if live + step <= budget and net < least:
                node, least = fresh[i], net
        if node < 0:
            break
    for i in range(ran - 1, -1, -1):
        _undo(log[i], graph, waits, left)
    return safe
