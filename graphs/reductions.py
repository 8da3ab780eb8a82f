"""Precedences that cost nothing: if some order keeps within a budget, one does that keeps to all of them.

- Late: v may as well run right before the first of its successors: what it frees is never more than what it leaves
  behind, so that delaying it lowers what is live in between, and its own step is then no dearer than the successor's.
  So everything that runs before all of its successors may as well run before v.
- Early: the same from the other end. w frees no less than it leaves behind, and right after the last of its
  predecessors its step is no dearer than that one's. So everything that runs after all of them may run after w.
- Twins: nodes that read and write alike, for the same readers, may as well run in the order of the program.

Each rule is applied to the graph with all precedences found before, so that chains of any length follow.
"""

from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from graphs.csr import Int32Array, transposed
from graphs.graph import Graph
from graphs.memory import memory_model

IMPLIED, LATE, EARLY, TWIN = 0, 1, 2, 3  # why a precedence holds


def twins(graph: Graph) -> Int32Array:
    """Pairs of interchangeable nodes, int32[a, 2], the earlier one first; O(n log n) for bounded degrees."""
    steps = memory_model(graph).steps
    written: list[list[tuple[int, int, tuple[int, ...]]]] = [[] for _ in range(graph.n)]
    readers = transposed(graph.reads, graph.k)
    for tensor in np.flatnonzero(graph.writer >= 0):
        row = (int(graph.size[tensor]), int(graph.kind[tensor]), tuple(readers.row(int(tensor)).tolist()))
        written[graph.writer[tensor]].append(row)

    def looks(v: int) -> tuple[object, ...]:
        own = (int(steps.alloc[v]), int(steps.drop[v]), sorted(written[v]))
        reads = sorted(steps.idx[steps.ptr[v] : steps.ptr[v + 1]].tolist())
        return (graph.preds.row(v).tolist(), graph.succs.row(v).tolist(), reads, *own)

    groups = groupby(sorted(range(graph.n), key=looks), key=looks)
    classes = [sorted(group) for _, group in groups]
    pairs = [(a, b) for group in classes for a, b in pairwise(group)]
    return np.array(pairs, np.int32).reshape(-1, 2)


def holds(graph: Graph, reached: npt.NDArray[np.bool_], first: int, second: int, rule: int) -> bool:
    """Whether ``rule`` gives "first before second", by its own definition; for checking proofs.

    ``reached``, bool[n, n]: which nodes run after which, by the graph and the precedences before this one.
    """
    if rule == TWIN:
        return (first, second) in {*map(tuple, twins(graph).tolist())}
    alloc, drop = memory_model(graph).steps.alloc, memory_model(graph).steps.drop
    if rule == LATE:
        near = _nearest(reached, second)
        most = _freed(graph, reached, second)[1]
        cheap = most <= alloc[second] - drop[second] and (drop[second] + most <= alloc[near]).all()
        return bool(len(near) and cheap and reached[first, near].all())
    near = _nearest(reached.T, first)
    cheap = alloc[first] - drop[first] <= _freed(graph, reached, first)[0]
    cheap = cheap and all(alloc[first] <= drop[v] + _freed(graph, reached, v)[0] for v in near)
    return bool(len(near) and cheap and reached[near, second].all())


def _nearest(reached: npt.NDArray[np.bool_], node: int) -> npt.NDArray[np.intp]:
    """The nodes reached from ``node`` that are not reached through others."""
    there = np.flatnonzero(reached[node])
    return there[~reached[np.ix_(there, there)].any(axis=0)]


def _freed(graph: Graph, reached: npt.NDArray[np.bool_], node: int) -> tuple[int, int]:
    """(Bytes that ``node`` frees in any order, bytes that it can free at most)."""
    steps = memory_model(graph).steps
    least = most = 0
    for tensor in steps.idx[steps.ptr[node] : steps.ptr[node + 1]]:
        others = graph.reads.row_of[graph.reads.idx == tensor]
        others = others[others != node]
        least += int(steps.size[tensor]) * bool(reached[others, node].all())
        most += int(steps.size[tensor]) * (not reached[node, others].any())
    return least, most
