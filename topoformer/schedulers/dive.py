"""Depth-first search over ideals within a budget: one state, a memory of ideals entered, children in any order."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import Graph, Kind
from graphs.csr import Int32Array, Int64Array
from graphs.memory import memory_model
from topoformer.schedulers.beam import CODES_SEED, Found
from topoformer.schedulers.problem import Problem

MEMORY = 512 << 20  # bytes for ideals that were entered
CLIMBS = 1  # of safe moves of several nodes


class Watch(NamedTuple):
    """Nodes whose steps are bounded below in every state: what was left alive for later comes on top of the least."""

    nodes: Int32Array  # int32[k]
    weights: Int64Array  # int64[k, p] bytes that a node which need not precede them leaves alive until they run
    room: Int64Array  # int64[k] bytes that such nodes may leave in all

    def within(self, problem: Problem) -> "Watch":
        """The same, numbered as in ``problem``."""
        number = np.full(self.weights.shape[1], -1, np.int32)
        number[problem.nodes] = np.arange(len(problem.nodes), dtype=np.int32)
        there = number[self.nodes] >= 0
        rows = self.weights[np.ix_(there, problem.nodes)]
        return Watch(number[self.nodes[there]], np.ascontiguousarray(rows), self.room[there])


NOTHING = Watch(np.zeros(0, np.int32), np.zeros((0, 0), np.int64), np.zeros(0, np.int64))


def watch(graph: Graph, nodes: Int32Array, ancestors: npt.NDArray[np.bool_], descendants: npt.NDArray[np.bool_],
          budget: int) -> Watch:  # fmt: skip
    """Bounds on the steps of ``nodes``, int32[k], within ``budget``; their ancestors and descendants as bool[k, n].

    A node's step holds every tensor that it or a descendant still reads, or that is kept: those that its ancestors
    wrote in any case, and those of other nodes that have run.
    """
    counted = memory_model(graph).steps.uses > 0
    kept = graph.kind == Kind.OUTPUT
    weights = np.zeros((len(nodes), graph.n), np.int64)
    room = np.zeros(len(nodes), np.int64)
    written = graph.writer >= 0
    for k, node in enumerate(nodes.tolist()):
        later = descendants[k].copy()
        later[node] = True
        held = kept.copy()
        held[graph.reads.idx[later[graph.reads.row_of]]] = True
        held &= counted | kept
        early = held & np.where(written, ancestors[k][graph.writer], True)
        by_choice = held & written & ~early & ~later[graph.writer]
        np.add.at(weights[k], graph.writer[by_choice], graph.size[by_choice])
        room[k] = budget - int(memory_model(graph).steps.alloc[node]) - int(graph.size[early].sum())
    return Watch(nodes.astype(np.int32), weights, room)


class Dive(NamedTuple):
    """One depth-first search to be run."""

    problem: Problem
    budget: int  # no step may cost more
    most: int  # states to enter
    priority: npt.NDArray[np.float64] | None = None  # float64[p] bytes by which a node is preferred to what it adds
    watch: Watch = NOTHING  # for a problem that is solved from its start

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
        seen = self.watch if self.watch.weights.shape[1] == p else NOTHING._replace(weights=np.zeros((0, p), np.int64))
        status, moves, entered = _dive_kernels.dive(
            problem.arrays, (problem.waits, problem.left, ready, problem.live), p, self.budget, CLIMBS, priority,
            tuple(seen), codes, capacity, self.most, stop,
        )  # fmt: skip
        found = status == _dive_kernels.FOUND
        complete = found or status == _dive_kernels.EXHAUSTED
        nodes = problem.nodes[moves[::-1] if problem.backwards else moves] if found else None
        return Found(nodes, self.budget if found else -1, complete, int(entered))
