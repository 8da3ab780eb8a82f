"""Depth-first search over ideals within a budget: one state, a memory of ideals entered, children in any order."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topoformer.schedulers.beam import CODES_SEED, Found
from topoformer.schedulers.problem import Problem

MEMORY = 512 << 20  # bytes for ideals that were entered
CLIMBS = 1  # of safe moves of several nodes, at most


class Dive(NamedTuple):
    """One depth-first search to be run."""

    problem: Problem
    budget: int  # no step may cost more
    most: int  # states to enter
    priority: npt.NDArray[np.float64] | None = None  # float64[p] bytes by which a node is preferred to what it adds

    @property
    def states(self) -> int:
        """How many it enters at most."""
        return self.most

    @property
    def bytes(self) -> int:
        """How much memory it takes at most."""
        return min(MEMORY, 2 * self.most * (8 * (len(self.problem.waits) // 64 + 1) + 16))

    def scaled(self, scale: float) -> "Dive":
        """One that enters fewer states."""
        return self._replace(most=max(1, int(scale * self.most)))

    def run(self, stop: npt.NDArray[np.int8]) -> Found:
        """Run it, until ``stop`` is raised; complete where there is no order within the budget, for certain."""
        from topoformer.schedulers import _dive_kernels

        problem, p = self.problem, len(self.problem.waits)
        if p == 0:
            return Found(problem.nodes, problem.live, True, 0)
        ready = np.flatnonzero(problem.waits == 0).astype(np.int32)
        codes = np.random.default_rng(CODES_SEED).integers(0, 1 << 64, p, dtype=np.uint64)
        capacity = max(1, min(self.most, MEMORY // (8 * (p // 64 + 1) + 16)))
        priority = np.zeros(p) if self.priority is None else np.asarray(self.priority, np.float64)
        status, moves, entered = _dive_kernels.dive(
            problem.arrays, (problem.waits, problem.left, ready, problem.live), p, self.budget, CLIMBS, priority,
            codes, capacity, self.most, stop,
        )  # fmt: skip
        found = status == _dive_kernels.FOUND
        complete = found or status == _dive_kernels.EXHAUSTED
        nodes = problem.nodes[moves[::-1] if problem.backwards else moves] if found else None
        return Found(nodes, self.budget if found else -1, complete, int(entered))
