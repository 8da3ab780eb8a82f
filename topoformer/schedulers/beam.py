"""Down-set beam: level by level over ideals, keeping the best of each size; exact where nothing has to be cut."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs.csr import Int32Array
from topoformer.schedulers.problem import Problem

UNLIMITED = 1 << 62
MEMORY = 2 << 30  # bytes that the states of all beams that run at once may take
CODES_SEED = 0x70F0  # of the Zobrist codes: they decide no order, only how fast equal ideals are found


class Found(NamedTuple):
    """What one beam found."""

    nodes: Int32Array | None  # the problem's nodes in the best order within the limit; None where there was none
    peak_bytes: int
    complete: bool  # nothing was cut: without an order there is none within the limit, and the best one is the best
    states: int  # ideals that were expanded


def state_cost(problem: Problem) -> float:
    """What one state of ``problem`` costs, in some unit: copying its arrays, and a part that is the same for all."""
    return state_bytes(problem) + 2000.0


def state_bytes(problem: Problem) -> int:
    """What one state of ``problem`` takes."""
    return problem.waits.nbytes + problem.left.nbytes + 4 * len(problem.waits) + len(problem.waits) // 8 + 40


def run_beam(
    problem: Problem, width: int, *, floor: int, limit: int, stop: npt.NDArray[np.int8], climbs: int = 0
) -> Found:
    """One beam of ``width`` states; setting ``stop[0]``, int8[1], ends it.

    Args:
        floor: peaks up to it count as equal, and among these fewer live bytes are better.
        limit: no step may cost more.
        climbs: look for safe moves of several nodes with so many climbs; fewer states, each of them dearer.
    """
    from topoformer.schedulers import _beam_kernels

    p = len(problem.waits)
    if p == 0:
        return Found(problem.nodes, problem.live, True, 0)
    ready = np.flatnonzero(problem.waits == 0).astype(np.int32)
    codes = np.random.default_rng(CODES_SEED).integers(0, 1 << 64, p, dtype=np.uint64)
    start = (problem.waits, problem.left, ready, problem.live)
    moves, peak, complete, states = _beam_kernels.beam(
        problem.arrays, start, p, width, floor, limit, climbs, codes, stop
    )
    nodes = problem.nodes[moves[::-1] if problem.backwards else moves]
    return Found(nodes if peak >= 0 else None, int(peak), bool(complete), int(states))
