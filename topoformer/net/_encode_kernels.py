"""Compiled loops that turn a graph into what the encoder takes; nodes are numbered in a legal order."""

import numpy as np
from numba import njit

REDUCTION, REDUNDANT, CLOSURE, INCOMPARABLE, SELF = 0, 2, 4, 6, 7  # an odd number is the reverse of the one before it


@njit(cache=True, nogil=True)
def ancestors(ptr, idx):
    """Bit u of row v: u must run before v; uint64[n, words] from the rows of direct predecessors."""
    n = len(ptr) - 1
    bits = np.zeros((n, (n + 63) // 64), np.uint64)
    for v in range(n):
        row = bits[v]
        for entry in range(ptr[v], ptr[v + 1]):
            u = idx[entry]
            for word in range((u >> 6) + 1):
                row[word] |= bits[u, word]
            row[u >> 6] |= np.uint64(1) << np.uint64(u & 63)
    return bits


@njit(cache=True, nogil=True)
def relation_ids(ptr, idx, bits):
    """uint8[n, n]: what column u is to row v, as the numbers above; a row's ancestors have odd numbers."""
    n = len(ptr) - 1
    relation = np.full((n, n), INCOMPARABLE, np.uint8)
    one = np.uint64(1)
    farther = np.empty(bits.shape[1], np.uint64)
    for v in range(n):
        relation[v, v] = SELF
        row = bits[v]
        for u in range(v):
            if row[u >> 6] >> np.uint64(u & 63) & one:
                relation[u, v] = CLOSURE
                relation[v, u] = CLOSURE + 1
        farther[:] = 0
        for entry in range(ptr[v], ptr[v + 1]):
            farther |= bits[idx[entry]]
        for entry in range(ptr[v], ptr[v + 1]):
            u = idx[entry]
            kind = REDUNDANT if farther[u >> 6] >> np.uint64(u & 63) & one else REDUCTION
            relation[u, v] = kind
            relation[v, u] = kind + 1
    return relation


@njit(cache=True, nogil=True)
def relatives(bits):
    """(number of ancestors, number of descendants) of each node, int64[n] each."""
    n = len(bits)
    before, after = np.zeros(n, np.int64), np.zeros(n, np.int64)
    one = np.uint64(1)
    for v in range(n):
        for u in range(v):
            if bits[v, u >> 6] >> np.uint64(u & 63) & one:
                before[v] += 1
                after[u] += 1
    return before, after


@njit(cache=True, nogil=True)
def longest_paths(ptr, idx):
    """Nodes on the longest path that ends at each node, itself left out, int64[n]."""
    length = np.zeros(len(ptr) - 1, np.int64)
    for v in range(len(length)):
        for entry in range(ptr[v], ptr[v + 1]):
            length[v] = max(length[v], length[idx[entry]] + 1)
    return length


@njit(cache=True, nogil=True)
def longest_paths_on(ptr, idx):
    """Nodes on the longest path that starts at each node, itself left out, int64[n]; rows of successors."""
    length = np.zeros(len(ptr) - 1, np.int64)
    for v in range(len(length) - 1, -1, -1):
        for entry in range(ptr[v], ptr[v + 1]):
            length[v] = max(length[v], length[idx[entry]] + 1)
    return length


@njit(cache=True, nogil=True)
def live_around(bits, writer, size, kept, ptr, idx):
    """Live bytes before each node if it ran as early and as late as it can, int64[n] each.

    ``kept``, bool[k], marks tensors that stay to the end; (``ptr``, ``idx``) are the k rows of readers of the others.
    """
    n = len(bits)
    early, late = np.zeros(n, np.int64), np.zeros(n, np.int64)
    one = np.uint64(1)
    for v in range(n):
        word, bit = v >> 6, np.uint64(v & 63)
        for tensor in range(len(writer)):
            w = writer[tensor]
            first, last = ptr[tensor], ptr[tensor + 1]
            if first == last and not kept[tensor]:
                continue
            if w < 0 or bits[v, w >> 6] >> np.uint64(w & 63) & one:
                alive = kept[tensor]
                entry = last - 1
                while not alive and entry >= first:
                    r = idx[entry]
                    alive = not bits[v, r >> 6] >> np.uint64(r & 63) & one
                    entry -= 1
                if alive:
                    early[v] += size[tensor]
            if w < 0 or not (w == v or bits[w, word] >> bit & one):
                alive = kept[tensor]
                entry = last - 1
                while not alive and entry >= first:
                    r = idx[entry]
                    alive = r == v or bits[r, word] >> bit & one
                    entry -= 1
                if alive:
                    late[v] += size[tensor]
    return early, late


@njit(cache=True)
def _mixed(x):
    """A bijection of uint64 in which every bit of the input matters to every bit of the output (splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def colours(own, pred_ptr, pred_idx, succ_ptr, succ_idx, rounds):
    """Hashes of the nodes' surroundings, uint64[n], that do not depend on how nodes are numbered."""
    n = len(own)
    now, following = own.copy(), np.empty(n, np.uint64)
    for _ in range(rounds):
        for v in range(n):
            before, after = np.uint64(1), np.uint64(2)
            for entry in range(pred_ptr[v], pred_ptr[v + 1]):
                before += _mixed(now[pred_idx[entry]])
            for entry in range(succ_ptr[v], succ_ptr[v + 1]):
                after += _mixed(now[succ_idx[entry]] ^ np.uint64(0x9E3779B97F4A7C15))
            following[v] = _mixed(now[v] + _mixed(before) * np.uint64(3) + _mixed(after) * np.uint64(5))
        now, following = following, now
    return now


@njit(cache=True, nogil=True, fastmath=True)
def pair_scores(query, key, relation, first, out):
    """Scores of the rows ``first`` and on, each pair by the head of its relation, less the row's highest of it.

    ``query`` and ``key`` are float32[n, relations, d]; ``out``, float32[rows, n]; a node is -inf to itself.
    """
    n, relations, d = query.shape
    highest = np.empty(relations + 1, np.float32)
    for i in range(len(out)):
        row, q = relation[first + i], query[first + i]
        highest[:] = np.float32(-1e30)
        for j in range(n):
            r = row[j]
            if r == SELF:
                out[i, j] = np.float32(-1e30)
                continue
            total = np.float32(0)
            for c in range(d):
                total += q[r, c] * key[j, r, c]
            out[i, j] = total
            highest[r] = max(highest[r], total)
        for j in range(n):
            if row[j] != SELF:
                out[i, j] -= highest[row[j]]


@njit(cache=True, nogil=True, fastmath=True)
def pair_sums(weight, value, relation, first, out):
    """Means of ``value``, float32[n, relations, d], by each relation's weights, into the rows of ``out``."""
    n, relations, d = value.shape
    total = np.empty(relations + 1, np.float32)
    for i in range(len(weight)):
        row, target = relation[first + i], out[first + i]
        target[:] = 0
        total[:] = 0
        for j in range(n):
            r = row[j]
            if r != SELF:
                w = weight[i, j]
                total[r] += w
                for c in range(d):
                    target[r, c] += w * value[j, r, c]
        for r in range(relations):
            if total[r] > 0:
                for c in range(d):
                    target[r, c] /= total[r]
