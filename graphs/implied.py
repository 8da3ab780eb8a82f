"""Which nodes must run before which in every order within a budget, and proofs that no order keeps within it.

A node v runs from an ideal S; within a budget B, live(S) is at most B less what v allocates. Where every S that lacks u
costs more (a minimum cut with u held on the other side), u must run before v; where every S that holds u does, u must
run after it. Each precedence found narrows the ideals of all other nodes, so that their cuts rise and more follow,
until nothing does, or some node has no ideal left: then no order has a peak within B. (Domain filtering by a relaxation
is known from constraint programming; the relaxation here is a minimum cut a node, and what it filters is the partial
order itself.) Precedences that hold within a budget hold within any lower one too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphs.csr import Int32Array, transposed
from graphs.graph import Graph, Kind, Order, program_order
from graphs.memory import memory_model, simulate

IDEALS = 24  # remembered for each node, at most
MEMORY = 256 << 20  # bytes for them, at most
ROOM = 16  # precedences a node that there is room for
UNLIMITED = 1 << 60


@dataclass(frozen=True, eq=False)
class Refutation:
    """Proof that no legal order has a peak below ``bytes``; :func:`graphs.bound.check_bound` goes through it.

    In every order with a lower peak, node ``pairs[i, 0]`` runs before ``pairs[i, 1]``: the step of ``at[i]``, one of
    the two, would cost too much otherwise, given the precedences before this one. In the end the step of ``node``
    costs too much whatever has run before.
    """

    bytes: int
    pairs: Int32Array  # int32[a, 2]
    at: Int32Array  # int32[a]
    node: int


class Implied:
    """The precedences found so far that hold in every order of ``graph`` with a peak of at most ``budget`` bytes.

    Takes O(n^2) bits, and O(n m) time to begin with.
    """

    def __init__(self, graph: Graph) -> None:
        from graphs import _implied_kernels

        n = graph.n
        words = (n + 63) // 64
        kept = max(4, min(IDEALS, MEMORY // max(8 * n * words, 1)))
        self.graph = graph
        self.budget = UNLIMITED
        self.flows = 0  # that were asked for
        self._network = _network(graph)
        self._sets = (np.zeros((n, words), np.uint64), np.zeros((n, words), np.uint64))  # ancestors, descendants
        _implied_kernels.close(*graph.preds, *self._sets)
        self._known = (np.zeros((n, kept, words), np.uint64), np.zeros((n, kept), np.int64), np.zeros(n, np.int32))
        self._pairs, self._at, self._number = np.zeros((ROOM * n, 2), np.int32), np.zeros(ROOM * n, np.int32), 0
        self._looked, self._due = np.full(n, -1, np.int32), np.ones(n, np.bool_)
        self._level = np.zeros(n, np.int64)
        self._order: Order = program_order(graph)

    def copy(self) -> "Implied":
        """One that goes on to lower budgets by itself."""
        other: Implied = object.__new__(Implied)
        other.__dict__.update(self.__dict__)
        for name in ("_sets", "_known"):
            other.__dict__[name] = tuple(part.copy() for part in getattr(self, name))
        for name in ("_pairs", "_at", "_looked", "_due", "_level"):
            other.__dict__[name] = getattr(self, name).copy()
        return other

    @property
    def pairs(self) -> Int32Array:
        """The precedences found, int32[a, 2]: the first of each row runs before the second."""
        return self._pairs[: self._number]

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
        implied = (self._pairs, self._at, self._looked, self._due, self._number)
        status, self._number, node, flows = _implied_kernels.tighten(
            self._network, steps, self._order, budget, *self._sets, implied, self._known, self._level, stop
        )
        self.flows += int(flows)
        if status != _implied_kernels.REFUTED:
            return None
        return Refutation(budget + 1, self.pairs.copy(), self._at[: self._number].copy(), int(node))


def _network(graph: Graph) -> tuple[Any, ...]:
    """Tensors that take part in cuts (writer, -1 for none; whether kept; rows of readers; bytes), and predecessors."""
    kept = (graph.kind == Kind.OUTPUT) & (graph.size > 0)
    counted = (memory_model(graph).steps.uses > 0) & (graph.size > 0) | kept
    readers = transposed(graph.reads, graph.k)
    ptr = np.zeros(counted.sum() + 1, np.int64)
    np.cumsum(readers.lengths[counted], out=ptr[1:])
    tensors = (graph.writer[counted], kept[counted], ptr, readers.idx[counted[readers.row_of]], graph.size[counted])
    return tensors, tuple(graph.preds)
