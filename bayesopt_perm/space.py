"""The set that is searched: all permutations of n items, or those that keep a precedence relation."""

import math
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from bayesopt_perm import _kernels
from bayesopt_perm._kernels import BoolArray, Int64Array
from bayesopt_perm.distances import distance

__all__ = ["MOVES", "PermutationSpace"]

MOVES = {
    "swap": _kernels.SWAP,
    "adjacent": _kernels.ADJACENT,
    "insert": _kernels.INSERT,
    "reverse": _kernels.REVERSE,
}
MOST_ITEMS = 1800  # squared_differences adds up in 32 bits
MOST_WALK_STEPS = 1_000_000  # about 5 ms a sample; reached at n = 62


class PermutationSpace:
    """Permutations of ``n`` items, as orders: ``order[t]`` is the item at place t, int64[n].

    ``precedence`` holds pairs ``(u, v)``: item u must come before item v. The members are then the linear
    extensions of that relation. Two spaces with the same n and pairs are equal.

    Raises:
        ValueError: if n is not from 1 to 1800, an item of a pair is out of range, or the pairs form a cycle.

    Example:
        >>> from bayesopt_perm import PermutationSpace
        >>> space = PermutationSpace(3, precedence=[(0, 2)])
        >>> space.count(), [order.tolist() for order in space], [2, 1, 0] in space
        (3, [[0, 1, 2], [0, 2, 1], [1, 0, 2]], False)
        >>> space.sample(5, seed=0).shape, space.before[0].tolist()
        ((5, 3), [False, False, True])
        >>> space.distance([0, 1, 2], [0, 2, 1], "kendall").tolist()  # pairs that stand in the other order
        [[1]]
    """

    def __init__(self, n: int, precedence: Iterable[tuple[int, int]] | None = None) -> None:
        if not 1 <= n <= MOST_ITEMS:
            raise ValueError(f"'n' must be from 1 to {MOST_ITEMS} (got {n})")
        self.n = int(n)
        try:
            pairs = {(int(u), int(v)) for u, v in precedence or ()}
        except (TypeError, ValueError):
            raise ValueError("'precedence' must hold pairs (u, v) of items, u before v") from None
        self.precedence: tuple[tuple[int, int], ...] = tuple(sorted(pairs))
        for pair in self.precedence:
            if not all(0 <= item < n for item in pair):
                raise ValueError(f"'precedence' has the pair {pair}, but items go from 0 to {n - 1}")
        _refuse_cycle(self.n, self.precedence)

    def __repr__(self) -> str:
        return f"PermutationSpace({self.n}{f', {len(self.precedence)} precedences' if self.precedence else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PermutationSpace) and (self.n, self.precedence) == (other.n, other.precedence)

    def __hash__(self) -> int:
        return hash((self.n, self.precedence))

    @cached_property
    def before(self) -> BoolArray:
        """Whether item u must come before item v, transitively, bool[n, n]; bool[0, 0] without precedence."""
        if not self.precedence:
            return np.zeros((0, 0), np.bool_)
        closure = np.zeros((self.n, self.n), np.bool_)
        successors = self._successors
        for u in reversed(_topological(self.n, successors)):
            for v in successors[u]:
                closure[u, v] = True
                closure[u] |= closure[v]
        return closure

    @cached_property
    def _successors(self) -> list[list[int]]:
        return _successor_lists(self.n, self.precedence)

    def check(self, orders: ArrayLike) -> Int64Array:
        """``orders`` as int64[b, n] (one order becomes one row), each proven to be a member.

        Raises:
            ValueError: naming the row, if it is not a permutation or breaks a precedence.
        """
        rows = np.asarray(orders)
        if rows.ndim == 1:
            rows = rows[None]
        if rows.ndim != 2 or rows.shape[1] != self.n:
            raise ValueError(f"an order must have {self.n} items (got an array of shape {np.shape(orders)})")
        if rows.dtype.kind not in "iu" and not (rows.dtype.kind == "f" and np.array_equal(rows, np.rint(rows))):
            raise ValueError(f"an order must hold whole numbers (got {rows.dtype})")
        rows = np.ascontiguousarray(rows, np.int64)
        bad = np.flatnonzero((np.sort(rows, axis=1) != np.arange(self.n)).any(axis=1))
        if len(bad):
            raise ValueError(_why_no_permutation(rows[bad[0]], int(bad[0])))
        for row, (u, v) in self._broken(rows):
            raise ValueError(f"order {row} has item {v} before item {u}, which must precede it")
        return rows

    def _broken(self, rows: Int64Array) -> Iterator[tuple[int, tuple[int, int]]]:
        if self.precedence and len(rows):
            u, v = np.array(self.precedence).T
            position = np.argsort(rows, axis=1)
            for row, pair in np.argwhere(position[:, u] > position[:, v]).tolist():
                yield row, self.precedence[pair]

    def __contains__(self, order: object) -> bool:
        try:
            return self.check(order).shape == (1, self.n)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            return False

    def sample(self, count: int, seed: int | np.random.Generator = 0) -> Int64Array:
        """``count`` random members, int64[count, n], drawn independently; a Generator is advanced, an int is a seed.

        Uniform without precedence. With precedence each starts as a random topological sort and takes about
        ``n^3 log n`` random exchanges of neighbours that the relation allows (at most a million), a walk whose limit
        is uniform (Karzanov and Khachiyan 1991; the number of steps from Bubley and Dyer 1999).
        """
        rng = np.random.default_rng(seed)
        orders = np.tile(np.arange(self.n), (count, 1))
        if not self.precedence or self.n == 1:
            return rng.permuted(orders, axis=1).astype(np.int64)
        steps = min(MOST_WALK_STEPS, math.ceil(self.n**3 * math.log(self.n + 1)))
        for order in orders:
            order[:] = _topological(self.n, self._successors, rng)
            places = rng.integers(0, self.n - 1, steps)
            places[rng.random(steps) < 0.5] = -1  # a walk that may stay is not periodic
            _kernels.walk(order, self.before, places)
        return orders.astype(np.int64)

    def neighbours(
        self, order: ArrayLike, move: str, at_most: int | None = None, seed: int | np.random.Generator = 0
    ) -> Int64Array:
        """Every distinct member one move from ``order`` (int64[n]), int64[m, n]; ``order`` itself is not among them.

        Moves: ``swap`` any two items, ``adjacent`` two in a row, ``insert`` one item at another place, ``reverse`` a
        stretch. Without precedence there are n(n-1)/2, n-1, (n-1)^2 and n(n-1)/2 of them; of more than ``at_most`` a
        random part is tried.

        Raises:
            ValueError: if the move is unknown or ``order`` is not a member.
        """
        kind, (row,) = _move(move), self.check(order)
        first, second = _places(self.n, kind)
        if at_most is not None and len(first) > at_most:
            some = np.random.default_rng(seed).choice(len(first), at_most, replace=False, shuffle=False)
            first, second = first[some], second[some]
        found: Int64Array = _kernels.neighbours(row, kind, first, second, self.before)
        return found

    def distance(self, a: ArrayLike, b: ArrayLike, name: str = "kendall") -> Int64Array:
        """Distance of every order in ``a`` (int64[m, n]) to every one in ``b`` (int64[k, n]), int64[m, k].

        ``name`` is a key of :data:`bayesopt_perm.distances.DISTANCES`.
        """
        return distance(self.check(a), self.check(b), name).astype(np.int64)

    def count(self, at_most: int = 1_000_000) -> int:
        """The number of members, or ``at_most`` if there are more; takes time in proportion to the answer."""
        if not self.precedence:
            total = 1
            for factor in range(2, self.n + 1):
                total *= factor
                if total >= at_most:
                    return at_most
            return min(total, at_most)
        return sum(1 for _, _ in zip(range(at_most), self, strict=False))

    def __iter__(self) -> Iterator[Int64Array]:
        """Every member once, in lexicographic order."""
        waiting = [0] * self.n
        for _, v in self.precedence:
            waiting[v] += 1
        placed: list[int] = []
        stack = [self._ready(waiting, placed)]
        while stack:
            if not stack[-1]:
                stack.pop()
                if placed:
                    for v in self._successors[placed.pop()]:
                        waiting[v] += 1
                continue
            item = stack[-1].pop()
            placed.append(item)
            for v in self._successors[item]:
                waiting[v] -= 1
            if len(placed) == self.n:
                yield np.array(placed, np.int64)
            stack.append(self._ready(waiting, placed))

    def _ready(self, waiting: list[int], placed: list[int]) -> list[int]:
        used = set(placed)
        return [item for item in reversed(range(self.n)) if not waiting[item] and item not in used]


