"""Compiled loops that find which nodes must run before which in every order within a budget.

For each node the ideals from which it can run within the budget are remembered, some of them: a node that is on either
side in them need not be asked about. ``known`` is (those ideals, their steps' costs, their number, the nodes that are
inside of one of them, the nodes that are outside of one, room for an ideal), the last three of the node looked at.
"""

import numpy as np
from numba import njit

from graphs._flow_kernels import ENDLESS, FREE, SINK, SOURCE, add, arcs_rows, augment, has, part_network

OPEN, REFUTED, STOPPED = 0, 1, 2


@njit(cache=True)
def _closed(ideal, arcs, first, last):
    """Whether ``ideal`` is closed under the precedences ``arcs[first:last]``."""
    for i in range(first, last):  # noqa: SIM110
        if has(ideal, arcs[i, 1]) and not has(ideal, arcs[i, 0]):
            return False
    return True


@njit(cache=True)
def _keep_known(v, known, arcs, first, last, budget):
    """Forget those of ``v``'s known ideals that new precedences or the budget forbid; note what the rest show."""
    ideals, costs, counts, inside, outside, _ = known
    kept = 0
    inside[:], outside[:] = 0, 0
    for i in range(counts[v]):
        if costs[v, i] <= budget and _closed(ideals[v, i], arcs, first, last):
            ideals[v, kept], costs[v, kept] = ideals[v, i], costs[v, i]
            for word in range(len(inside)):
                inside[word] |= ideals[v, kept, word]
                outside[word] |= ~ideals[v, kept, word]
            kept += 1
    counts[v] = kept


@njit(cache=True)
def _learn(v, ideal, cost, known):
    """Remember an ideal from which ``v`` can run, if it shows a node on a side on which none was known."""
    ideals, costs, counts, inside, outside, _ = known
    new = False
    for word in range(len(ideal)):
        new = new or (ideal[word] & ~inside[word]) != 0 or (~ideal[word] & ~outside[word]) != 0
        inside[word] |= ideal[word]
        outside[word] |= ~ideal[word]
    if new and counts[v] < costs.shape[1]:
        ideals[v, counts[v]], costs[v, counts[v]] = ideal, cost
        counts[v] += 1


@njit(cache=True)
def _covered(v, before, after, known):
    """Whether each node that may run on either side of ``v`` is known to be possible on both."""
    inside, outside = known[3], known[4]
    for u in range(len(before)):
        free = u != v and not has(before[v], u) and not has(after[v], u)
        if free and not (has(inside, u) and has(outside, u)):
            return False
    return known[2][v] > 0


@njit(cache=True)
def _learn_cut(v, cost, before, nodes, count, dead, work, mark, side, known):
    """Learn a cut's ideal: v's ancestors and what the source reached, or all but what the sink did."""
    ideal, seen = known[5], work[2]
    ideal[:] = before[v]
    for i in range(count):
        if (dead[i] or seen[i] == mark) == (side == SOURCE):
            add(ideal, nodes[i])
    _learn(v, ideal, cost, known)


@njit(cache=True)
def _bury(dead, work, vertices):
    """What the last search reached leads nowhere, whatever is asked next."""
    for vertex in range(vertices):
        dead[vertex] |= work[2][vertex] == work[3][0]


@njit(cache=True)
def _hold(first, last, side, nodes, found, known, only):
    """Mark in ``only`` the nodes of a range not known to be possible on ``side``; how many there are, and one."""
    cover = known[3] if side == SOURCE else known[4]
    only[:] = 0
    group, one = 0, -1
    for i in range(first, last):
        if found[nodes[i]] == FREE and not has(cover, nodes[i]):
            only[i], one = ENDLESS, i
            group += 1
    return group, one


