"""Which nodes must run before which in every order within a budget, and proofs that no order keeps within it.

A node v runs from an ideal S; within a budget B, live(S) is at most B less what v allocates. Where every S that lacks u
costs more (a minimum cut with u held on the other side), u must run before v; where every S that holds u does, u must
run after it. Each precedence found narrows the ideals of all other nodes, so that their cuts rise and more follow,
until nothing does, or some node has no ideal left: then no order has a peak within B. (Domain filtering by a relaxation
is known from constraint programming; the relaxation here is a minimum cut a node, and what it filters is the partial
order itself.) The precedences of :mod:`graphs.reductions`, which cost nothing, take part: they narrow ideals too.
Precedences that hold within a budget hold within any lower one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphs.csr import CSR, Int32Array, transposed
from graphs.errors import quoted
from graphs.graph import Graph, Kind, Order, program_order
from graphs.memory import memory_model, simulate
from graphs.reductions import TWIN, twins

IDEALS = 24  # remembered for each node, at most
MEMORY = 256 << 20  # bytes for them, at most
ROOM = 16  # precedences a node that there is room for
UNLIMITED = 1 << 60
MOST = 1 << 57  # bytes: flows, and what cannot be cut, are counted in 64 bits
GO_ON = np.zeros(1, np.int8)


@dataclass(frozen=True, eq=False)
class Refutation:
    """Proof that no legal order has a peak below ``bytes``; :func:`graphs.bound.check_bound` goes through it.

    If some order has a lower peak, one does in which node ``pairs[i, 0]`` runs before ``pairs[i, 1]``, for every i. For
    ``rules[i]`` IMPLIED the step of ``at[i]``, one of the two, would cost too much otherwise, given the precedences
    before this one; else it is one of the rules of :mod:`graphs.reductions`. In the end the step of ``node`` costs too
    much whatever has run before.
    """

    bytes: int
    pairs: Int32Array  # int32[a, 2]
    at: Int32Array  # int32[a]
    rules: npt.NDArray[np.int8]  # int8[a]
    node: int


class Implied:
    """Precedences that some order of ``graph`` with a peak of at most ``budget`` bytes keeps to, if there is one.

    Takes O(n^2) bits, and O(n m) time to begin with.

    Args:
        graph: whose orders are meant.
        reduced: whether precedences that cost nothing take part; without them, all such orders keep to what is found.
        stop: int8[1]; setting it from another thread ends the look for precedences that cost nothing.

    Raises:
        ValueError: the graph's sizes add up to more than MOST bytes, with which flows could not be counted.
    """

    def __init__(self, graph: Graph, *, reduced: bool = True, stop: npt.NDArray[np.int8] = GO_ON) -> None:
        from graphs import _implied_kernels

        if (total := total_bytes(graph)) > MOST:
            raise ValueError(
                f"the sizes of graph {quoted(graph.name)} add up to more than {MOST:,} bytes (got {total:,})"
            )
        n = graph.n
        words = (n + 63) // 64
        kept = max(4, min(IDEALS, MEMORY // max(8 * n * words, 1)))
        self.graph = graph
        self.budget = UNLIMITED
        self.flows = 0  # that were asked for
        self.unit = unit_of(graph)
        self._network = _network(graph)
        self._sets = (np.zeros((n, words), np.uint64), np.zeros((n, words), np.uint64))  # ancestors, descendants
        _implied_kernels.close(*graph.preds, *self._sets)
        self._known = (np.zeros((n, kept, words), np.uint64), np.zeros((n, kept), np.int64), np.zeros(n, np.int32))
        self._pairs, self._at = np.zeros((ROOM * n, 2), np.int32), np.zeros(ROOM * n, np.int32)
        self._rules, self._number = np.zeros(ROOM * n, np.int8), 0
        self._reduced = reduced
        self._looked, self._due = np.full(n, -1, np.int32), np.ones(n, np.bool_)
        self._level = np.zeros(n, np.int64)
        self._order: Order = program_order(graph)
        self.open_pairs_before = self.open_pairs
        if reduced:
            self._add_twins()
            self._reduce(stop)

    def copy(self) -> "Implied":
        """One that goes on to lower budgets by itself."""
        other: Implied = object.__new__(Implied)
        other.__dict__.update(self.__dict__)
        for name in ("_sets", "_known"):
            other.__dict__[name] = tuple(part.copy() for part in getattr(self, name))
        for name in ("_pairs", "_at", "_rules", "_looked", "_due", "_level"):
            other.__dict__[name] = getattr(self, name).copy()
        return other

    @property
    def pairs(self) -> Int32Array:
        """The precedences found, int32[a, 2]: the first of each row runs before the second."""
        return self._pairs[: self._number]

    @property
    def open_pairs(self) -> int:
        """How many pairs of nodes may still run in either order."""
        n = self.graph.n
        return n * (n - 1) // 2 - int(np.bitwise_count(self._sets[0]).sum())

    def count(self, rule: int) -> int:
        """How many of the precedences found there are by ``rule``, one of those in :mod:`graphs.reductions`."""
        return int((self._rules[: self._number] == rule).sum())

    def parts(self) -> list[Int32Array]:
        """The nodes, int32[p] each, in stretches that run one after the other in every order that keeps to all pairs.

        A node that is comparable with every other has one place in all such orders, and divides them there.
        """
        before, after = (np.bitwise_count(bits).sum(axis=1) for bits in self._sets)
        order = np.argsort(before, kind="stable").astype(np.int32)
        alone = np.sort(before[before + after == self.graph.n - 1]).astype(np.int64)
        return [part for part in np.split(order, np.unique([*alone, *(alone + 1)])) if len(part)]

    def learn(self, order: Order) -> None:
        """Save work: from where a good ``order`` runs a node, it can be run, so that need not be asked."""
        from graphs import _implied_kernels

        step_bytes = simulate(self.graph, order).step_bytes
        self._order = np.array(order, np.int32)
        self._level[order] = np.maximum(self._level[order], step_bytes)
        known = (self._pairs, self._looked, self._known)
        _implied_kernels.learn_order(self._order, step_bytes, self.budget, *known)

    def tighten(self, budget: int, *, stop: npt.NDArray[np.int8]) -> Refutation | None:
        """Find what a peak of at most ``budget`` bytes implies; returns a proof if no order has one.

        Args:
            budget: not above that of an earlier call.
            stop: int8[1]; setting it from another thread ends this early, with fewer precedences.

        Raises:
            ValueError: the budget is above that of an earlier call.
        """
        from graphs import _implied_kernels

        if budget > self.budget:
            raise ValueError(f"'budget' must not rise (got {budget:,} after {self.budget:,})")
        if budget < self.budget:
            self.budget = budget
            self._due[:] = True
        steps = tuple(memory_model(self.graph).steps)
        while True:
            implied = (self._pairs, self._at, self._looked, self._due, self._number)
            status, self._number, node, flows = _implied_kernels.tighten(
                self._network, steps, self._order, budget, *self._sets, implied, self._known, self._level, stop
            )
            self.flows += int(flows)
            if status == _implied_kernels.REFUTED:
                return self._refutation(int(node))
            if status == _implied_kernels.STOPPED or not (self._reduced and self._reduce(stop)):
                return None

    def _refutation(self, node: int) -> Refutation:
        last = self._number
        lowest = -(-(self.budget + 1) // self.unit) * self.unit
        return Refutation(lowest, self._pairs[:last].copy(), self._at[:last].copy(), self._rules[:last].copy(), node)

    def _add_twins(self) -> None:
        from graphs import _implied_kernels

        pairs = twins(self.graph)[: len(self._at)]
        for first, second in pairs.tolist():
            _implied_kernels.precede(first, second, *self._sets)
        self._number = len(pairs)
        self._pairs[: self._number], self._rules[: self._number] = pairs, TWIN

    def _reduce(self, stop: npt.NDArray[np.int8]) -> bool:
        """Whether there are further precedences that cost nothing."""
        from graphs import _reduction_kernels

        before = self._number
        steps = memory_model(self.graph).steps
        readers = transposed(CSR(steps.ptr, steps.idx), self.graph.k)
        arrays = (tuple(steps), tuple(self.graph.preds), tuple(self.graph.succs), tuple(readers), *self._sets)
        found = (self._pairs, self._at, self._rules)
        self._number = _reduction_kernels.reduce(*arrays, found, self._number, stop)
        return self._number > before


def total_bytes(graph: Graph) -> int:
    """All sizes and scratch, in bytes."""
    return int(graph.size.sum()) + int(graph.scratch.sum())


def unit_of(graph: Graph) -> int:
    """The largest number of bytes of which every peak is a multiple."""
    return int(np.gcd.reduce(np.concatenate([graph.size, graph.scratch]))) or 1


def _network(graph: Graph) -> tuple[Any, ...]:
    """Tensors that take part in cuts (writer, -1 for none; whether kept; rows of readers; bytes), and predecessors."""
    kept = (graph.kind == Kind.OUTPUT) & (graph.size > 0)
    counted = (memory_model(graph).steps.uses > 0) & (graph.size > 0) | kept
    readers = transposed(graph.reads, graph.k)
    ptr = np.zeros(counted.sum() + 1, np.int64)
    np.cumsum(readers.lengths[counted], out=ptr[1:])
    tensors = (graph.writer[counted], kept[counted], ptr, readers.idx[counted[readers.row_of]], graph.size[counted])
    return tensors, tuple(graph.preds)
