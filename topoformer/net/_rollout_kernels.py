"""The one rollout loop: ready nodes run by score until none is left; compiled, and free of the interpreter's lock.

A node's score is its priority plus its weights times the dynamic features below. What the features need is kept up
to date as nodes run, so that a step costs a few operations a ready node. ``g`` is the tuple ``decode.Instance``.
"""

import numpy as np
from numba import njit

GREEDY, SAMPLE, FOLLOW = 0, 1, 2
# Features that change only when something near the node happens, then those that change with every step.
NET, NET_FREE, SHARE, UNLOCKS, UNLOCKED, OWN, PAIR_FREE, EXCESS, FITS, TIGHT, AGE = range(11)
DYNAMIC = 11
MANY = 4  # unlocked nodes from which on more make no difference
YOUNG = 16.0  # steps in which the age of a ready node rises to one half
TIE = np.float32(1e-5)  # scores so close are equal, and the canonical rank decides
UNLIMITED = 1 << 62


@njit(cache=True, nogil=True)
def fresh(g):
    """State at the start: (waits, left, net, share, best, unlocked, last predecessor, last reader, arrival, ready)."""
    n = len(g.waits)
    return (
        g.waits.copy(), g.uses.copy(), g.net.copy(), g.share.copy(), g.best.copy(), g.unlocked.copy(),
        g.last_pred.copy(), g.last_reader.copy(), np.zeros(n, np.int32), np.empty(n, np.int32),
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def run(node, t, g, state, count, stale):
    """Run ``node`` at step ``t``: (number of ready nodes, bytes by which live changes). Marks stale scores."""
    waits, left, net, share, best, unlocked, last_pred, last_reader, arrival, ready = state
    change = net[node]
    for entry in range(g.ptr[node], g.ptr[node + 1]):
        tensor = g.idx[entry]
        left[tensor] -= 1
        last_reader[tensor] -= node
        still = left[tensor]
        if still == 1:
            last = last_reader[tensor]
            net[last] -= g.size[tensor]
            stale[last] = True
            if waits[last] == 1:
                before = last_pred[last]
                best[before] = min(best[before], net[last])
                stale[before] = True
        if still & (still - 1) == 0 and still > 0:  # the share goes by powers of two: few updates a tensor
            for reader in range(g.readers_ptr[tensor], g.readers_ptr[tensor + 1]):
                share[g.readers_idx[reader]] += g.size[tensor] / (2.0 * still)
                stale[g.readers_idx[reader]] = True
    for entry in range(g.succ_ptr[node], g.succ_ptr[node + 1]):
        succ = g.succ_idx[entry]
        waits[succ] -= 1
        last_pred[succ] -= node
        if waits[succ] == 0:
            ready[count] = succ
            arrival[succ] = t + 1
            stale[succ] = True
            count += 1
        elif waits[succ] == 1:
            before = last_pred[succ]
            unlocked[before] += 1
            best[before] = min(best[before], net[succ])
            stale[before] = True
    return count, change


@njit(cache=True, nogil=True, inline="always")
def near_features(node, g, state, near):
    """Fill in a node's row of the features that only near events change."""
    _, _, net, share, best, unlocked, _, _, _, _ = state
    opens = unlocked[node] > 0
    near[node, NET] = net[node] * g.unit
    near[node, NET_FREE] = 1.0 if net[node] <= 0 else 0.0
    near[node, SHARE] = share[node] * g.unit
    near[node, UNLOCKS] = best[node] * g.unit if opens else 0.0
    near[node, UNLOCKED] = min(unlocked[node], MANY) / MANY
    near[node, OWN] = g.alloc[node] * g.unit
    near[node, PAIR_FREE] = 1.0 if opens and net[node] + best[node] <= 0 else 0.0


@njit(cache=True, nogil=True, inline="always")
def safe_move(live, peak, count, g, state):
    """A ready node of net change <= 0 that does not raise the peak: (place, found); see theory: none need be missed."""
    net, ready = state[2], state[9]
    place = -1
    for i in range(count):
        node = ready[i]
        if net[node] <= 0 and live + g.alloc[node] <= peak:
            if place < 0:
                place = i
                continue
            other = ready[place]
            if net[node] < net[other] or (net[node] == net[other] and g.rank[node] < g.rank[other]):
                place = i
    return place


@njit(cache=True, nogil=True)
def fresh_scores(n):
    """What is kept of scores: (near features, their part of the score, whether stale, errors to come, scores, ages).

    ``ages`` is the last feature by the age in steps: a division for each ready node at each step would be felt.
    """
    ages = np.empty(n + 1, np.float32)
    for age in range(n + 1):
        ages[age] = age / (age + YOUNG)
    return (
        np.empty((n, EXCESS), np.float32), np.empty(n, np.float32), np.ones(n, np.bool_),
        np.zeros(n, np.float32), np.empty(n, np.float32), ages,
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def settle(node, near, errors, gradient):
    """Add to ``gradient`` what a node's errors since its near features last changed come to."""
    for f in range(EXCESS):
        gradient[node, 1 + f] += errors[node] * near[node, f]
    errors[node] = 0


@njit(cache=True, nogil=True, inline="always")
def score_ready(t, live, peak, count, limit, g, state, policy, kept, gradient):
    """Scores of the ready nodes over the temperature, -1e30 where a step needs more than ``limit``; the highest."""
    priority, weight, inverse_temperature = policy
    near, base, stale, errors, score, ages = kept
    ready, arrival = state[9], state[8]
    tight, unit = np.float32(live / max(peak, 1)), np.float32(g.unit)
    highest = np.float32(-1e30)
    room = peak - live
    for i in range(count):
        node = ready[i]
        if stale[node]:
            if errors[node] != 0:
                settle(node, near, errors, gradient)
            near_features(node, g, state, near)
            total = priority[node]
            for f in range(EXCESS):
                total += weight[node, f] * near[node, f]
            base[node] = total
            stale[node] = False
        over = g.alloc[node] - room
        s = base[node] + weight[node, TIGHT] * tight + weight[node, AGE] * ages[t - arrival[node]]
        s += weight[node, EXCESS] * (np.float32(over) * unit) if over > 0 else weight[node, FITS]
        s = s * inverse_temperature if over + peak <= limit else np.float32(-1e30)
        score[i] = s
        highest = max(highest, s)
    return highest


@njit(cache=True, nogil=True)
def start(g):
    """(state, number of ready nodes) before the first step."""
    state = fresh(g)
    count = 0
    for node in range(len(g.waits)):
        if g.waits[node] == 0:
            state[9][count] = node
            count += 1
    return state, count


@njit(cache=True, nogil=True, inline="always")
def pick(mode, count, highest, g, ready, position, score):
    """Place of the ready node to run; -1 where none is within the limit. ``score`` becomes exp(score - highest)."""
    if mode == FOLLOW:
        place = 0
        for i in range(1, count):
            if position[ready[i]] < position[ready[place]]:
                place = i
        return place
    if highest <= np.float32(-1e29):
        return -1
    if mode == GREEDY:
        place = -1
        for i in range(count):
            if score[i] >= highest - TIE and (place < 0 or g.rank[ready[i]] < g.rank[ready[place]]):
                place = i
        return place
    total = np.float32(0)
    for i in range(count):
        score[i] = np.exp(score[i] - highest)
        total += score[i]
    aim = np.float32(np.random.random()) * total
    for i in range(count):
        aim -= score[i]
        if aim < 0:
            return i
    place = count - 1
    while score[place] <= 0:
        place -= 1
    return place


@njit(cache=True, nogil=True)
def rollout(g, policy, mode, safe, floor, limit, position, prefix, order):
    """Fill ``order``: (peak, first step above ``floor`` that reaches it, or 0); -1 where no ready node is in the limit.

    Args:
        policy: (priority float32[n], weight float32[n, DYNAMIC], 1 / temperature).
        mode: GREEDY, SAMPLE, or FOLLOW: the ready node of the lowest ``position``, int32[n].
        prefix: so many nodes of ``order`` are kept as they are.
        safe: whether safe moves go first, without a choice.
        floor: peaks up to it count as equal.
        limit: no step may need more bytes.
    """
    n = len(order)
    state, count = start(g)
    kept, nothing = fresh_scores(n), np.empty((0, 0), np.float32)
    ready, stale, score = state[9], kept[2], kept[4]
    live, peak, at, top = g.start, max(floor, g.start), 0, g.start
    for t in range(n):
        place = -1
        if t < prefix:
            place = 0
            while ready[place] != order[t]:
                place += 1
        elif safe:
            place = safe_move(live, peak, count, g, state)
        if place < 0:
            highest = np.float32(0)
            if mode != FOLLOW:
                highest = score_ready(t, live, peak, count, limit, g, state, policy, kept, nothing)
            place = pick(mode, count, highest, g, ready, position, score)
            if place < 0:
                return np.int64(-1), t
        node = ready[place]
        count -= 1
        ready[place] = ready[count]
        top = max(top, live + g.alloc[node])
        if top > peak:
            peak, at = top, t
        order[t] = node
        count, change = run(node, t, g, state, count, stale)
        live += change
    return top, at


@njit(cache=True, nogil=True)
def likelihood(g, policy, order, steps, safe, floor, coefficient, gradient):
    """Log-likelihood of the choices among the first ``steps`` of ``order``, and its gradient.

    ``order`` is one that FOLLOW or SAMPLE made with the same ``safe`` and ``floor``. Adds ``coefficient`` times the
    derivative by priority and weights to ``gradient``, float32[n, 1 + DYNAMIC], scaled by 1 / temperature as the score.
    """
    n = len(order)
    state, count = start(g)
    kept = fresh_scores(n)
    near, _, stale, errors, score, ages = kept
    ready, arrival = state[9], state[8]
    live, peak, total = g.start, max(floor, g.start), 0.0
    slope = np.float32(coefficient * policy[2])
    for t in range(steps):
        node = order[t]
        place = 0
        while ready[place] != node:
            place += 1
        forced = safe and state[2][node] <= 0 and live + g.alloc[node] <= peak
        if count > 1 and not forced:
            highest = score_ready(t, live, peak, count, UNLIMITED, g, state, policy, kept, gradient)
            total += score[place] - highest
            normal = np.float32(0)
            for i in range(count):
                score[i] = np.exp(score[i] - highest)
                normal += score[i]
            total -= np.log(normal)
            if slope != 0:
                tight, unit = np.float32(live / max(peak, 1)), np.float32(g.unit)
                normal = np.float32(1) / normal
                for i in range(count):
                    error = slope * ((np.float32(1) if i == place else np.float32(0)) - score[i] * normal)
                    other = ready[i]
                    errors[other] += error
                    over = live + g.alloc[other] - peak
                    gradient[other, 0] += error
                    gradient[other, 1 + EXCESS] += error * (np.float32(over) * unit) if over > 0 else np.float32(0)
                    gradient[other, 1 + FITS] += error if over <= 0 else np.float32(0)
                    gradient[other, 1 + TIGHT] += error * tight
                    gradient[other, 1 + AGE] += error * ages[t - arrival[other]]
        count -= 1
        ready[place] = ready[count]
        peak = max(peak, live + g.alloc[node])
        count, change = run(node, t, g, state, count, stale)
        live += change
    for node in range(n):
        if errors[node] != 0:
            settle(node, near, errors, gradient)
    return total


@njit(cache=True, nogil=True)
def peak_of(g, order):
    """(peak of ``order``, first step that reaches it)."""
    left = g.uses.copy()
    live, peak, at = g.start, g.start, 0
    for t in range(len(order)):
        node = order[t]
        if live + g.alloc[node] > peak:
            peak, at = live + g.alloc[node], t
        live += g.net[node]  # which counts on the tensors that the node alone reads
        for entry in range(g.ptr[node], g.ptr[node + 1]):
            tensor = g.idx[entry]
            left[tensor] -= 1
            if left[tensor] == 0 and g.uses[tensor] > 1:
                live -= g.size[tensor]
    return peak, at


@njit(cache=True, nogil=True)
def best_of(g, policy, safe, floor, samples, patience, restart, seed, stop, known, best):
    """Greedy first, then samples under ever lower limits: (peak, number of samples begun). ``best`` is the best order.

    Each sample must stay below the best peak so far, up to which all peaks count as equal to it, and is given up at the
    first step that cannot. All but a share ``restart`` of them keep the beginning of the best order, up to a random
    step before its peak. So many as ``patience`` without a gain end the search, as does setting ``stop[0]``.
    ``known``: ``best`` is an order already, to be kept where the greedy one is no better.
    """
    np.random.seed(seed)
    order = np.empty_like(best)
    peak, at = rollout(g, policy, GREEDY, safe, floor, UNLIMITED, g.rank, 0, order)
    other, place = peak_of(g, best) if known else (peak + 1, at)
    if other <= peak:
        peak, at = other, place
    else:
        best[:] = order
    done, gained = 1, 1
    while done < samples and done - gained < patience and peak > max(floor, g.start) and not stop[0]:
        prefix = np.int64(np.random.random() * (at + 1))
        if np.random.random() < restart:
            prefix = np.int64(0)
        order[:prefix] = best[:prefix]
        found, _ = rollout(g, policy, SAMPLE, safe, peak - 1, peak - 1, g.rank, prefix, order)
        done += 1
        if found >= 0:
            gained = done
            best[:] = order
            peak, at = peak_of(g, order)
    return peak, done


@njit(cache=True, nogil=True)
def sample(g, policy, safe, floor, seed, orders, peaks):
    """Independent samples into ``orders``, int32[samples, n], and their peaks, int64[samples]."""
    np.random.seed(seed)
    for s in range(len(orders)):
        peaks[s] = rollout(g, policy, SAMPLE, safe, floor, UNLIMITED, g.rank, 0, orders[s])[0]
