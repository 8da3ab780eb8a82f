"""Compiled loops of the schedulers; callers check what they pass.

The ready nodes of list scheduling stand in a tournament: a full binary tree in an array whose inner vertices hold the
better of their two children. One set of the tree serves every policy: its root is the best ready node, and the best
among the first leaves takes one walk.
"""

import numpy as np
from numba import njit

from graphs.csr import Int32Array, Int64Array

STATIC, ARRIVAL, NET_CHANGE = 0, 1, 2  # what a node's key is: given, when it became ready, bytes it adds
NOBODY = np.int32(-1)


@njit(cache=True)
def _better(a: int, b: int, key: Int64Array) -> int:
    if a < 0 or b < 0:
        return max(a, b)
    return a if key[a] < key[b] or (key[a] == key[b] and a < b) else b


@njit(cache=True)
def _set(tree: Int32Array, leaf: int, node: int, key: Int64Array) -> None:
    """Put ``node`` (or nobody) at a leaf and play its matches again."""
    at = leaf + len(tree) // 2
    tree[at] = node
    while at > 1:
        at //= 2
        tree[at] = _better(tree[2 * at], tree[2 * at + 1], key)


@njit(cache=True)
def _best_before(tree: Int32Array, end: int, key: Int64Array) -> int:
    """Best node on the leaves 0 .. end - 1, or nobody."""
    best = -1
    low, high = len(tree) // 2, len(tree) // 2 + end
    while low < high:
        if low & 1:
            best = _better(best, tree[low], key)
            low += 1
        if high & 1:
            high -= 1
            best = _better(best, tree[high], key)
        low //= 2
        high //= 2
    return best


@njit(cache=True)
def _first(tree: Int32Array) -> int:
    """The node on the first leaf that is taken; there must be one."""
    at = 1
    while at < len(tree) // 2:
        at = 2 * at if tree[2 * at] >= 0 else 2 * at + 1
    return tree[at]


@njit(cache=True)
def _choose(tree: Int32Array, key: Int64Array, need: Int64Array, sorted_need: Int64Array, room: int) -> int:
    """Best node among those that need at most ``room`` bytes; if none does, among those that need least."""
    best = _best_before(tree, np.searchsorted(sorted_need, room, side="right"), key)
    if best >= 0:
        return best
    least = need[_first(tree)]
    return _best_before(tree, np.searchsorted(sorted_need, least, side="right"), key)


@njit(cache=True)
def list_schedule(
    pred_ptr: Int32Array,
    succ_ptr: Int32Array,
    succ_idx: Int32Array,
    ptr: Int32Array,
    idx: Int32Array,
    uses: Int32Array,
    size: Int64Array,
    need: Int64Array,
    drop: Int64Array,
    start: int,
    key: Int64Array,
    mode: int,
    within_peak: bool,
) -> Int32Array:
    """Run ready nodes in ascending (key, node); returns order, int32[n]. ``key`` is overwritten; O((n + m) log n).

    ``mode`` says what the key is; with NET_CHANGE it follows which tensors the node would free. ``within_peak`` lets
    nodes that do not raise the peak go first, and if all would, the smallest.
    """
    n = len(need)
    leaf = np.arange(n, dtype=np.int32)
    if within_peak:
        leaf[np.argsort(need, kind="mergesort")] = np.arange(n, dtype=np.int32)
    sorted_need = np.sort(need) if within_peak else need
    base = 1
    while base < n:
        base *= 2
    tree = np.full(2 * base, NOBODY)
    waits = np.diff(pred_ptr)
    left = uses.copy()
    unfinished = np.zeros(len(uses), np.int64)  # sum of the numbers of the readers that are still to run
    for node in range(n):
        for entry in range(ptr[node], ptr[node + 1]):
            unfinished[idx[entry]] += node
            if mode == NET_CHANGE and uses[idx[entry]] == 1:
                key[node] -= size[idx[entry]]
    arrived = 0
    for node in range(n):
        if waits[node] == 0:
            key[node] = arrived if mode == ARRIVAL else key[node]
            arrived += 1
            _set(tree, leaf[node], node, key)
    order = np.empty(n, np.int32)
    live = highest = start
    for t in range(n):
        node = _choose(tree, key, need, sorted_need, highest - live) if within_peak else tree[1]
        order[t] = node
        _set(tree, leaf[node], NOBODY, key)
        live += need[node]
        highest = max(highest, live)
        live -= drop[node]
        for entry in range(ptr[node], ptr[node + 1]):
            tensor = idx[entry]
            left[tensor] -= 1
            unfinished[tensor] -= node
            if left[tensor] == 0:
                live -= size[tensor]
            elif left[tensor] == 1 and mode == NET_CHANGE:
                last = unfinished[tensor]
                key[last] -= size[tensor]
                if waits[last] == 0:
                    _set(tree, leaf[last], last, key)
        for entry in range(succ_ptr[node], succ_ptr[node + 1]):
            succ = succ_idx[entry]
            waits[succ] -= 1
            if waits[succ] == 0:
                key[succ] = arrived if mode == ARRIVAL else key[succ]
                arrived += 1
                _set(tree, leaf[succ], succ, key)
    return order


