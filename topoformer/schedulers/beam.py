"""Down-set beam: level by level over ideals, keeping the best of each size; exact where nothing has to be cut."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import Graph, Order
from graphs.csr import CSR, Int32Array, csr_from_pairs
from graphs.memory import memory_model

Counts = npt.NDArray[np.signedinteger[Any]]
UNLIMITED = 1 << 62
MEMORY = 2 << 30  # bytes that the states of one beam may take
CODES_SEED = 0x70F0  # of the Zobrist codes: they decide no order, only how fast equal ideals are found


@dataclass(frozen=True)
class Problem:
    """A stretch of the order to be found again: ``nodes`` run in some order after ``done`` have run, others later.

    Arrays are numbered within the problem: ``nodes[i]`` is the graph's node of number i.
    """

    nodes: Int32Array  # int32[p]
    arrays: tuple[npt.NDArray[Any], ...]  # successors' rows, reads' rows, size of tensors, alloc, drop
    waits: Counts  # int[p] predecessors among ``nodes``
    left: Counts  # int[q] readers that are still to run, those after the problem included
    live: int  # bytes at the start


def whole(graph: Graph) -> Problem:
    """All of ``graph`` as one problem."""
    steps = memory_model(graph).steps
    arrays = _fixed(*graph.succs, steps.ptr, steps.idx, steps.size, steps.alloc, steps.drop)
    nodes = np.arange(graph.n, dtype=np.int32)
    return Problem(nodes, arrays, *_narrow(graph.preds.lengths, steps.uses), steps.start)


def window(graph: Graph, order: Order, first: int, last: int, live: int) -> Problem:
    """The steps [first, last) of ``order`` as a problem; ``live`` bytes are there before step ``first``; O(n + m)."""
    steps = memory_model(graph).steps
    nodes = np.sort(order[first:last])
    number = np.full(graph.n, -1, np.int32)
    number[nodes] = np.arange(len(nodes), dtype=np.int32)
    succs = _rows(graph.succs, nodes)
    inside = number[succs[1]] >= 0
    succ = csr_from_pairs(succs[0][inside], number[succs[1][inside]], len(nodes))
    reader, tensor = _rows(CSR(steps.ptr, steps.idx), nodes)
    tensors, local = np.unique(tensor, return_inverse=True)
    reads = csr_from_pairs(reader, local, len(nodes))
    read_before = _rows(CSR(steps.ptr, steps.idx), order[:first])[1]
    left = steps.uses[tensors] - np.bincount(read_before, minlength=graph.k)[tensors]
    waits = np.bincount(succ.idx, minlength=len(nodes))
    arrays = _fixed(*succ, *reads, steps.size[tensors], steps.alloc[nodes], steps.drop[nodes])
    return Problem(nodes, arrays, *_narrow(waits, left), live)


def _fixed(*arrays: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Views that cannot be written to: the kernels are compiled for one kind of array, not for two."""
    views = tuple(array.view() for array in arrays)
    for view in views:
        view.flags.writeable = False
    return views


def _narrow(waits: npt.NDArray[Any], left: npt.NDArray[Any]) -> tuple[Counts, Counts]:
    """Both in 16 bits where they fit: the states of a beam are copies of them."""
    fits = max(waits.max(initial=0), left.max(initial=0)) < 1 << 15
    return (waits.astype(np.int16), left.astype(np.int16)) if fits else (waits.astype(np.int32), left.astype(np.int32))


def _rows(csr: CSR, rows: Int32Array) -> tuple[Int32Array, Int32Array]:
    """(position in ``rows``, entry) of every entry of the ``rows`` of ``csr``."""
    lengths = csr.lengths[rows]
    position = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
    offset = np.arange(len(position)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return position, csr.idx[csr.ptr[rows][position] + offset]


class Found(NamedTuple):
    """What one beam found."""

    nodes: Int32Array | None  # the problem's nodes in the best order within the limit; None where there was none
    peak_bytes: int
    complete: bool  # nothing was cut: without an order there is none within the limit, and the best one is the best
    states: int  # ideals that were expanded


def widest(problem: Problem) -> int:
    """The widest beam whose states fit into memory."""
    return max(1, MEMORY // (2 * _state_bytes(problem) + 8 * len(problem.waits)))


def state_cost(problem: Problem) -> float:
    """What one state of ``problem`` costs, in some unit: copying its arrays, and a part that is the same for all."""
    return _state_bytes(problem) + 2000.0


def _state_bytes(problem: Problem) -> int:
    return problem.waits.nbytes + problem.left.nbytes + 4 * len(problem.waits) + len(problem.waits) // 8 + 40


def run_beam(problem: Problem, width: int, *, floor: int, limit: int, stop: npt.NDArray[np.int8]) -> Found:
    """One beam of ``width`` states; setting ``stop[0]``, int8[1], ends it.

    Args:
        floor: peaks up to it count as equal, and among these fewer live bytes are better.
        limit: no step may cost more.
    """
    from topoformer.schedulers import _beam_kernels

    p = len(problem.waits)
    if p == 0:
        return Found(problem.nodes, problem.live, True, 0)
    ready = np.flatnonzero(problem.waits == 0).astype(np.int32)
    codes = np.random.default_rng(CODES_SEED).integers(0, 1 << 64, p, dtype=np.uint64)
    start = (problem.waits, problem.left, ready, problem.live)
    moves, peak, complete, states = _beam_kernels.beam(problem.arrays, start, p, width, floor, limit, codes, stop)
    return Found(problem.nodes[moves] if peak >= 0 else None, int(peak), bool(complete), int(states))
