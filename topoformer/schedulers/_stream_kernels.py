"""Compiled list scheduling on several streams: what can start earliest, the longest remaining path first."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _release(now, running, finish, readers_left, arrays, live):
    """Let go of what nodes that finished by ``now`` were the last to read; returns live bytes, and who still runs."""
    ptr, idx, _, size, _, drop, _ = arrays
    kept = 0
    for place in range(len(running)):
        node = running[place]
        if finish[node] > now:
            running[kept] = node
            kept += 1
            continue
        live -= drop[node]
        for entry in range(ptr[node], ptr[node + 1]):
            readers_left[idx[entry]] -= 1
            if readers_left[idx[entry]] == 0:
                live -= size[idx[entry]]
    return live, kept


@njit(cache=True, nogil=True)
def _choice(ready, available, free, link, rank, need, communicates, room):
    """Place in ``ready`` of the node to issue: it fits into ``room``, starts earliest, has the longest path to go.

    Where none fits, the one that needs least.
    """
    best, best_start, best_fits = -1, 0.0, False
    for place in range(len(ready)):
        node = ready[place]
        start = max(available[node], link if communicates[node] else free)
        fits = need[node] <= room
        if best < 0 or fits > best_fits:
            better = True
        elif fits < best_fits:
            better = False
        elif not fits and need[node] != need[ready[best]]:
            better = need[node] < need[ready[best]]
        elif start != best_start:
            better = start < best_start
        else:
            rival = ready[best]
            better = rank[node] > rank[rival] or (rank[node] == rank[rival] and node < rival)
        if better:
            best, best_start, best_fits = place, start, fits
    return best


@njit(cache=True, nogil=True)
def stream_schedule(preds, succs, arrays, seconds, communicates, streams, rank, cap):
    """Order, int32[n], in which to issue nodes to ``streams``; O(n w) with w nodes ready at once.

    ``rank`` is each node's longest path to the end; live bytes are to stay within ``cap`` (negative: no limit).
    """
    succ_ptr, succ_idx = succs
    _, _, uses, _, need, _, start_bytes = arrays
    n = len(seconds)
    order, waits = np.empty(n, np.int32), np.diff(preds[0])
    available, finish, free, link = np.zeros(n), np.zeros(n), np.zeros(streams), 0.0
    ready, running = np.empty(n, np.int32), np.empty(n, np.int32)
    waiting, active, live = 0, 0, start_bytes
    readers_left = uses.copy()
    for node in range(n):
        if waits[node] == 0:
            ready[waiting] = node
            waiting += 1
    for t in range(n):
        stream = np.argmin(free)
        if cap >= 0:
            live, active = _release(free[stream], running[:active], finish, readers_left, arrays, live)
        room = cap - live if cap >= 0 else np.int64(1) << 62
        place = _choice(ready[:waiting], available, free[stream], link, rank, need, communicates, room)
        node = ready[place]
        waiting -= 1
        ready[place] = ready[waiting]
        begin = max(available[node], link if communicates[node] else free[stream])
        if cap >= 0:
            live, active = _release(begin, running[:active], finish, readers_left, arrays, live)
            running[active] = node
            active += 1
            live += need[node]
        finish[node] = begin + seconds[node]
        if communicates[node]:
            link = finish[node]
        else:
            free[stream] = finish[node]
        order[t] = node
        for entry in range(succ_ptr[node], succ_ptr[node + 1]):
            succ = succ_idx[entry]
            waits[succ] -= 1
            available[succ] = max(available[succ], finish[node])
            if waits[succ] == 0:
                ready[waiting] = succ
                waiting += 1
    return order