@njit(cache=True)
def post_order(ptr: Int32Array, idx: Int32Array, roots: Int32Array) -> Int32Array:
    """Depth-first post-order of the rows (``ptr``, ``idx``) from ``roots``, int32[n], without recursion."""
    n = len(ptr) - 1
    order, seen, cursor = np.empty(n, np.int32), np.zeros(n, np.bool_), ptr[:-1].copy()
    stack = np.empty(n + 1, np.int32)
    done = 0
    for root in roots:
        if seen[root]:
            continue
        seen[root], stack[0], depth = True, root, 1
        while depth:
            node = stack[depth - 1]
            if cursor[node] == ptr[node + 1]:
                order[done] = node
                done, depth = done + 1, depth - 1
                continue
            child = idx[cursor[node]]
            cursor[node] += 1
            if not seen[child]:
                seen[child], stack[depth] = True, child
                depth += 1
    return order


@njit(cache=True)
def cone_peaks(ptr: Int32Array, idx: Int32Array, kept: Int64Array, alloc: Int64Array, most: int) -> Int64Array:
    """Bytes that each node and all before it need, int64[n], were it the root of a tree: Liu's recursion.

    Children come in the order of Liu: those first whose peak is furthest above what stays of them, ``kept``. In a graph
    that is no tree what two children share counts twice, so this is a guess; it ends at ``most``.
    """
    n = len(ptr) - 1
    peak = np.empty(n, np.int64)
    for node in range(n):
        row = idx[ptr[node] : ptr[node + 1]]
        held = needed = np.int64(0)
        for place in np.argsort(kept[row] - peak[row], kind="mergesort"):
            child = row[place]
            needed = max(needed, held + peak[child])
            held += kept[child]
        peak[node] = min(max(needed, held + alloc[node]), most)
    return peak


@njit(cache=True)
def _older(a, b, ptr, places):
    """Whether the places of ``a``'s predecessors come before those of ``b``'s, as sorted sequences; then by number."""
    mine, other = ptr[a + 1] - ptr[a], ptr[b + 1] - ptr[b]
    for i in range(min(mine, other)):
        if places[ptr[a] + i] != places[ptr[b] + i]:
            return places[ptr[a] + i] < places[ptr[b] + i]
    return mine < other if mine != other else a < b


@njit(cache=True)
def oldest_first(pred_ptr, pred_idx, succ_ptr, succ_idx):
    """Order, int32[n]: of the ready nodes the one whose predecessors ran earliest, by a heap of them."""
    n = len(pred_ptr) - 1
    order, place, heap = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32)
    places, waits = np.empty(len(pred_idx), np.int32), np.empty(n, np.int32)
    size = 0
    for v in range(n):
        waits[v] = pred_ptr[v + 1] - pred_ptr[v]
        if waits[v] == 0:
            size = _push(v, heap, size, pred_ptr, places)
    for t in range(n):
        v = heap[0]
        size = _pop(heap, size, pred_ptr, places)
        order[t], place[v] = v, t
        for entry in range(succ_ptr[v], succ_ptr[v + 1]):
            u = succ_idx[entry]
            waits[u] -= 1
            if waits[u] == 0:
                row = np.sort(place[pred_idx[pred_ptr[u] : pred_ptr[u + 1]]])
                places[pred_ptr[u] : pred_ptr[u + 1]] = row
                size = _push(u, heap, size, pred_ptr, places)
    return order


@njit(cache=True)
def _push(v, heap, size, ptr, places):
    at = size
    while at > 0 and _older(v, heap[(at - 1) // 2], ptr, places):
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = v
    return size + 1


@njit(cache=True)
def _pop(heap, size, ptr, places):
    last, at = heap[size - 1], 0
    while 2 * at + 1 < size - 1:
        child = 2 * at + 1
        if child + 1 < size - 1 and _older(heap[child + 1], heap[child], ptr, places):
            child += 1
        if not _older(heap[child], last, ptr, places):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last
    return size - 1