def _move(name: str) -> int:
    if name not in MOVES:
        raise ValueError(f"unknown move '{name}' (known: {', '.join(MOVES)})")
    return MOVES[name]


@lru_cache(maxsize=16)
def _places(n: int, move: int) -> tuple[Int64Array, Int64Array]:
    """The pairs of places at which a move gives distinct orders, int64[m] each."""
    i, j = (part.ravel() for part in np.indices((n, n)))
    if move == _kernels.INSERT:
        keep = (j != i) & (j != i - 1)  # i to i - 1 is i - 1 to i once more
    elif move == _kernels.ADJACENT:
        keep = j == i + 1
    else:
        keep = j > i
    return i[keep].astype(np.int64), j[keep].astype(np.int64)


def _why_no_permutation(row: Int64Array, index: int) -> str:
    n = len(row)
    outside = row[(row < 0) | (row >= n)]
    if len(outside):
        return f"order {index} is not a permutation of 0 .. {n - 1}: it has the item {outside[0]}"
    items, counts = np.unique(row, return_counts=True)
    again = int(np.argmax(counts > 1))
    return f"order {index} is not a permutation of 0 .. {n - 1}: it has the item {items[again]} {counts[again]} times"


def _successor_lists(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    successors: list[list[int]] = [[] for _ in range(n)]
    for u, v in pairs:
        successors[u].append(v)
    return successors


def _topological(n: int, successors: list[list[int]], rng: np.random.Generator | None = None) -> list[int]:
    """A topological sort (shorter than n if there is a cycle); with ``rng`` a random one, not a uniform one."""
    waiting = [0] * n
    for row in successors:
        for v in row:
            waiting[v] += 1
    ready = [item for item in range(n) if not waiting[item]]
    order: list[int] = []
    while ready:
        pick = int(rng.integers(len(ready))) if rng else len(ready) - 1
        ready[pick], ready[-1] = ready[-1], ready[pick]
        item = ready.pop()
        order.append(item)
        for v in successors[item]:
            waiting[v] -= 1
            if not waiting[v]:
                ready.append(v)
    return order


def _refuse_cycle(n: int, pairs: tuple[tuple[int, int], ...]) -> None:
    done = set(_topological(n, _successor_lists(n, pairs)))
    if len(done) == n:
        return
    predecessors = _successor_lists(n, [(v, u) for u, v in pairs if u not in done and v not in done])
    item = min(set(range(n)) - done)
    path: list[int] = []
    while item not in path:  # an item that is left waits for one that is left
        path.append(item)
        item = predecessors[item][0]
    cycle = [item, *reversed(path[path.index(item) :])]
    shown = " -> ".join(map(str, cycle[:9])) + (" -> ..." if len(cycle) > 9 else "")
    raise ValueError(f"'precedence' has a cycle: {shown}")
