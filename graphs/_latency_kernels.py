"""Compiled loops of the latency and traffic models; callers check what they pass."""

import numpy as np
from numba import njit

from graphs.csr import Float64Array, Int32Array, Int64Array, UInt32Array


@njit(cache=True, nogil=True)
def timeline(
    order: Int32Array,
    pred_ptr: Int32Array,
    pred_idx: Int32Array,
    seconds: Float64Array,
    communicates: Int32Array,
    streams: int,
) -> tuple[Float64Array, Float64Array, Int32Array]:
    """(start, finish, stream) of each node, float64[n] and int32[n], when they are issued in ``order``.

    A node goes to the stream that is free first; a communicating one to stream ``streams``, of which there is one. It
    starts when the stream is free and all of its predecessors have finished.
    """
    n = len(order)
    start, finish, place = np.empty(n), np.empty(n), np.empty(n, np.int32)
    free = np.zeros(streams + 1)
    for t in range(n):
        node = order[t]
        ready = 0.0
        for entry in range(pred_ptr[node], pred_ptr[node + 1]):
            ready = max(ready, finish[pred_idx[entry]])
        stream = streams
        if not communicates[node]:
            stream = 0
            for other in range(1, streams):
                if free[other] < free[stream]:
                    stream = other
        start[node] = max(ready, free[stream])
        finish[node] = start[node] + seconds[node]
        free[stream] = finish[node]
        place[node] = stream
    return start, finish, place


@njit(cache=True, nogil=True)
def concurrent_profile(
    order: Int32Array,
    start: Float64Array,
    finish: Float64Array,
    ptr: UInt32Array,
    idx: UInt32Array,
    size: Int64Array,
    alloc: Int64Array,
    drop: Int64Array,
    live: int,
) -> tuple[Float64Array, Int64Array]:
    """(time, bytes live from then on) of the 2 n events, in time: nodes start, nodes finish.

    A node's memory is there from its start; what it is the last to read goes when it finishes, and so do its scratch
    and what nobody reads. Of events at one time those of nodes issued earlier come first.
    """
    n = len(order)
    position = np.empty(n, np.int32)
    freed = np.empty(n, np.int64)  # by position, as the times are
    begin, end = np.empty(n), np.empty(n)
    for t in range(n):
        node = order[t]
        position[node] = t
        freed[t] = drop[node]
        begin[t], end[t] = start[node], finish[node]
    for tensor in range(len(size)):
        last = -1
        for entry in range(ptr[tensor], ptr[tensor + 1]):
            t = position[idx[entry]]
            if last < 0 or end[t] > end[last] or (end[t] == end[last] and t > last):
                last = t
        if last >= 0:
            freed[last] += size[tensor]
    starts, ends = np.argsort(begin, kind="mergesort"), np.argsort(end, kind="mergesort")  # stable: by position
    times, level = np.empty(2 * n), np.empty(2 * n, np.int64)
    s = e = 0
    while e < n:
        at_start = s < n and (
            begin[starts[s]] < end[ends[e]] or (begin[starts[s]] == end[ends[e]] and starts[s] <= ends[e])
        )
        if at_start:
            times[s + e] = begin[starts[s]]
            live += alloc[order[starts[s]]]
            level[s + e] = live
            s += 1
        else:
            times[s + e] = end[ends[e]]
            live -= freed[ends[e]]
            level[s + e] = live
            e += 1
    return times, level


@njit(cache=True, nogil=True)
def path_lengths(succ_ptr: Int32Array, succ_idx: Int32Array, seconds: Float64Array) -> Float64Array:
    """Longest path from the start of each node to the end of the graph, float64[n]; nodes are in a legal order."""
    n = len(seconds)
    length = np.empty(n)
    for node in range(n - 1, -1, -1):
        rest = 0.0
        for entry in range(succ_ptr[node], succ_ptr[node + 1]):
            rest = max(rest, length[succ_idx[entry]])
        length[node] = seconds[node] + rest
    return length


BLOCK = 64  # steps that are passed over at once where nothing on the chip is used


