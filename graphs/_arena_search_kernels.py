"""Tree search for a packing of buffers below a given size, compiled; it runs in slices and can be left at any time.

Buffers are placed from the bottom up, each on top of what it overlaps, in the order of their offsets and, where those
are equal, of their ranks: so every left-justified packing is met exactly once. What is left falls into parts that do
not overlap in time, each solved for itself. Most rules are those of MiniMalloc (Moffitt, ASPLOS 2023).

Times are sections: the local maxima of the sets of live buffers, numbered in time order.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from graphs.csr import Int32Array, Int64Array

FAR = (1 << 63) - 1
ENTER, NEXT, FAILED, SOLVED = range(4)  # what the loop does next with the frame on top
FOUND, REFUTED = 4, 5  # how it ends
# Columns of a frame: its buffers in ``members``, the (offset, rank) placed last, its candidates and the one being
# tried, a mark of the trail of changes, and what is left to solve of the parts that the tried candidate leaves.
START, END, OFFSET, RANK, FIRST, LAST, TRIED, TRAIL, PART, PARTS_END, KEY = range(11)
COLUMNS = 11
FRAME, MODE, CHANGES, NODES, RUN = range(5)  # entries of ``at``
DEAD_ENDS = 1 << 18  # of which a search remembers the latest


class Problem(NamedTuple):
    """Buffers, sorted by their first section, of one part of time."""

    lower: Int64Array  # int64[b] first section
    upper: Int64Array  # int64[b] section behind the last
    size: Int64Array  # int64[b]
    ptr: Int64Array  # int64[b + 1] rows of the buffers that each overlaps
    idx: Int32Array
    live: Int64Array  # int64[s] total size in each section


class State(NamedTuple):
    """Where a search stands."""

    at: Int64Array  # int64[5]
    frames: Int64Array  # int64[b + 2, COLUMNS]
    members: Int32Array  # int32[b * b + 4 * b]
    candidates: Int32Array
    placed: npt.NDArray[np.bool_]  # bool[b]
    floor: Int64Array  # int64[b] lowest offset that what is placed leaves to each buffer
    offset: Int64Array  # int64[b] of the buffers that are placed
    least: Int64Array  # int64[b] scratch: ``floor`` and what the order of placing adds to it
    waiting: Int64Array  # int64[s] total size yet to place
    lowest: Int64Array  # int64[s] scratch
    trail_buffer: Int32Array
    trail_floor: Int64Array  # the floor before the change; -1 where the buffer was placed
    failures: Int64Array  # int64[s] dead ends that each section gave
    dead: Int64Array  # int64[DEAD_ENDS] keys of frames that were refuted, in this run or an earlier one


def new_state(problem: Problem) -> State:
    """Room for a search of ``problem``; O(b**2) bytes."""
    b, sections = len(problem.lower), len(problem.live)
    return State(
        np.zeros(5, np.int64),
        np.zeros((b + 2, COLUMNS), np.int64),
        np.empty(b * b + 4 * b, np.int32),
        np.empty(b * (b + 1) // 2 + b, np.int32),
        np.zeros(b, np.bool_),
        np.zeros(b, np.int64),
        np.zeros(b, np.int64),
        np.zeros(b, np.int64),
        np.zeros(sections, np.int64),
        np.zeros(sections, np.int64),
        np.empty(len(problem.idx) + b, np.int32),
        np.empty(len(problem.idx) + b, np.int64),
        np.zeros(sections, np.int64),
        np.zeros(DEAD_ENDS, np.int64),
    )


@njit(cache=True)
def restart(problem: Problem, state: State) -> None:
    """Put ``state`` at the root of the tree."""
    b = len(problem.lower)
    state.at[:RUN] = 0
    state.at[RUN] += 1
    state.placed[:] = False
    state.floor[:] = 0
    state.waiting[:] = problem.live
    state.failures[:] = 0
    state.frames[0, :] = 0
    state.frames[0, END] = b
    state.frames[0, OFFSET] = state.frames[0, RANK] = -1
    for i in range(b):
        state.members[i] = i


@njit(cache=True)
def _raised(problem: Problem, state: State, buffer: int, offset: int) -> int:
    """Lowest offset of ``buffer``, whose floor is below what was placed last: on top of one that is yet to come."""
    least = FAR
    for other in problem.idx[problem.ptr[buffer] : problem.ptr[buffer + 1]]:
        if not state.placed[np.uint32(other)]:
            least = min(least, max(state.floor[other], offset) + problem.size[other])
    return least


@njit(cache=True)
def _mixed(a: int, b: int) -> np.uint64:
    """64 bits that look random, from two numbers (the end of splitmix64)."""
    x = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xD1B54A32D192ED03)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def _key(state: State, f: int, capacity: int) -> int:
    """Key of what frame ``f`` has to solve: buffers and floors. Where all floors are above what was placed last, how
    they came about does not matter, nor in which run; else that is in the key too. A false match has odds of 2**-64.
    """
    frame = state.frames[f]
    key, above = _mixed(-1, capacity), True
    for m in range(frame[START], frame[END]):
        i = np.uint32(state.members[m])
        key += _mixed(i, state.floor[i])
        above = above and state.floor[i] > frame[OFFSET]
    if not above:
        key += _mixed(-2 - state.at[RUN], frame[OFFSET]) + _mixed(-2, frame[RANK])
    return int(np.int64(key | np.uint64(1)))


@njit(cache=True)
def _enter(problem: Problem, state: State, f: int, rank: Int64Array, capacity: int) -> bool:
    """List the candidates of frame ``f``, lowest first; False where what is left cannot fit."""
    lower, upper, size, floor, least = problem.lower, problem.upper, problem.size, state.floor, state.least
    frame, members = state.frames[f], state.members
    start, end, offset, after = frame[START], frame[END], frame[OFFSET], frame[RANK]
    frame[LAST], frame[KEY] = frame[FIRST], _key(state, f, capacity)
    if state.dead[(frame[KEY] >> 8) & (DEAD_ENDS - 1)] == frame[KEY]:
        return False
    height = FAR  # a buffer that could sit wholly below a candidate must come before it
    first, last = lower[members[start]], 0
    for m in range(start, end):
        i = np.uint32(members[m])
        height = min(height, floor[i] + size[i])
        last = max(last, upper[i])
        own = floor[i]
        if own < offset or (own == offset and rank[i] <= after):
            own = _raised(problem, state, i, offset)
        if own > capacity - size[i]:
            state.failures[lower[i] : upper[i]] += 1
            return False
        least[i] = own
    lowest = state.lowest
    lowest[first:last] = capacity
    for m in range(start, end):
        i = np.uint32(members[m])
        own, span = least[i], lowest[lower[i] : upper[i]]  # counted from 0, this loop runs in vector registers
        for s in range(len(span)):
            span[s] = min(span[s], own)
    for s in range(first, last):
        if state.waiting[s] and lowest[s] > capacity - state.waiting[s]:
            state.failures[s] += 1
            return False
    candidates, count = state.candidates, frame[FIRST]
    for m in range(start, end):
        i = np.uint32(members[m])
        own = floor[i]
        if own < height and least[i] == own and (own > offset or rank[i] > after):
            to = count
            while to > frame[FIRST]:
                other = candidates[to - 1]
                if (floor[other], rank[other]) < (own, rank[i]):
                    break
                candidates[to] = other
                to -= 1
            candidates[to] = i
            count += 1
    frame[LAST] = count
    frame[TRIED] = frame[FIRST] - 1
    return True


@njit(cache=True)
def _undo(problem: Problem, state: State, trail: int, mark: int) -> int:
    while trail > mark:
        trail -= 1
        i = state.trail_buffer[trail]
        if state.trail_floor[trail] >= 0:
            state.floor[i] = state.trail_floor[trail]
        else:
            state.placed[i] = False
            state.waiting[problem.lower[i] : problem.upper[i]] += problem.size[i]
    return trail


@njit(cache=True)
def _place(problem: Problem, state: State, i: int, trail: int, capacity: int) -> tuple[bool, int]:
    """Place buffer ``i`` on its floor; (whether each of its sections can still hold the rest, length of the trail)."""
    top = state.floor[i] + problem.size[i]
    state.placed[i] = True
    state.offset[i] = state.floor[i]
    state.trail_buffer[trail], state.trail_floor[trail] = i, -1
    trail += 1
    fits = True
    size, waiting = problem.size[i], state.waiting[problem.lower[i] : problem.upper[i]]
    for s in range(len(waiting)):
        waiting[s] -= size
        if top > capacity - waiting[s]:
            fits = False
            state.failures[problem.lower[i] + s] += 1
    if fits:
        for entry in problem.idx[problem.ptr[i] : problem.ptr[i + 1]]:
            other = np.uint32(entry)
            if not state.placed[other] and state.floor[other] < top:
                state.trail_buffer[trail], state.trail_floor[trail] = other, state.floor[other]
                trail += 1
                state.floor[other] = top
    return fits, trail


@njit(cache=True)
def _open_part(problem: Problem, state: State, f: int, rank: Int64Array) -> None:
    """Make frame ``f + 1`` of the next part in time of what frame ``f``'s tried candidate leaves."""
    frame, below, members = state.frames[f], state.frames[f + 1], state.members
    start, end = frame[PART], frame[PARTS_END]
    behind = start + 1
    reach = problem.upper[members[start]]
    while behind < end and problem.lower[members[behind]] < reach:
        reach = max(reach, problem.upper[members[behind]])
        behind += 1
    tried = state.candidates[frame[TRIED]]
    frame[PART] = behind
    members[end : end + behind - start] = members[start:behind]
    below[START], below[END] = end, end + behind - start
    below[OFFSET], below[RANK] = state.offset[tried], rank[tried]
    below[FIRST] = frame[LAST]


