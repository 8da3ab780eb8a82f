"""The search behind :func:`graphs.arena.pack`: greedies, a descent over orders, and restarts of a tree search.

Parts of time that share no buffer are packed for themselves. Sizes are in units here: bytes over their common divisor.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphs import _arena_kernels as kernels
from graphs import _arena_search_kernels as tree
from graphs.csr import Float64Array, Int32Array, Int64Array

TREE_BUFFERS, TREE_PAIRS = 2_048, 4_000_000  # a larger part gets the descent only: the tree takes memory by the square
SLICE = 2_000_000  # touches of a buffer or section between two looks at the clock: some 10 to 40 ms
DIVE_NODES = 2_000  # of the shortest tree search
DESCENT = 64  # tries of one turn of the descent
NOISE = (0.0, 0.1, 0.3, 1.0)  # standard deviations beside the logarithms of width, area and breadth
WEIGHT = (1.5, 3.0, 6.0, 12.0)  # of the section with most dead ends beside them
FORGET = 0.7  # what is left of the weight of old dead ends after one tree search


class Clock:
    """Ends a search at a deadline, after a number of steps (a placed buffer or a node is one), or on Ctrl-C."""

    def __init__(self, seconds: float, steps: int | None) -> None:
        self.deadline = time.monotonic() + seconds
        self.left = steps
        self.interrupted = False

    @property
    def late(self) -> bool:
        """Whether the deadline is over."""
        return self.interrupted or time.monotonic() >= self.deadline

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.late or (self.left is not None and self.left <= 0)

    def spend(self, steps: int) -> None:
        """Count ``steps``."""
        if self.left is not None:
            self.left -= steps

    def until_interrupted(self, work: Callable[[], None]) -> None:
        """Run ``work``; Ctrl-C ends it and is noted, for what was found by then is kept."""
        try:
            work()
        except (KeyboardInterrupt, SystemError) as error:
            found: BaseException | None = error
            while isinstance(found, SystemError):  # what compiled code makes of a signal as it returns
                found = found.__cause__
            if not isinstance(found, KeyboardInterrupt):
                raise
            self.interrupted = True


def sections(lower: Int64Array, upper: Int64Array) -> tuple[Int64Array, Int64Array, int]:
    """Lifetimes in local maxima of the set of live buffers: (first, behind the last, number of them); O(b log b).

    Two buffers share a section where, and only where, their lifetimes (half-open, not empty) overlap.
    """
    moment = np.concatenate([upper, lower])
    starts = np.repeat(np.array([False, True]), len(lower))
    rows = np.lexsort((starts, moment))  # where one ends as another starts they do not meet
    moment, starts = moment[rows], starts[rows]
    peaks = moment[:-1][starts[:-1] & ~starts[1:]]  # the last start before an end
    return np.searchsorted(peaks, lower), np.searchsorted(peaks, upper), len(peaks)


def live_sizes(first: Int64Array, behind: Int64Array, size: Int64Array, count: int) -> Int64Array:
    """Total size alive in each of ``count`` sections, int64[count]."""
    change = np.zeros(count + 1, np.int64)
    np.add.at(change, first, size)
    np.subtract.at(change, behind, size)
    return np.cumsum(change)[:-1]


@dataclass(eq=False)
class Part:
    """Buffers of a stretch of time that shares none with the rest, sorted by their first section."""

    rows: Int64Array  # int64[b] where they stand in the caller's arrays
    lower: Int64Array  # int64[b] sections
    upper: Int64Array
    size: Int64Array  # int64[b] units
    live: Int64Array  # int64[s] units
    order: Int64Array = field(init=False)  # int64[b] the order of placing that gave ``offset``
    offset: Int64Array = field(init=False)  # int64[b] units
    units: int = field(init=False)  # size of the arena that ``offset`` takes
    floor: int = field(init=False)  # no packing takes fewer units
    method: str = field(init=False)

    def __post_init__(self) -> None:
        self.floor = int(self.live.max())
        self.reach = kernels.block_reach(self.upper)
        self.units = kernels.FAR

    @property
    def pairs(self) -> int:
        """Number of ordered pairs of buffers that overlap in time."""
        begun = np.searchsorted(self.lower, self.upper)
        over = np.searchsorted(np.sort(self.upper), self.lower, side="right")
        return int((begun - over).sum()) - len(self.lower)

    @cached_property
    def keys(self) -> dict[str, Int64Array]:
        """For each of the greedies what it places by, largest first, int64[b]."""
        widest = np.empty(len(self.size), np.int64)  # most that is alive during each buffer's life
        for i, (start, end) in enumerate(zip(self.lower, self.upper, strict=True)):
            widest[i] = self.live[start:end].max()
        return {
            "greedy_by_size": self.size,
            "best_fit": self.size,
            "by_breadth": widest,
            "by_lifetime": self.upper - self.lower,
            "first_fit": -self.lower,
        }

    def greedy(self, method: str) -> None:
        """Pack by one greedy; kept if it is the best so far."""
        order = np.lexsort((-self.size, -self.keys[method])).astype(np.int64)
        offset = np.empty_like(self.size)
        found = self._fit(order, method == "best_fit", offset)
        if found < self.units:
            self.order, self.offset, self.units, self.method = order, offset, found, method

    def _fit(self, order: Int64Array, tightest: bool, offset: Int64Array) -> int:
        return int(kernels.fit(order, self.lower, self.upper, self.size, self.reach, tightest, kernels.FAR, offset))

    def take(self, offset: Int64Array, method: str) -> None:
        """Keep a packing that is better than the best so far."""
        self.offset, self.units, self.method = offset.copy(), int((offset + self.size).max()), method
        self.order = np.lexsort((self.lower, self.offset)).astype(np.int64)


def parts_of(lower: Int64Array, upper: Int64Array, size: Int64Array) -> list[Part]:
    """The parts of time that buffers (none of them empty in time or size) fall into; O(b log b)."""
    first, behind, count = sections(lower, upper)
    rows = np.lexsort((behind, first)).astype(np.int64)
    first, behind = first[rows].astype(np.int64), behind[rows].astype(np.int64)
    live = live_sizes(first, behind, size[rows], count)
    starts = np.flatnonzero(first[1:] >= np.maximum.accumulate(behind)[:-1]) + 1
    parts = []
    for here in np.split(np.arange(len(rows)), starts):
        begin, end = int(first[here[0]]), int(behind[here].max())
        parts.append(Part(rows[here], first[here] - begin, behind[here] - begin, size[rows[here]], live[begin:end]))
    return parts


class Search:
    """Turns of a search that lowers one part's arena; each does one piece of work of a bounded length.

    A tree search ranks the buffers by a random mixture of width, size and breadth, with noise, and most by the dead
    ends that earlier ones met. Three of four aim at the goal, the others between it and the best.
    Their lengths follow Luby's sequence, since the time that one takes has a heavy tail.
    """

    def __init__(self, part: Part, seed: int) -> None:
        self.part = part
        self.random = np.random.default_rng(seed)
        self.state = self.random.integers(1, 1 << 62, 1, dtype=np.uint64)
        self.turn = 0
        self.attempts = [0, 0]  # tree searches so far that aimed at the goal, and looser ones
        self.share = 0.5  # of the way from the best to the goal, where the looser tree searches aim
        self.weight = np.zeros(len(part.live))
        self.pairs = max(1, part.pairs)
        self.cost = len(part.size) + int((part.upper - part.lower).sum())  # of a node of the tree, at the most
        self.problem = _problem(part)
        self.tree = None if self.problem is None else tree.new_state(self.problem)
        logs = [np.log(part.upper - part.lower), np.log(part.size), 10 * np.log(part.keys["by_breadth"] / part.floor)]
        self.traits: Float64Array = np.stack(logs)

    def step(self, goal: int, clock: Clock) -> None:
        """One turn towards an arena of ``goal`` units; at least the part's floor."""
        self.turn += 1
        often = 2 if self.part.method == "descent" else 16  # more of what has found the best so far
        if self.problem is None or self.turn % often == 1:
            self._descend(goal, clock)
        else:
            self._dive(goal, self.turn % 4 == 0, clock)

    def _descend(self, goal: int, clock: Clock) -> None:
        part = self.part
        order, offset = part.order.copy(), np.empty_like(part.size)
        tries = max(1, min(DESCENT, SLICE // self.pairs))
        units = int(
            kernels.descend(order, part.lower, part.upper, part.size, part.reach, goal, tries, offset, self.state)
        )
        clock.spend(tries * len(order))
        if units < part.units:
            part.offset, part.units, part.method = offset, units, "descent"
        if units <= part.units:
            part.order = order

    def _dive(self, goal: int, loose: bool, clock: Clock) -> None:
        assert self.problem is not None  # a part with a tree, as its caller has seen
        assert self.tree is not None
        above = self.part.units - 1 - goal  # of the best target that is not the goal itself
        target = goal + above - int(self.share * above) if loose else goal
        rank = self._rank(self.attempts[loose], loose)
        limit = _luby(self.attempts[loose] // 4 + 1) * max(DIVE_NODES, 4 * len(rank))
        self.attempts[loose] += 1
        tree.restart(self.problem, self.tree)
        at, ended = self.tree.at, 0
        while ended < tree.FOUND and at[tree.NODES] < limit and not clock.over:
            budget = min(limit - int(at[tree.NODES]), max(64, SLICE // self.cost))
            if clock.left is not None:
                budget = min(budget, clock.left)
            before = int(at[tree.NODES])
            ended = tree.run(self.problem, self.tree, rank, target, budget)
            clock.spend(int(at[tree.NODES]) - before)
        if ended == tree.FOUND:
            self.part.take(self.tree.offset, "search")
            self.share = 0.5
        elif ended == tree.REFUTED:
            self.part.floor = target + 1
        elif loose:
            self.share = max(0.01, self.share * 0.8)
        self.weight *= FORGET
        self.weight += self.tree.failures / max(1, int(self.tree.failures.sum()))

    def _rank(self, attempt: int, loose: bool) -> Int64Array:
        """Ranks for a tree search, int64[b]."""
        log_width, log_size, breadth = self.traits
        if attempt < 4:  # MiniMalloc's orders: which of width, area and breadth comes first
            keys = (log_width, log_width + log_size, breadth)
            rows = np.lexsort([-keys[which] for which in ((1, 2, 0), (2, 0, 1), (2, 1, 0), (1, 0, 2))[attempt]][::-1])
        else:
            score = self.random.dirichlet(np.ones(3)) @ self.traits
            score = score + self.random.normal(size=len(score)) * self.random.choice(NOISE)
            if attempt % (2 if loose else 4):
                worst = self.weight / self.weight.max(initial=1e-300)
                part = self.part
                heavy = [worst[start:end].max() for start, end in zip(part.lower, part.upper, strict=True)]
                score = 0.3 * score + self.random.choice(WEIGHT) * np.array(heavy)
            rows = np.argsort(-score, kind="stable")
        rank = np.empty(len(rows), np.int64)
        rank[rows] = np.arange(len(rows))
        return rank


def _problem(part: Part) -> tree.Problem | None:
    """The arrays of the tree search, or None where they would be too large."""
    if len(part.size) > TREE_BUFFERS or part.pairs > TREE_PAIRS:
        return None
    meets = (part.lower[:, None] < part.upper) & (part.lower < part.upper[:, None])
    np.fill_diagonal(meets, False)
    ptr = np.concatenate([[0], np.cumsum(meets.sum(axis=1))]).astype(np.int64)
    idx: Int32Array = np.nonzero(meets)[1].astype(np.int32)
    return tree.Problem(part.lower, part.upper, part.size, ptr, idx, part.live)


def _luby(i: int) -> int:
    """Luby, Sinclair and Zuckerman's sequence (1993), from i = 1: 1 1 2 1 1 2 4 ..."""
    while True:
        k = i.bit_length()
        if i == (1 << k) - 1:
            return 1 << (k - 1)
        i -= (1 << (k - 1)) - 1


def search(parts: list[Part], goal: int, seed: int, clock: Clock) -> None:
    """Lower the parts' arenas until all take at most ``goal`` units, are proven best, or ``clock`` ends it."""
    searches: dict[int, Search] = {}
    while not clock.over:
        worst = max(range(len(parts)), key=lambda place: parts[place].units)
        aim = max(goal, *(part.floor for part in parts))
        if parts[worst].units <= aim:
            return
        if worst not in searches:
            searches[worst] = Search(parts[worst], seed + worst)
        searches[worst].step(aim, clock)