@njit(cache=True, nogil=True)
def _shrink(
    room: int,
    held: int,
    now: int,
    top: int,
    first: Int32Array,
    following: Int32Array,
    blocks: Int32Array,
    on_chip: Int64Array,
    least: Int64Array,
) -> tuple[int, int]:
    """Put bytes off the chip, those used furthest in the future first, until at most ``room`` are held.

    What is used up to step ``now`` stays. ``first`` begins for each step, up to ``top``, a list of the tensors on the
    chip that it uses next, latest used first; ``blocks`` counts the lists in each block of steps. Returns (bytes held,
    new top).
    """
    while held > room and top > now:
        tensor = first[top]
        if tensor < 0:
            top = top - 1 if blocks[top // BLOCK] else top // BLOCK * BLOCK - 1
            continue
        gone = min(on_chip[tensor], held - room)
        on_chip[tensor] -= gone
        held -= gone
        least[tensor] = min(least[tensor], on_chip[tensor])
        if on_chip[tensor] == 0:
            first[top] = following[tensor]
            blocks[top // BLOCK] -= first[top] < 0
    return held, top


@njit(cache=True, nogil=True)
def _next_uses(order: Int32Array, ptr: Int32Array, idx: Int32Array, k: int) -> tuple[Int32Array, Int32Array]:
    """(step of each tensor's first use, int32[k]; step of the next use after each entry), n where there is none."""
    n = len(order)
    first, after = np.full(k, n, np.int32), np.empty(len(idx), np.int32)
    for t in range(n - 1, -1, -1):
        node = order[t]
        for entry in range(ptr[node], ptr[node + 1]):
            after[entry] = first[idx[entry]]
            first[idx[entry]] = t
    return first, after


@njit(cache=True, nogil=True)
def traffic(
    order: Int32Array,
    ptr: Int32Array,
    idx: Int32Array,
    write_ptr: Int32Array,
    write_idx: Int32Array,
    size: Int64Array,
    kind: Int32Array,
    scratch: Int64Array,
    capacity: int,
) -> tuple[Int64Array, Int64Array]:
    """(bytes fetched, bytes written back) at each step, int64[n] each; see :func:`graphs.traffic.simulate_traffic`.

    ``kind`` is 0 for a tensor that a node writes, 1 for one that is written and kept to the end, 2 for one that is off
    the chip from the start. What a tensor writes back is charged to the step that uses it last: which of its bytes
    were ever off the chip is known then.
    """
    n = len(order)
    fetched, written = np.zeros(n, np.int64), np.zeros(n, np.int64)
    next_use, after = _next_uses(order, ptr, idx, len(size))
    on_chip, least = np.zeros(len(size), np.int64), size.copy()
    first, following, blocks = (
        np.full(n, -1, np.int32),
        np.empty(len(size), np.int32),
        np.zeros(n // BLOCK + 1, np.int32),
    )
    held, top = 0, -1
    for t in range(n):
        node = np.uint32(order[t])
        wanted = scratch[node]
        for entry in range(ptr[node], ptr[node + 1]):
            tensor = np.uint32(idx[entry])
            wanted += size[tensor]
            held -= on_chip[tensor]
            fetched[t] += size[tensor] - on_chip[tensor]
            on_chip[tensor] = size[tensor]
        for entry in range(write_ptr[node], write_ptr[node + 1]):
            tensor = np.uint32(write_idx[entry])
            wanted += size[tensor]
            if kind[tensor] == 1:
                written[t] += size[tensor]
        if held > max(0, capacity - wanted):
            held, top = _shrink(max(0, capacity - wanted), held, t, top, first, following, blocks, on_chip, least)
        for entry in range(ptr[node], ptr[node + 1]):
            tensor, use = np.uint32(idx[entry]), after[entry]
            if use == n:
                on_chip[tensor] = 0
                written[t] += size[tensor] - least[tensor] if kind[tensor] == 0 else 0
            elif size[tensor]:
                held += size[tensor]
                blocks[use // BLOCK] += first[use] < 0
                following[tensor], first[use] = first[use], tensor
                top = max(top, use)
        for entry in range(write_ptr[node], write_ptr[node + 1]):
            tensor = np.uint32(write_idx[entry])
            use = next_use[tensor]
            if use < n and size[tensor]:
                on_chip[tensor] = size[tensor]
                held += size[tensor]
                blocks[use // BLOCK] += first[use] < 0
                following[tensor], first[use] = first[use], tensor
                top = max(top, use)
        if held > capacity:
            held, top = _shrink(capacity, held, t, top, first, following, blocks, on_chip, least)
    return fetched, written
