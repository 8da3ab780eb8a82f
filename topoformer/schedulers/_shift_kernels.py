"""Compiled local search: single nodes move across the peak to another place that is legal.

Only the steps that a node jumps over change: by what it leaves behind, and by the tensors that it would free later, or
earlier, than before. ``during`` and ``after`` are the live bytes while each step of the order runs and once it has run.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def _other_last(v, tensor, readers, place):
    """Place of the last reader of ``tensor`` other than ``v``; -1 if there is none."""
    last = -1
    for entry in range(readers[0][tensor], readers[0][tensor + 1]):
        if readers[1][entry] != v:
            last = max(last, place[readers[1][entry]])
    return last


@njit(cache=True)
def _later(v, i, j, graph, readers, place, profile, new):
    """Fill ``new[0]`` and ``new[1]`` with the steps i .. j of the order in which ``v`` moves from i to a later j."""
    ptr, idx, _, size, alloc, drop, _ = graph
    during, after = profile
    own = alloc[v] - drop[v]
    for t in range(i + 1, j + 1):
        new[0, t - 1 - i], new[1, t - 1 - i] = during[t] - own, after[t] - own
    for entry in range(ptr[v], ptr[v + 1]):
        last = _other_last(v, idx[entry], readers, place)
        if last > j:
            continue
        for t in range(max(last, i + 1), j + 1):
            new[0, t - 1 - i] += size[idx[entry]] if t > last else 0
            new[1, t - 1 - i] += size[idx[entry]]
    new[0, j - i], new[1, j - i] = new[1, j - 1 - i] + alloc[v], after[j]


@njit(cache=True)
def _earlier(v, i, j, graph, readers, order, place, profile, new):
    """Fill ``new[0]`` and ``new[1]`` with the steps j .. i of the order in which ``v`` moves from i to an earlier j."""
    ptr, idx, _, size, alloc, drop, start = graph
    during, after = profile
    own = alloc[v] - drop[v]
    for t in range(j, i):
        new[0, t + 1 - j], new[1, t + 1 - j] = during[t] + own, after[t] + own
    for entry in range(ptr[v], ptr[v + 1]):
        last = _other_last(v, idx[entry], readers, place)
        if last > i:
            continue
        for t in range(max(last, j), i):
            new[0, t + 1 - j] -= size[idx[entry]] if t > last else 0
            new[1, t + 1 - j] -= size[idx[entry]]
    new[0, 0] = (after[j - 1] if j else start) + alloc[v]
    new[1, 0] = new[0, 1] - alloc[order[j]]


@njit(cache=True)
def _bounds(v, preds, succs, place, n):
    """First and last place that ``v`` can have among the others."""
    low, high = 0, n - 1
    for entry in range(preds[0][v], preds[0][v + 1]):
        low = max(low, place[preds[1][entry]] + 1)
    for entry in range(succs[0][v], succs[0][v + 1]):
        high = min(high, place[succs[1][entry]] - 1)
    return low, high


@njit(cache=True)
def _load(costs, floor):
    """(Highest cost, sum of squares of what is above ``floor``)."""
    highest, load = np.int64(0), 0.0
    for cost in costs:
        highest = max(highest, cost)
        load += float(max(cost - floor, 0)) ** 2
    return highest, load


@njit(cache=True, nogil=True)
def shift(order, during, after, graph, preds, succs, readers, floor, reach, tries, seed, stop):
    """Improve ``order``, int32[n], and its profile in place; how many moves were made.

    Each try moves a node from one side of the first peak to the other, at most ``reach`` steps away, and keeps it there
    if no step of those in between then costs more than the peak and they exceed ``floor`` by less, in squares.
    """
    np.random.seed(seed)
    n, made = len(order), 0
    place = np.empty(n, np.int64)
    for t in range(n):
        place[order[t]] = t
    new, peak_step = np.empty((2, 2 * reach + 2), np.int64), np.argmax(during)
    for _ in range(tries):
        if stop[0] or during[peak_step] <= floor:
            break
        i = max(0, min(n - 1, peak_step - reach + np.random.randint(0, 2 * reach + 1)))
        v = order[i]
        low, high = _bounds(v, preds, succs, place, n)
        if i <= peak_step:
            high = min(high, peak_step + reach)
            if high <= peak_step:
                continue
            j = np.random.randint(peak_step + 1, high + 1) if i < peak_step else np.random.randint(i + 1, high + 1)
            _later(v, i, j, graph, readers, place, (during, after), new)
        else:
            low = max(low, peak_step - reach)
            if low > peak_step:
                continue
            j = np.random.randint(low, peak_step + 1)
            _earlier(v, i, j, graph, readers, order, place, (during, after), new)
        first, last = min(i, j), max(i, j)
        highest, load = _load(new[0, : last - first + 1], floor)
        before, weight = _load(during[first : last + 1], floor)
        if highest > before or load >= weight:
            continue
        if j > i:
            order[i:j] = order[i + 1 : j + 1].copy()
        else:
            order[j + 1 : i + 1] = order[j:i].copy()
        order[j] = v
        for t in range(first, last + 1):
            place[order[t]] = t
            during[t], after[t] = new[0, t - first], new[1, t - first]
        made += 1
        peak_step = np.argmax(during)
    return made
