"""Hot loops over small integers, compiled once and cached; callers check what they pass.

Orders come in as int64 rows; what is compared often is packed first: positions as int16, yes-no features as bits.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
UInt64Array = NDArray[np.uint64]
Int16Array = NDArray[np.int16]
Int32Array = NDArray[np.int32]

SWAP, ADJACENT, INSERT, REVERSE = 0, 1, 2, 3


@njit(cache=True)
def may_swap(order: Int64Array, i: int, j: int, before: BoolArray) -> bool:
    """Whether the items at places i < j may change places when ``before[u, v]`` says that u must precede v."""
    for t in range(i + 1, j + 1):
        if before[order[i], order[t]]:
            return False
    for t in range(i + 1, j):  # noqa: SIM110  (numba compiles no generator expression)
        if before[order[t], order[j]]:
            return False
    return True


@njit(cache=True)
def may_insert(order: Int64Array, i: int, j: int, before: BoolArray) -> bool:
    """Whether the item at place i may move to place j, those between moving up by one."""
    for t in range(min(i, j), max(i, j) + 1):
        if t > i and before[order[i], order[t]]:
            return False
        if t < i and before[order[t], order[i]]:
            return False
    return True


@njit(cache=True)
def may_reverse(order: Int64Array, i: int, j: int, before: BoolArray) -> bool:
    """Whether the stretch of places i to j may be turned round."""
    for s in range(i, j):
        for t in range(s + 1, j + 1):
            if before[order[s], order[t]]:
                return False
    return True


@njit(cache=True)
def allowed(order: Int64Array, move: int, i: int, j: int, before: BoolArray) -> bool:
    if before.shape[0] == 0:
        return True
    if move == REVERSE:
        return may_reverse(order, i, j, before)
    if move == INSERT:
        return may_insert(order, i, j, before)
    return may_swap(order, i, j, before)


@njit(cache=True)
def apply_move(order: Int64Array, move: int, i: int, j: int, out: Int64Array) -> None:
    """Write into ``out`` the order after one move at places i and j."""
    out[:] = order
    if move == REVERSE:
        for t in range(j - i + 1):
            out[i + t] = order[j - t]
    elif move == INSERT:
        step = 1 if i < j else -1
        for t in range(i, j, step):
            out[t] = order[t + step]
        out[j] = order[i]
    else:
        out[i] = order[j]
        out[j] = order[i]


@njit(cache=True)
def neighbours(order: Int64Array, move: int, first: Int64Array, second: Int64Array, before: BoolArray) -> Int64Array:
    """The orders after one move at each pair of places, without those that break ``before``, int64[m, n].

    ``before`` is bool[n, n], or empty for no precedence.
    """
    out = np.empty((len(first), len(order)), np.int64)
    count = 0
    for pair in range(len(first)):
        if allowed(order, move, first[pair], second[pair], before):
            apply_move(order, move, first[pair], second[pair], out[count])
            count += 1
    return out[:count]


@njit(cache=True)
def walk(order: Int64Array, before: BoolArray, places: Int64Array) -> None:
    """Exchange, in place, the items at each place and the one after it, where ``before`` lets them; -1 stays."""
    for t in places:
        if t >= 0 and not before[order[t], order[t + 1]]:
            order[t], order[t + 1] = order[t + 1], order[t]


@njit(cache=True)
def popcount(x: np.uint64) -> np.uint64:
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True)
def differing_bits(a: UInt64Array, b: UInt64Array) -> Int32Array:
    """Number of different bits of every two rows, int32[len(a), len(b)]."""
    out = np.empty((len(a), len(b)), np.int32)
    for i in range(len(a)):
        for j in range(len(b)):
            total = np.uint64(0)
            for word in range(a.shape[1]):
                total += popcount(a[i, word] ^ b[j, word])
            out[i, j] = total
    return out


@njit(cache=True)
def differing_places(a: Int16Array, b: Int16Array) -> Int32Array:
    """Number of different entries of every two rows, int32[len(a), len(b)]."""
    out = np.empty((len(a), len(b)), np.int32)
    for i in range(len(a)):
        for j in range(len(b)):
            total = np.int16(0)
            for t in range(a.shape[1]):
                total += np.int16(a[i, t] != b[j, t])
            out[i, j] = total
    return out


@njit(cache=True)
def absolute_differences(a: Int16Array, b: Int16Array) -> Int32Array:
    """Sum of |a - b| over every two rows, int32[len(a), len(b)]."""
    out = np.empty((len(a), len(b)), np.int32)
    for i in range(len(a)):
        for j in range(len(b)):
            total = np.int32(0)
            for t in range(a.shape[1]):
                total += np.int32(abs(a[i, t] - b[j, t]))
            out[i, j] = total
    return out


@njit(cache=True)
def squared_differences(a: Int16Array, b: Int16Array) -> Int32Array:
    """Sum of (a - b)^2 over every two rows, int32[len(a), len(b)]; fits for rows of up to 1,800 items."""
    out = np.empty((len(a), len(b)), np.int32)
    for i in range(len(a)):
        for j in range(len(b)):
            total = np.int32(0)
            for t in range(a.shape[1]):
                gap = np.int32(a[i, t]) - np.int32(b[j, t])
                total += gap * gap
            out[i, j] = total
    return out


@njit(cache=True, fastmath={"reassoc"})  # sums in vector registers: the last digit may differ from a plain loop
def weighted_places(a: Int16Array, b: Int16Array, weight: Float64Array) -> Float64Array:
    """Sum of the weights of the entries that differ, for every two rows, float64[len(a), len(b)]."""
    out = np.empty((len(a), len(b)), np.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            total = 0.0
            for t in range(a.shape[1]):
                total += weight[t] * np.float64(a[i, t] != b[j, t])
            out[i, j] = total
    return out


@njit(cache=True, fastmath={"reassoc"})
def weighted_changes(a: Int16Array, b: Int16Array, weight: Float64Array) -> Float64Array:
    """Sum of weight * |a - b| over every two rows, float64[len(a), len(b)]."""
    out = np.empty((len(a), len(b)), np.float64)
    for i in range(len(a)):
        for j in range(len(b)):
            total = 0.0
            for t in range(a.shape[1]):
                total += weight[t] * np.float64(abs(a[i, t] - b[j, t]))
            out[i, j] = total
    return out


@njit(cache=True)
def pair_bits(position: Int16Array) -> UInt64Array:
    """One bit for each two items u < v: set where u comes first, uint64[m, ceil(n (n - 1) / 128)]."""
    m, n = position.shape
    out = np.zeros((m, (n * (n - 1) // 2 + 63) // 64), np.uint64)
    for row in range(m):
        bit = 0
        for u in range(n):
            for v in range(u + 1, n):
                if position[row, u] < position[row, v]:
                    out[row, bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
                bit += 1
    return out


@njit(cache=True)
def edge_bits(order: Int64Array) -> UInt64Array:
    """One bit for each two items u < v: set where they are next to each other in the closed tour."""
    m, n = order.shape
    out = np.zeros((m, (n * (n - 1) // 2 + 63) // 64), np.uint64)
    for row in range(m):
        for t in range(n):
            u, v = order[row, t], order[row, (t + 1) % n]
            if u > v:
                u, v = v, u
            if u < v:
                bit = u * (2 * n - u - 1) // 2 + v - u - 1
                out[row, bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
    return out


@njit(cache=True)
def merge_bits(position: Int16Array) -> UInt64Array:
    """What merge sort decides about each row: per level and slot, a bit set where the right run gave the item."""
    m, n = position.shape
    levels = 0
    while (1 << levels) < n:
        levels += 1
    out = np.zeros((m, max(1, (levels * n + 63) // 64)), np.uint64)
    work, merged = np.empty(n, np.int16), np.empty(n, np.int16)
    for row in range(m):
        work[:] = position[row]
        for level in range(levels):
            width = 1 << level
            for start in range(0, n, 2 * width):
                left, middle, end = start, min(start + width, n), min(start + 2 * width, n)
                right = middle
                for slot in range(start, end):
                    from_right = left >= middle or (right < end and work[right] < work[left])
                    if from_right:
                        bit = level * n + slot
                        out[row, bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
                        merged[slot] = work[right]
                        right += 1
                    else:
                        merged[slot] = work[left]
                        left += 1
            work, merged = merged, work
    return out


@njit(cache=True)
def look_up(distance: Int32Array, table: Float64Array) -> Float64Array:
    """table[distance], entry by entry."""
    out = np.empty(distance.shape, np.float64)
    for i in range(distance.shape[0]):
        for j in range(distance.shape[1]):
            out[i, j] = table[distance[i, j]]
    return out


@njit(cache=True)
def fingerprints(orders: Int64Array, table: UInt64Array) -> UInt64Array:
    """Of each row the exclusive or of ``table[t, item at t]``, uint64[m] (Zobrist 1970)."""
    out = np.zeros(len(orders), np.uint64)
    for row in range(len(orders)):
        for t in range(orders.shape[1]):
            out[row] ^= table[t, orders[row, t]]
    return out


@njit(cache=True)
def absent(values: UInt64Array, known: UInt64Array) -> BoolArray:
    """Whether each value is not among ``known``, which is sorted."""
    out = np.ones(len(values), np.bool_)
    for i in range(len(values)):
        place = np.searchsorted(known, values[i])
        out[i] = place == len(known) or known[place] != values[i]
    return out