@njit(cache=True)
def _probe(v, alloc, budget, network, sets, pairs, known, memory, found):
    """Which nodes must run before ``v``, and which after it, for its step to stay within ``budget``.

    ``found[u]`` is set to SOURCE for the former, to SINK for the latter. Returns (a lower bound on the step's cost,
    flows that were asked for). Groups of nodes are held on one side at once, their halves where that costs too much.
    """
    before = sets[0]
    label, place, part, ptr, idx, dead, (only, room, goals), work = memory
    nodes, ends, capacity, into, outof = part
    constant, count, vertices, made = part_network(v, sets, network, pairs, label, place, part)
    arcs_rows(ends, made, vertices, ptr, idx)
    net = (ptr, idx, ends, vertices)
    dead[:, :vertices] = False
    constant += alloc
    limit = budget - constant
    flow = augment(net, capacity, into, outof, SOURCE, limit, dead[0], work)
    if flow > limit:
        return flow + constant, 1
    for side in (SOURCE, SINK):
        if side == SINK:  # there is no path left; the search finds what leads to the sink
            augment(net, capacity, outof, into, SINK, limit, dead[1], work)
        _bury(dead[side - 1], work, vertices)
        _learn_cut(v, flow + constant, before, nodes, count, dead[side - 1], work, -1, side, known)
    asked, heap = 1, np.empty((64, 2), np.int64)
    for side in (SOURCE, SINK):
        heap[0, 0], heap[0, 1], pending = 0, count, 1
        while pending:
            pending -= 1
            first, last = heap[pending, 0], heap[pending, 1]
            group, one = _hold(first, last, side, nodes, found, known, only[:vertices])
            if group == 0:
                continue
            asked += 1
            room[:made] = capacity[:made]
            goals[:vertices] = outof[:vertices] if side == SOURCE else into[:vertices]
            more = augment(net, room, only, goals, side, limit - flow, dead[side - 1], work)
            if flow + more <= limit:
                cost = flow + more + constant
                _learn_cut(v, cost, before, nodes, count, dead[side - 1], work, work[3][0], side, known)
            elif group > 1:
                middle = (first + last) // 2
                heap[pending, 0], heap[pending, 1] = middle, last
                heap[pending + 1, 0], heap[pending + 1, 1] = first, middle
                pending += 2
            else:
                other = SINK if side == SOURCE else SOURCE
                found[nodes[one]] = other
                start, end = (into, outof) if other == SOURCE else (outof, into)
                start[one] = ENDLESS
                flow += augment(net, capacity, start, end, other, limit - flow, dead[other - 1], work)
                if flow > limit:
                    return flow + constant, asked
                _bury(dead[other - 1], work, vertices)
    return flow + constant, asked


@njit(cache=True)
def _memory(n, vertices, arcs):
    """The arrays that probes work in, made once."""
    label, place, nodes = np.empty(n, np.int8), np.empty(n, np.int32), np.empty(n, np.int32)
    ends, capacity, room = np.empty(arcs, np.int32), np.empty(arcs, np.int64), np.empty(arcs, np.int64)
    into, outof = np.empty(vertices, np.int64), np.empty(vertices, np.int64)
    only, goals = np.empty(vertices, np.int64), np.empty(vertices, np.int64)
    via, queue = np.empty(vertices, np.int32), np.empty(vertices, np.int32)
    work = (via, queue, np.zeros(vertices, np.int64), np.zeros(1, np.int64))
    ptr, idx, dead = np.empty(vertices + 1, np.int64), np.empty(arcs, np.int32), np.empty((2, vertices), np.bool_)
    return label, place, (nodes, ends, capacity, into, outof), ptr, idx, dead, (only, room, goals), work


@njit(cache=True)
def _linear(order, before):
    """The legal order under all precedences that keeps to ``order`` where it can."""
    n = len(order)
    done, result = np.zeros(n, np.bool_), np.empty(n, np.int32)
    count, words = 0, before.shape[1]
    bits = np.zeros(words, np.uint64)
    first = 0
    while count < n:
        while done[order[first]]:
            first += 1
        for i in range(first, n):
            v = order[i]
            if done[v]:
                continue
            ready = True
            for word in range(words):
                if before[v, word] & ~bits[word]:
                    ready = False
                    break
            if ready:
                done[v], result[count] = True, v
                add(bits, v)
                count += 1
                break
    return result


@njit(cache=True)
def _sweep(v, order, budget, sets, steps, left, arcs, first, last, known):
    """Learn the least and the largest ideal along ``order`` from which ``v`` can run, were it moved in it."""
    before, after = sets
    ptr, idx, uses, size, alloc, drop, live = steps
    ideal, n = known[5], len(order)
    left[:] = uses
    ideal[:] = 0
    least, most, cost = -1, -1, np.int64(0)
    for turn in range(2):
        for i in range(n):
            u = order[i]
            early = has(before[v], u)
            if early != (turn == 0) or u == v or has(after[v], u):
                continue
            live += alloc[u] - drop[u]
            for entry in range(ptr[u], ptr[u + 1]):
                left[idx[entry]] -= 1
                if left[idx[entry]] == 0:
                    live -= size[idx[entry]]
            if turn == 1:
                add(ideal, u)
                if live + alloc[v] <= budget:
                    most, cost = i, live + alloc[v]
                    if least < 0:
                        least = i
                        _learn_closed(v, ideal, cost, arcs, first, last, known)
        if turn == 0:
            for word in range(len(ideal)):
                ideal[word] = before[v, word]
            if live + alloc[v] <= budget:
                least = 0
                _learn_closed(v, ideal, live + alloc[v], arcs, first, last, known)
    if most >= 0:
        for word in range(len(ideal)):
            ideal[word] = before[v, word]
        for i in range(most + 1):
            u = order[i]
            if u != v and not has(after[v], u):
                add(ideal, u)
        _learn_closed(v, ideal, cost, arcs, first, last, known)


