"""A beam over rollouts, compiled: of each state only the ready nodes of the highest scores are tried.

States of one level have run equally many nodes. They live in slots: of the children that are kept of a state one takes
its slot, and the others get copies in slots that became free, so that most states are never copied.
"""

import numpy as np
from numba import njit

from topoformer.net._rollout_kernels import DYNAMIC, EXCESS, YOUNG, run, safe_move, score_ready, start

NOBODY = -1


@njit(cache=True, nogil=True)
def rows(states, slot):
    """The arrays of the state in a slot, in the order of ``_rollout_kernels.fresh``."""
    waits, left, net, share, best, unlocked, last_pred, last_reader, arrival, ready = states
    return (
        waits[slot], left[slot], net[slot], share[slot], best[slot], unlocked[slot],
        last_pred[slot], last_reader[slot], arrival[slot], ready[slot],
    )  # fmt: skip


@njit(cache=True, nogil=True)
def room_for(width, g):
    """Slots for ``width`` states, the first one at the start; (arrays, number of ready nodes)."""
    n, k = len(g.waits), len(g.uses)
    states = (
        np.empty((width, n), np.int32), np.empty((width, k), np.int32), np.empty((width, n), np.int64),
        np.empty((width, n), np.float64), np.empty((width, n), np.int64), np.empty((width, n), np.int32),
        np.empty((width, n), np.int64), np.empty((width, k), np.int64), np.empty((width, n), np.int32),
        np.empty((width, n), np.int32),
    )  # fmt: skip
    first, count = start(g)
    waits, left, net, share, best, unlocked, last_pred, last_reader, arrival, ready = first
    states[0][0], states[1][0], states[2][0], states[3][0], states[4][0] = waits, left, net, share, best
    states[5][0], states[6][0], states[7][0], states[8][0] = unlocked, last_pred, last_reader, arrival
    states[9][0] = ready
    return states, count


@njit(cache=True, nogil=True)
def copy_state(states, base, stale, source, target):
    """Make the state in slot ``target`` a copy of that in ``source``."""
    waits, left, net, share, best, unlocked, last_pred, last_reader, arrival, ready = states
    waits[target], left[target], net[target], share[target] = waits[source], left[source], net[source], share[source]
    best[target], unlocked[target], last_pred[target] = best[source], unlocked[source], last_pred[source]
    last_reader[target], arrival[target], ready[target] = last_reader[source], arrival[source], ready[source]
    base[target], stale[target] = base[source], stale[source]


@njit(cache=True, nogil=True)
def best_places(count, branching, score, rank, ready, chosen):
    """Places of up to ``branching`` ready nodes of the highest scores into ``chosen``; how many there are."""
    found = 0
    for i in range(count):
        if score[i] <= np.float32(-1e29):
            continue
        at = min(found, branching)
        while at > 0:
            other = chosen[at - 1]
            if score[i] < score[other] or (score[i] == score[other] and rank[ready[i]] >= rank[ready[other]]):
                break
            if at < branching:
                chosen[at] = other
            at -= 1
        if at < branching:
            chosen[at] = i
            found = min(found + 1, branching)
    return found


@njit(cache=True, nogil=True)
def distinct(made, slots, nodes, peaks, codes, zobrist, table, keep):
    """Candidates of different sets of nodes into ``keep``, of equal sets the one of the lowest peak; how many.

    Sets are told apart by 64 bits: two different ones fall together once in 10^14 levels or so, and cost an order only.
    """
    table[:] = NOBODY
    mask, kept = len(table) - 1, 0
    for i in range(made):
        code = codes[slots[i]] ^ zobrist[nodes[i]]
        at = np.int64((code ^ (code >> np.uint64(31))) & np.uint64(mask))
        while table[at] != NOBODY:
            other = keep[table[at]]
            if codes[slots[other]] ^ zobrist[nodes[other]] == code:
                if peaks[i] < peaks[other]:
                    keep[table[at]] = i
                break
            at = (at + 1) & mask
        if table[at] == NOBODY:
            table[at] = kept
            keep[kept] = i
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def place_children(taken, keep, slots, used, target):
    """A slot for each child kept: the first of a state stays in its slot, the others get free ones."""
    used[:] = False
    for j in range(taken):
        slot = slots[keep[j]]
        target[j] = NOBODY if used[slot] else slot
        used[slot] = True
    free = 0
    for j in range(taken):
        if target[j] == NOBODY:
            while used[free]:
                free += 1
            target[j] = free
            used[free] = True


@njit(cache=True, nogil=True)
def surprise(count, highest, score):
    """Logarithm of the sum of exp(score): a choice's negative log-likelihood is that less its own score."""
    total = np.float32(0)
    for i in range(count):
        total += np.exp(score[i] - highest)
    return highest + np.log(total)


