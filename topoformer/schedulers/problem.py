"""What a search over ideals is given: a graph, or a stretch of an order, as flat arrays for compiled loops."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphs import Graph, Kind, Order, simulate
from graphs.csr import CSR, Int32Array, csr_from_pairs
from graphs.memory import memory_model

Counts = npt.NDArray[np.signedinteger[Any]]
NO_PAIRS = np.zeros((0, 2), np.int32)


@dataclass(frozen=True)
class Problem:
    """A stretch of the order to be found again: ``nodes`` run in some order after some have run, and before the rest.

    Arrays are numbered within the problem: ``nodes[i]`` is the graph's node of number i.
    """

    nodes: Int32Array  # int32[p]
    # successors' rows, reads' rows, size of tensors, alloc and drop of nodes, count of `left` at which a tensor turns
    # live or dead, and whether the problem is solved from its end
    arrays: tuple[Any, ...]
    waits: Counts  # int[p] predecessors among ``nodes``; successors if solved from the end
    left: Counts  # int[q] readers that are still to run, those after the problem included
    live: int  # bytes at the start, or the end

    @property
    def backwards(self) -> bool:
        """Whether it is solved from its end: what runs first is found last."""
        return bool(self.arrays[-1])


def whole(graph: Graph, pairs: Int32Array = NO_PAIRS, *, backwards: bool = False) -> Problem:
    """All of ``graph`` as one problem.

    Args:
        pairs: int32[a, 2], further precedences to keep to: the first of each row before the second.
        backwards: from the last node to the first. Then what is live is read off the same ideals, from the other side:
            a tensor comes to life with its last reader and is gone with its writer, and a step costs what is live
            after it, the node's own bytes included.
    """
    steps = memory_model(graph).steps
    first = np.concatenate([graph.succs.row_of, pairs[:, 0]])
    second = np.concatenate([graph.succs.idx, pairs[:, 1]])
    nodes = np.arange(graph.n, dtype=np.int32)
    if backwards:
        following = csr_from_pairs(second, first, graph.n)
        costs, turn = (steps.drop, steps.alloc), steps.uses
        live = int(graph.size[graph.kind == Kind.OUTPUT].sum())
    else:
        following = csr_from_pairs(first, second, graph.n)
        costs, turn, live = (steps.alloc, steps.drop), np.ones_like(steps.uses), steps.start
    waits, left, turn = _narrow(np.bincount(following.idx, minlength=graph.n), steps.uses, turn)
    arrays = _fixed(*following, steps.ptr, steps.idx, steps.size, *costs, turn)
    return Problem(nodes, (*arrays, backwards), waits, left, live)


def window(
    graph: Graph, order: Order, first: int, last: int, pairs: Int32Array = NO_PAIRS, *, backwards: bool = False
) -> Problem:
    """The steps [first, last) of a legal ``order`` as a problem, as for :func:`whole`; O(n + m)."""
    steps = memory_model(graph).steps
    nodes = np.sort(order[first:last])
    number = np.full(graph.n, -1, np.int32)
    number[nodes] = np.arange(len(nodes), dtype=np.int32)
    source, target = _rows(graph.succs, nodes)
    before = np.concatenate([source, number[pairs[:, 0]]])
    after = np.concatenate([number[target], number[pairs[:, 1]]])
    inside = (before >= 0) & (after >= 0)
    before, after = before[inside], after[inside]
    following = csr_from_pairs(after, before, len(nodes)) if backwards else csr_from_pairs(before, after, len(nodes))
    reader, tensor = _rows(CSR(steps.ptr, steps.idx), nodes)
    tensors, local = np.unique(tensor, return_inverse=True)
    reads = csr_from_pairs(reader, local, len(nodes))
    done = _rows(CSR(steps.ptr, steps.idx), order[last:] if backwards else order[:first])[1]
    left = steps.uses[tensors] - np.bincount(done, minlength=graph.k)[tensors]
    turn = steps.uses[tensors] if backwards else np.ones_like(left)
    waits, left, turn = _narrow(np.bincount(following.idx, minlength=len(nodes)), left, turn)
    costs = (steps.drop[nodes], steps.alloc[nodes]) if backwards else (steps.alloc[nodes], steps.drop[nodes])
    arrays = _fixed(*following, *reads, steps.size[tensors], *costs, turn)
    return Problem(nodes, (*arrays, backwards), waits, left, _live(graph, order, last if backwards else first))


def _live(graph: Graph, order: Order, step: int) -> int:
    """Bytes that are live before a step of ``order``."""
    return int(simulate(graph, order).live_bytes[step - 1]) if step else memory_model(graph).steps.start


def _fixed(*arrays: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Views that cannot be written to: the kernels are compiled for one kind of array, not for two."""
    views = tuple(array.view() for array in arrays)
    for view in views:
        view.flags.writeable = False
    return views


def _narrow(*counts: npt.NDArray[Any]) -> tuple[Counts, ...]:
    """All of them in 16 bits where they fit: the states of a search are copies of them."""
    fits = max(count.max(initial=0) for count in counts) < 1 << 15
    return tuple(count.astype(np.int16 if fits else np.int32) for count in counts)


def _rows(csr: CSR, rows: Int32Array) -> tuple[Int32Array, Int32Array]:
    """(position in ``rows``, entry) of every entry of the ``rows`` of ``csr``."""
    lengths = csr.lengths[rows]
    position = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
    offset = np.arange(len(position)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return position, csr.idx[csr.ptr[rows][position] + offset]