@njit(cache=True)
def _learn_closed(v, ideal, cost, arcs, first, last, known):
    if _closed(ideal, arcs, first, last):
        _learn(v, ideal, cost, known)


@njit(cache=True)
def _knowing(known, words):
    """What is known of all nodes, and room for what is known of the one looked at."""
    ideals, costs, counts = known
    return ideals, costs, counts, np.zeros(words, np.uint64), np.zeros(words, np.uint64), np.zeros(words, np.uint64)


@njit(cache=True, nogil=True)
def tighten(network, steps, order, budget, before, after, implied, known, level, stop):
    """(OPEN, REFUTED or STOPPED; number of implied precedences; node that refutes; flows asked for).

    ``implied``: (int32[a, 2] rows "u before v", int32[a] nodes whose step proved it, int32[n] how many were known when
    a node was last looked at, bool[n] nodes to look at again, their number). ``level``, int64[n]: what each node's step
    is thought to cost; the dearest are looked at first.
    """
    tensors, preds = network
    arcs, at, looked, due, number = implied
    n, words = before.shape
    memory = _memory(n, n + len(tensors[0]), 2 * (len(preds[1]) + len(tensors[3]) + len(tensors[0]) + len(at)))
    found, seen = np.empty(n, np.int8), _knowing(known, words)
    asked, alloc, left = 0, steps[4], np.empty_like(steps[2])
    while True:
        began = number
        order = _linear(order, before)
        for v in np.argsort(-level, kind="mergesort"):
            if stop[0]:
                return STOPPED, number, v, asked
            if looked[v] == number and not due[v]:
                continue
            due[v] = False
            _keep_known(v, seen, arcs, max(looked[v], 0), number, budget)
            looked[v] = number
            if _covered(v, before, after, seen):
                continue
            _sweep(v, order, budget, (before, after), steps, left, arcs, began, number, seen)
            if _covered(v, before, after, seen):
                continue
            found[:] = FREE
            pairs = (arcs, number)
            cost, flows = _probe(v, alloc[v], budget, network, (before, after), pairs, seen, memory, found)
            asked += flows
            level[v] = max(level[v], cost)
            number = looked[v] = _record(v, found, before, after, arcs, at, number)
            if number == len(at):
                return STOPPED, number, v, asked
            if cost > budget:
                return REFUTED, number, v, asked
        if number == began:
            return OPEN, number, -1, asked


@njit(cache=True)
def _record(v, found, before, after, arcs, at, number):
    """Write down what a probe of ``v`` found; the new number of precedences."""
    for u in range(len(found)):
        if found[u] == FREE or number == len(at):
            continue
        first, second = (u, v) if found[u] == SOURCE else (v, u)
        if has(after[first], second):
            continue
        arcs[number, 0], arcs[number, 1], at[number] = first, second, v
        precede(first, second, before, after)
        number += 1
    return number


@njit(cache=True)
def precede(u, v, before, after):
    """Close ``before`` and ``after`` (each node's ancestors, descendants) under ``u`` before ``v``."""
    n, words = before.shape
    for a in range(n):
        if a == u or has(before[u], a):
            for word in range(words):
                after[a, word] |= after[v, word]
            add(after[a], v)
    for b in range(n):
        if b == v or has(after[v], b):
            for word in range(words):
                before[b, word] |= before[u, word]
            add(before[b], u)


@njit(cache=True)
def close(ptr, idx, before, after):
    """Ancestors and descendants of every node, from rows of predecessors in program order."""
    n, words = before.shape
    for v in range(n):
        for entry in range(ptr[v], ptr[v + 1]):
            for word in range(words):
                before[v, word] |= before[idx[entry], word]
            add(before[v], idx[entry])
    for v in range(n):
        for u in range(v):
            if has(before[v], u):
                add(after[u], v)


@njit(cache=True)
def learn_order(order, step_bytes, budget, arcs, looked, known):
    """Remember, for each node, the ideal from which it runs in ``order``, where its step is within ``budget``."""
    words = known[0].shape[2]
    seen, ideal = _knowing(known, words), np.zeros(words, np.uint64)
    for t in range(len(order)):
        v = order[t]
        if step_bytes[t] <= budget and _closed(ideal, arcs, 0, max(looked[v], 0)):
            _keep_known(v, seen, arcs, 0, 0, budget)
            _learn(v, ideal, step_bytes[t], seen)
        add(ideal, v)
