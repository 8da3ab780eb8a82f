"""Compiled loops that look for precedences which cost nothing: some order of least peak keeps to them."""

import numpy as np
from numba import njit

from graphs._flow_kernels import has
from graphs._implied_kernels import precede

LATE, EARLY = 1, 2


@njit(cache=True)
def _size(bits):
    total = 0
    for i in range(len(bits)):
        word = bits[i]
        while word:
            word &= word - np.uint64(1)
            total += 1
    return total


@njit(cache=True)
def _freed(v, graph, readers, before, after):
    """(Bytes that ``v`` frees in any order, bytes that it can free at most)."""
    ptr, idx, _, size, _, _, _ = graph
    least, most = np.int64(0), np.int64(0)
    for entry in range(ptr[v], ptr[v + 1]):
        t = idx[entry]
        last, never = True, False
        for other in range(readers[0][t], readers[0][t + 1]):
            u = readers[1][other]
            last = last and (u == v or has(before[v], u))
            never = never or has(after[v], u)
        if last:
            least += size[t]
        if not never:
            most += size[t]
    return least, most


@njit(cache=True)
def _neighbours(v, rows, arcs, number, side, reached, near):
    """Write the nearest neighbours of ``v``, those not reached through another, to ``near``; their number.

    ``side`` 1: successors, ``reached`` what comes after each node; 0: predecessors, what comes before.
    """
    count = 0
    for entry in range(rows[0][v], rows[0][v + 1]):
        near[count] = rows[1][entry]
        count += 1
    for i in range(number):
        if arcs[i, 1 - side] == v:
            near[count] = arcs[i, side]
            count += 1
    kept = 0
    for i in range(count):
        through = False
        for j in range(count):
            through = through or has(reached[near[j]], near[i]) or (j < i and near[j] == near[i])
        if not through:
            near[kept], near[i] = near[i], near[kept]
            kept += 1
    return kept


@njit(cache=True)
def _add_pairs(v, rule, near, count, opposite, reached, pairs, number, before, after):
    """What all of ``near`` have on their other side is on that side of ``v`` too: a precedence for each nearest one."""
    arcs, at, rules = pairs
    common = opposite[near[0]].copy()
    for i in range(1, count):
        common &= opposite[near[i]]
    for word in range(len(common)):
        common[word] &= ~reached[v, word]
    common[v >> 6] &= ~(np.uint64(1) << np.uint64(v & 63))
    while number < len(at):
        best, most = -1, -1
        for u in range(len(before)):
            if has(common, u) and not has(reached[v], u):
                size = _size(reached[u])
                if size > most:
                    best, most = u, size
        if best < 0:
            break
        arcs[number, 0], arcs[number, 1] = (best, v) if rule == LATE else (v, best)
        at[number], rules[number] = v, rule
        precede(arcs[number, 0], arcs[number, 1], before, after)
        number += 1
    return number


@njit(cache=True)
def _late(v, graph, succs, readers, before, after, pairs, number, near):
    """If ``v`` may as well run right before its first successor, what is before all of these is before ``v``."""
    alloc, drop = graph[4], graph[5]
    count = _neighbours(v, succs, pairs[0], number, 1, after, near)
    most = _freed(v, graph, readers, before, after)[1]
    if count == 0 or most > alloc[v] - drop[v]:
        return number
    for i in range(count):
        if drop[v] + most > alloc[near[i]]:
            return number
    return _add_pairs(v, LATE, near, count, before, before, pairs, number, before, after)


@njit(cache=True)
def _early(w, graph, preds, readers, before, after, pairs, number, near):
    """If ``w`` may as well run right after its last predecessor, what is after all of these is after ``w``."""
    alloc, drop = graph[4], graph[5]
    count = _neighbours(w, preds, pairs[0], number, 0, before, near)
    if count == 0 or alloc[w] - drop[w] > _freed(w, graph, readers, before, after)[0]:
        return number
    for i in range(count):
        if alloc[w] > drop[near[i]] + _freed(near[i], graph, readers, before, after)[0]:
            return number
    return _add_pairs(w, EARLY, near, count, after, after, pairs, number, before, after)


@njit(cache=True, nogil=True)
def reduce(graph, preds, succs, readers, before, after, pairs, number, stop):
    """The new number of precedences once no rule adds any; O(n (n + precedences)) a round."""
    n, began = len(before), -1
    near = np.empty(n + len(pairs[1]), np.int32)
    while number > began and not stop[0]:
        began = number
        for v in range(n - 1, -1, -1):
            if stop[0]:
                return number
            number = _late(v, graph, succs, readers, before, after, pairs, number, near)
        for w in range(n):
            if stop[0]:
                return number
            number = _early(w, graph, preds, readers, before, after, pairs, number, near)
    return number