@njit(cache=True, nogil=True)
def candidates(most):
    """Room for children: (slot, node, place among the ready, live, peak, doubt) of each, and which of them to keep."""
    return (
        np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int64),
        np.empty(most, np.int64), np.empty(most, np.float64), np.empty(most, np.int32),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def expand(t, slot, count, live, peak, doubt, limit, g, state, policy, kept, chosen, made, found):
    """Append the children of one state to ``found``: its safe move, or its ready nodes of the highest scores."""
    slots, nodes, places, lives, peaks, doubts, _ = found
    score, ready, nothing = kept[4], state[9], np.empty((0, DYNAMIC), np.float32)
    safe = safe_move(live, peak, count, g, state)
    children, normal = 1, 0.0
    if safe >= 0:
        chosen[0] = safe
    else:
        highest = score_ready(t, live, peak, count, limit, g, state, policy, kept, nothing)
        normal = surprise(count, highest, score)
        children = best_places(count, len(chosen), score, g.rank, ready, chosen)
    for i in range(children):
        node = ready[chosen[i]]
        slots[made], nodes[made], places[made] = slot, node, chosen[i]
        lives[made], peaks[made] = live + state[2][node], max(peak, live + g.alloc[node])
        doubts[made] = doubt if safe >= 0 else doubt + normal - score[chosen[i]]
        made += 1
    return made


@njit(cache=True, nogil=True)
def select(taken, width, lean, found):
    """Move the ``width`` best of the children in ``keep[:taken]`` to its front; how many there are then."""
    _, _, _, lives, peaks, doubts, keep = found
    if taken <= width:
        return taken
    some = keep[:taken]
    scale = 1.0 / (1.0 + lives[some].max())
    cost = peaks[some] + lives[some] * scale + lean * doubts[some]
    keep[:width] = some[np.argsort(cost, kind="mergesort")[:width]]
    return width


@njit(cache=True, nogil=True)
def guided_beam(g, policy, floor, limit, width, branching, lean, zobrist, stop, order):
    """(peak, states made) of the best order found, which fills ``order``; the peak is -1 where there is none.

    Peaks up to ``floor`` count as equal, no step may need more than ``limit``. States are ranked by their peak plus
    ``lean`` bytes for each nat by which their choices are improbable; then by live bytes. Setting ``stop[0]`` from
    another thread ends it.
    """
    n = len(order)
    states, first = room_for(width, g)
    base, stale = np.empty((width, n), np.float32), np.ones((width, n), np.bool_)
    near, errors, score = np.empty((n, EXCESS), np.float32), np.zeros(n, np.float32), np.empty(n, np.float32)
    ages = (np.arange(n + 1) / (np.arange(n + 1) + YOUNG)).astype(np.float32)
    counts, live, peak = np.full(width, first), np.full(width, g.start), np.full(width, max(g.start, floor))
    codes, doubt, alive = np.zeros(width, np.uint64), np.zeros(width), np.zeros(width, np.bool_)
    alive[0] = True
    parent, move = np.empty((n, width), np.int32), np.empty((n, width), np.int32)
    found = candidates(width * branching)
    slots, nodes, places, lives, peaks, doubts, keep = found
    size = 16
    while size < 2 * width * branching:
        size *= 2
    table, chosen = np.empty(size, np.int32), np.empty(branching, np.int32)
    used, target, total = np.empty(width, np.bool_), np.empty(width, np.int32), 0
    for t in range(n):
        made = 0
        for slot in range(width):
            if alive[slot]:
                kept = (near, base[slot], stale[slot], errors, score, ages)
                made = expand(t, slot, counts[slot], live[slot], peak[slot], doubt[slot], limit, g,
                              rows(states, slot), policy, kept, chosen, made, found)  # fmt: skip
        taken = select(distinct(made, slots, nodes, peaks, codes, zobrist, table, keep), width, lean, found)
        if taken == 0 or stop[0]:
            return np.int64(-1), total
        place_children(taken, keep, slots, used, target)
        for j in range(taken):
            source, slot = slots[keep[j]], target[j]
            if slot != source:
                copy_state(states, base, stale, source, slot)
                counts[slot], codes[slot] = counts[source], codes[source]
        alive[:] = False
        for j in range(taken):
            i, slot = keep[j], target[j]
            state = rows(states, slot)
            counts[slot] -= 1
            state[9][places[i]] = state[9][counts[slot]]
            counts[slot], _ = run(nodes[i], t, g, state, counts[slot], stale[slot])
            live[slot], peak[slot], doubt[slot], alive[slot] = lives[i], peaks[i], doubts[i], True
            codes[slot] ^= zobrist[nodes[i]]
            parent[t, slot], move[t, slot] = slots[i], nodes[i]
        total += taken
    slot = NOBODY
    for other in range(width):
        if alive[other] and (slot == NOBODY or peak[other] < peak[slot]):
            slot = other
    reached = peak[slot]
    for t in range(n - 1, -1, -1):
        order[t] = move[t, slot]
        slot = parent[t, slot]
    return reached, total
