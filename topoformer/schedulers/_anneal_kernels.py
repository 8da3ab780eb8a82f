"""Compiled simulated annealing over orders, for any weighted sum of memory, latency and traffic.

A move takes a node earlier or later together with all that it needs, or that needs it, on the way: what comes out is
legal, and branches move as a whole.
"""

import numpy as np
from numba import njit

from graphs._kernels import peak
from graphs._latency_kernels import concurrent_profile, timeline, traffic


@njit(cache=True, nogil=True)
def energy(order, weights, limit, memory, timing, touching, chip):
    """(weighted sum of the metrics, bytes above ``limit``) of an order, int32[n].

    ``weights`` are those of memory, latency and traffic; ``chip`` has bytes of on-chip memory (0: none), the seconds
    that an off-chip byte takes, and whether nodes run at once. What one stream takes for any order is not in the
    latency.
    """
    capacity, seconds_per_byte, at_once = chip
    latency, off_chip, held = 0.0, 0.0, np.int64(0)
    if capacity > 0 and (weights[1] > 0 or weights[2] > 0):
        fetched, written = traffic(order, *touching, capacity)
        for t in range(len(fetched)):
            off_chip += float(fetched[t]) + float(written[t])
        latency = off_chip * seconds_per_byte
    concurrent = at_once
    if concurrent:
        start, finish, _ = timeline(order, *timing)
        latency += finish.max()
    if weights[0] > 0 or limit >= 0:
        if concurrent:
            held = max(concurrent_profile(order, start, finish, *memory)[1].max(), memory[5])
        else:
            held = np.int64(peak(order, *memory))
    over = float(max(0, held - limit)) if limit >= 0 else 0.0
    return weights[0] * held + weights[1] * latency + weights[2] * off_chip, over


@njit(cache=True, nogil=True)
def _gather(order, first, last, at_end, rows, marked, moved):
    """Move one end of the stretch first .. last to its other end, with what must move along; False if all must.

    ``rows`` are the successors of nodes where the last node moves to the front, else (``at_end``) the predecessors.
    """
    ptr, idx = rows
    origin = order[first] if at_end else order[last]
    marked[origin] = True
    together = 1
    for step in range(1, last - first + 1):
        node = order[first + step] if at_end else order[last - step]
        for entry in range(ptr[node], ptr[node + 1]):
            if marked[idx[entry]]:
                marked[node] = True
                together += 1
                break
    length = last - first + 1
    a, b = (length - together, 0) if at_end else (0, together)
    for t in range(first, last + 1):
        node = order[t]
        if marked[node]:
            moved[a] = node
            a += 1
            marked[node] = False
        else:
            moved[b] = node
            b += 1
    return together < length


@njit(cache=True, nogil=True)
def anneal(current, best, values, preds, succs, model, temperatures, tries, seed, stop):
    """Try so many moves from ``current``, int32[n]; keep the best order met in ``best``. Both are changed in place.

    ``values`` is float64[4]: energy and excess over the limit of the current order, and of the best. An excess counts
    as energy by ``model``'s last number; the best order is one with the least excess.
    """
    weights, limit, memory, timing, touching, chip, penalty = model
    np.random.seed(seed)
    n = len(current)
    marked, moved, kept = np.zeros(n, np.bool_), np.empty(n, np.int32), np.empty(n, np.int32)
    cooling = (temperatures[1] / temperatures[0]) ** (1.0 / max(tries, 1))
    temperature = temperatures[0]
    for _ in range(tries):
        if stop[0]:
            break
        temperature *= cooling
        reach = max(1, min(n - 1, int(np.exp(np.random.random() * np.log(n)))))
        place, at_end = np.random.randint(0, n), np.random.random() < 0.5
        first = place if at_end else max(0, place - reach)
        last = min(n - 1, place + reach) if at_end else place
        if first == last or not _gather(current, first, last, at_end, preds if at_end else succs, marked, moved):
            continue
        length = last - first + 1
        kept[:length] = current[first : last + 1]
        current[first : last + 1] = moved[:length]
        value, over = energy(current, weights, limit, memory, timing, touching, chip)
        change = value + penalty * over - values[0] - penalty * values[1]
        if change <= 0 or np.random.random() < np.exp(-change / temperature):
            values[0], values[1] = value, over
            if over < values[3] or (over == values[3] and value < values[2]):
                values[2], values[3] = value, over
                best[:] = current
        else:
            current[first : last + 1] = kept[:length]
