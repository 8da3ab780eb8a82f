"""Compiled loops of the down-set beam.

A state is an ideal (the set of nodes that have run): for each node how many predecessors are still to run, for each
freed tensor how many readers are, the ready nodes, the set as bits, its Zobrist code, live bytes and the peak so far.
States of one level have run equally many nodes, so that equal ideals meet there and the better one stands for both.
"""

import numpy as np
from numba import njit

from topoformer.schedulers._descent_kernels import advance, cost_of, descends


@njit(cache=True)
def _run(node, graph, waits, left, ready, count):
    """Run ``node`` in a state's arrays; returns the new number of ready nodes."""
    place = 0
    while ready[place] != node:
        place += 1
    for i in range(place, count - 1):  # keeps the order of arrival, by which ties between nodes are settled
        ready[i] = ready[i + 1]
    return advance(node, graph, waits, left, ready, count - 1)


@njit(cache=True)
def _children(state, graph, states, floor, limit, climbs, room, found, made):
    """Append one state's children within ``limit`` to ``found``; a safe move is the only child there need be."""
    nodes, parents, lives, peaks = found
    waits, left, ready, counts, live, peak = states
    budget = max(peak[state], floor)
    first = made
    for several in range(2 if climbs else 1):
        for i in range(counts[state]):
            node = ready[state, i]
            step, net = cost_of(node, graph, left[state])
            step += live[state]
            if step > limit:
                continue
            safe = step <= budget and net <= 0
            if several:
                if step > budget or not descends(
                    node, graph, waits[state], left[state], live[state], budget, climbs, room[0], room[1]
                ):
                    continue
                safe = True
            if safe:
                made = first
            nodes[made], parents[made] = node, state
            lives[made], peaks[made] = live[state] + net, max(peak[state], step)
            made += 1
            if safe:
                return made
    return made


@njit(cache=True)
def _same(a, b, found, bits):
    """Whether two candidates are the same ideal: their parents' bits and the node each adds."""
    nodes, parents, _, _ = found
    one = np.uint64(1)
    for word in range(bits.shape[1]):
        left, right = bits[parents[a], word], bits[parents[b], word]
        if nodes[a] >> 6 == word:
            left |= one << np.uint64(nodes[a] & 63)
        if nodes[b] >> 6 == word:
            right |= one << np.uint64(nodes[b] & 63)
        if left != right:
            return False
    return True


@njit(cache=True)
def _merge(made, found, codes, zobrist, bits, table, keep):
    """Indices of the distinct ideals among the candidates, of each the one with the lowest peak; how many."""
    nodes, parents, _, peaks = found
    mask = len(table) - 1
    table[:] = -1
    kept = 0
    for i in range(made):
        code = codes[parents[i]] ^ zobrist[nodes[i]]
        slot = np.int64((code ^ (code >> np.uint64(31))) & np.uint64(mask))
        while table[slot] >= 0:
            other = keep[table[slot]]
            if codes[parents[other]] ^ zobrist[nodes[other]] == code and _same(i, other, found, bits):
                if peaks[i] < peaks[other]:
                    keep[table[slot]] = i
                break
            slot = (slot + 1) & mask
        if table[slot] < 0:
            table[slot] = kept
            keep[kept] = i
            kept += 1
    return kept


@njit(cache=True)
def _select(kept, keep, found, floor, width):
    """Move the ``width`` best of the candidates ``keep[:kept]`` to the front: by peak above the floor, then live."""
    if kept <= width:
        return kept
    _, _, lives, peaks = found
    highest = 1.0
    for i in range(kept):
        highest = max(highest, float(lives[keep[i]]))
    rank = np.empty(kept, np.float64)
    for i in range(kept):
        rank[i] = max(peaks[keep[i]] - floor, 0) + lives[keep[i]] / (highest + 1.0)
    worst = np.partition(rank, width - 1)[width - 1]
    below = 0
    for i in range(kept):
        below += rank[i] < worst
    ties = width - below
    taken = 0
    for i in range(kept):
        if rank[i] < worst or (rank[i] == worst and ties > 0):
            ties -= rank[i] == worst
            keep[taken] = keep[i]
            taken += 1
    return taken


@njit(cache=True, nogil=True)
def beam(graph, start, levels, width, floor, limit, climbs, zobrist, stop):
    """(moves, peak, whether all ideals within ``limit`` were seen, number of states made).

    ``start``: (waits, left, ready nodes, live bytes) of the state to begin with; nodes outside of the search wait for
    ever. Peaks up to ``floor`` count as equal. Safe moves of several nodes have at most ``climbs`` climbs. ``moves``,
    int32[levels], is the best sequence found, its peak -1 if there is none. Setting ``stop[0]`` from another thread
    ends the search.
    """
    waits0, left0, ready0, live0 = start
    n, k = len(waits0), len(left0)
    words = (n + 63) // 64
    waits, left = np.empty((2, width, n), waits0.dtype), np.empty((2, width, k), left0.dtype)
    ready, counts = np.empty((2, width, n), np.int32), np.zeros((2, width), np.int32)
    bits, codes = np.zeros((2, width, words), np.uint64), np.zeros((2, width), np.uint64)
    live, peak = np.zeros((2, width), np.int64), np.zeros((2, width), np.int64)
    parent, move = np.empty((levels, width), np.int32), np.empty((levels, width), np.int32)
    waits[0, 0], left[0, 0], counts[0, 0], live[0, 0] = waits0, left0, len(ready0), live0
    ready[0, 0, : len(ready0)] = ready0
    states, now, complete, total = 1, 0, True, 0
    scratch = np.empty((2, n), np.int32)
    for level in range(levels):
        room = 0
        for s in range(states):
            room += counts[now, s]
        found = (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int64), np.empty(room, np.int64))
        made, level_states = 0, (waits[now], left[now], ready[now], counts[now], live[now], peak[now])
        for s in range(states):
            made = _children(s, graph, level_states, floor, limit, climbs, scratch, found, made)
        slots = 16
        while slots < 2 * made:
            slots *= 2
        keep = np.empty(made, np.int32)
        kept = _merge(made, found, codes[now], zobrist, bits[now], np.empty(slots, np.int32), keep)
        complete = complete and kept <= width
        states_next = _select(kept, keep, found, floor, width)
        if states_next == 0 or stop[0]:
            return np.empty(0, np.int32), -1, complete and not stop[0], total
        following = 1 - now
        total += states_next
        for s in range(states_next):
            node, source = found[0][keep[s]], found[1][keep[s]]
            parent[level, s], move[level, s] = source, node
            waits[following, s], left[following, s] = waits[now, source], left[now, source]
            count = counts[now, source]
            ready[following, s, :count] = ready[now, source, :count]
            counts[following, s] = _run(
                node, graph, waits[following, s], left[following, s], ready[following, s], count
            )
            bits[following, s] = bits[now, source]
            bits[following, s, node >> 6] |= np.uint64(1) << np.uint64(node & 63)
            codes[following, s] = codes[now, source] ^ zobrist[node]
            live[following, s], peak[following, s] = found[2][keep[s]], found[3][keep[s]]
        states, now = states_next, following
    best = np.argmin(peak[now, :states])
    reached = peak[now, best]
    moves = np.empty(levels, np.int32)
    for level in range(levels - 1, -1, -1):
        moves[level] = move[level, best]
        best = parent[level, best]
    return moves, reached, complete, total