@njit(cache=True)
def run(problem: Problem, state: State, rank: Int64Array, capacity: int, budget: int) -> int:
    """Go on with a search for ``budget`` nodes: ``FOUND``, ``REFUTED``, or less where it has not ended.

    ``rank`` (int64[b], a permutation) says which of the buffers with equal floors is tried first; it and ``capacity``
    must be the same until :func:`restart`. Where found, ``state.offset`` is a packing of at most ``capacity``.
    """
    at = state.at
    f, mode, trail = at[FRAME], at[MODE], at[CHANGES]
    nodes = 0
    while mode < FOUND and nodes < budget:
        frame = state.frames[f]
        if mode == ENTER:
            nodes += 1
            frame[TRAIL] = trail
            mode = NEXT if _enter(problem, state, f, rank, capacity) else FAILED
        elif mode == NEXT:
            trail = _undo(problem, state, trail, frame[TRAIL])
            frame[TRIED] += 1
            if frame[TRIED] >= frame[LAST]:
                mode = FAILED
                continue
            i = state.candidates[frame[TRIED]]
            fits, trail = _place(problem, state, i, trail, capacity)
            if not fits:
                continue
            end = frame[END]
            for m in range(frame[START], frame[END]):
                if state.members[m] != i:
                    state.members[end] = state.members[m]
                    end += 1
            frame[PART], frame[PARTS_END] = frame[END], end
            mode = SOLVED
            if end > frame[END]:
                _open_part(problem, state, f, rank)
                f += 1
                mode = ENTER
        elif mode == FAILED:
            if frame[LAST] > frame[FIRST]:  # others are found out as quickly as they are looked up
                state.dead[(frame[KEY] >> 8) & (DEAD_ENDS - 1)] = frame[KEY]
            f -= 1
            mode = REFUTED if f < 0 else NEXT
        else:
            f -= 1
            if f < 0:
                mode = FOUND
            elif state.frames[f, PART] < state.frames[f, PARTS_END]:
                _open_part(problem, state, f, rank)
                f += 1
                mode = ENTER
    at[FRAME], at[MODE], at[CHANGES] = f, mode, trail
    at[NODES] += nodes
    return int(mode)
