"""Compiled depth-first search over ideals within a budget.

One state is changed and changed back. Ideals that were entered are remembered, as many as there is memory for: within a
budget it does not matter how an ideal was reached, so that none need be entered twice.
"""

import numpy as np
from numba import njit

from topoformer.schedulers._descent_kernels import cost_of, descends

EXHAUSTED, FOUND, STOPPED = 0, 1, 2


@njit(cache=True)
def _run(node, graph, state, way):
    """Run ``node`` (way 1), or take it back (way -1)."""
    succ_ptr, succ_idx, ptr, idx = graph[:4]
    waits, left, ready, place, count, bits = state
    for entry in range(ptr[node], ptr[node + 1]):
        left[np.uint32(idx[entry])] -= way
    if way > 0:
        _leave(node, ready, place, count)
    for entry in range(succ_ptr[node], succ_ptr[node + 1]):
        succ = np.uint32(succ_idx[entry])
        if way < 0 and waits[succ] == 0:
            _leave(succ, ready, place, count)
        waits[succ] -= way
        if way > 0 and waits[succ] == 0:
            _enter(succ, ready, place, count)
    if way < 0:
        _enter(node, ready, place, count)
    bits[node >> 6] ^= np.uint64(1) << np.uint64(node & 63)


@njit(cache=True)
def _enter(node, ready, place, count):
    ready[count[0]], place[node] = node, count[0]
    count[0] += 1


@njit(cache=True)
def _leave(node, ready, place, count):
    count[0] -= 1
    other = ready[count[0]]
    ready[place[node]], place[other] = other, place[node]


@njit(cache=True)
def _slots(capacity):
    slots = 16
    while slots < 2 * capacity:
        slots *= 2
    return slots


@njit(cache=True)
def _seen(code, bits, table, codes, stored, number):
    """Whether the ideal is among the ``number`` stored ones; where not and there is room, it is stored."""
    mask = len(table) - 1
    slot = np.int64((code ^ (code >> np.uint64(31))) & np.uint64(mask))
    while table[slot] >= 0:
        entry = table[slot]
        if codes[entry] == code:
            same = True
            for word in range(len(bits)):
                same = same and stored[entry, word] == bits[word]
            if same:
                return True
        slot = (slot + 1) & mask
    if number[0] < len(codes):
        table[slot], codes[number[0]], stored[number[0]] = number[0], code, bits
        number[0] += 1
    return False


@njit(cache=True)
def _safe(graph, state, live, budget, climbs, room):
    """A ready node that begins a safe move; -1 if there is none."""
    waits, left, ready, _, count, _ = state
    for i in range(count[0]):
        step, net = cost_of(ready[i], graph, left)
        if net <= 0 and live + step <= budget:
            return ready[i]
    for i in range(count[0] if climbs else 0):
        step, _ = cost_of(ready[i], graph, left)
        if live + step <= budget and descends(ready[i], graph, waits, left, live, budget, climbs, room[0], room[1]):
            return ready[i]
    return -1


@njit(cache=True)
def _branch(graph, state, live, budget, priority, kids, keys, first):
    """Write the children to ``kids[first:]``, the most promising last; where they end."""
    _, left, ready, _, count, _ = state
    last = first
    for i in range(count[0]):
        node = ready[i]
        step, net = cost_of(node, graph, left)
        if live + step > budget:
            continue
        key, at = net - priority[node], last
        while at > first and (keys[at - 1] < key or (keys[at - 1] == key and kids[at - 1] < node)):
            keys[at], kids[at] = keys[at - 1], kids[at - 1]
            at -= 1
        keys[at], kids[at] = key, node
        last += 1
    return last


@njit(cache=True, nogil=True)
def dive(graph, start, levels, budget, climbs, priority, zobrist, capacity, most, stop):
    """(FOUND, EXHAUSTED or STOPPED; moves, int32[levels]; number of states entered).

    ``priority``, float64[p], in bytes: children go by what is live after them less it, the lowest first. ``capacity``
    ideals are remembered, ``most`` entered.
    """
    waits0, left0, ready0, live = start
    n, words = len(waits0), (len(waits0) + 63) // 64
    place, count, bits = np.full(n, -1, np.int32), np.zeros(1, np.int64), np.zeros(words, np.uint64)
    left = left0.copy()
    state = (waits0.copy(), left, np.empty(n, np.int32), place, count, bits)
    for node in ready0:
        _enter(node, state[2], place, count)
    table, codes = np.full(_slots(capacity), -1, np.int32), np.empty(capacity, np.uint64)
    stored, number = np.empty((capacity, words), np.uint64), np.zeros(1, np.int64)
    scratch = np.empty((2, n), np.int32)
    kids, keys = np.empty(8 * n + 4096, np.int32), np.empty(8 * n + 4096, np.float64)
    moves, before = np.empty(levels, np.int32), np.empty(levels + 1, np.int64)  # live bytes before each move
    ends, since = np.zeros(levels + 2, np.int64), np.zeros(levels + 2, np.int64)  # of each open branch
    ran, depth, entered, code = 0, 0, 0, np.uint64(0)
    while True:
        node = _safe(graph, state, live, budget, climbs, scratch)
        if node < 0 and ran < levels:
            entered += 1
            if stop[0] or entered > most:
                return STOPPED, moves, entered
            begin = end = ends[depth]
            if begin + count[0] > len(kids):
                kids, keys = np.append(kids, np.empty_like(kids)), np.append(keys, np.empty_like(keys))
            if not _seen(code, bits, table, codes, stored, number):
                end = _branch(graph, state, live, budget, priority, kids, keys, begin)
            depth += 1
            ends[depth], since[depth] = end, ran
        if ran == levels:
            return FOUND, moves, entered
        if node < 0:  # the next child of the innermost branch that has one left
            while depth > 0 and ends[depth] == ends[depth - 1]:
                depth -= 1
            if depth == 0:
                return EXHAUSTED, moves, entered
            while ran > since[depth]:
                ran -= 1
                _run(moves[ran], graph, state, -1)
                code ^= zobrist[moves[ran]]
                live = before[ran]
            ends[depth] -= 1
            node = kids[ends[depth]]
        moves[ran], before[ran] = node, live
        live += cost_of(node, graph, left)[1]
        ran += 1
        _run(node, graph, state, 1)
        code ^= zobrist[node]
