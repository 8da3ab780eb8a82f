"""What a search knows and may still spend: the best order and bound so far, the time and the steps that are left."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from graphs import Graph, Order, peak_bytes, simulate
from graphs.bound import cut_bound, footprint_bound
from graphs.cost import OBJECTIVES, Objective
from graphs.cuts import CutNetwork, Witness
from graphs.implied import Refutation, unit_of
from topoformer.outcome import Outcome, Phase, Progress, Standing
from topoformer.schedulers import list_scheduling as ls
from topoformer.schedulers.beam import MEMORY, Found, run_beam, state_bytes, state_cost
from topoformer.schedulers.dive import Dive
from topoformer.schedulers.problem import Problem, whole, window
from topoformer.schedulers.stopper import Flag, Stopper

CHEAP = (
    *(ls.program, ls.lpmf, ls.net_change, ls.oldest, ls.dfs, ls.liu),
    *(ls.bfs, ls.smallest, ls.critical_path, ls.random),
)
CUT_SHARE = 0.3  # of the time, at most, goes into the first bound
SPEED = 2e9  # units of state_cost a second, a low guess; replaced by what is measured
GROUP = 2  # searches that are begun at once where steps are counted
WORTH_SAYING = 0.5  # seconds of compiling
TINY = Graph.build("tiny", "abc", [[], [0], [0, 1]], [0, 1, 2], [1, 1, 1])
WORKERS = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


class Search:
    """The state that the phases of a method share; each of them ends when :attr:`over`.

    With ``steps`` the search is the same on any machine, if it ends before ``seconds`` do: a step is one state that a
    beam keeps, or the like.
    """

    def __init__(
        self,
        graph: Graph,
        objective: Objective,
        seconds: float,
        seed: int,
        steps: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.graph, self.objective, self.seconds, self.seed, self.steps = graph, objective, seconds, seed, steps
        self.phases: list[Phase] = []
        self._progress, self._doing = progress, ""
        self._compiling = _seconds_of(_compile_costs)  # before the clock starts
        self.stopper = Stopper(time.monotonic() + seconds)
        self.rng = np.random.default_rng(seed)
        self.narrowed = ""
        self.spent = 0
        self._speed: dict[type, float] = {}  # units of state_cost a second, as measured for each kind of task
        self._filled: dict[type, float] = {}  # share of the states it might make that a kind of task did make
        self.order: Order = CHEAP[0](graph, objective, seconds=seconds, seed=seed)
        self.peak = peak_bytes(graph, self.order)
        self.bound, self.unit = footprint_bound(graph), unit_of(graph)
        self.witness: Witness | Refutation | None = None
        self._network: CutNetwork | None = None
        self._say_compiling(self._compiling)
        self._compiled: set[Callable[[], object]] = set()

    @property
    def over(self) -> bool:
        """Whether there is nothing left to find, or nothing left to find it with."""
        spent = self.steps is not None and self.spent >= self.steps
        return (self.objective.is_memory and self.peak <= self.bound) or spent or self.stopper.expired

    @property
    def group(self) -> int:
        """How many searches are begun before the first of them is looked at: as many as can run at once.

        With a step cap it is the same number on any machine, so that the answer is.
        """
        return WORKERS if self.steps is None else GROUP

    @property
    def searchable(self) -> bool:
        """Whether ideals decide the cost, so that there is something to search."""
        return self.objective.is_memory and self.graph.n > 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record what was known when this ended, and what it took without compiling."""
        began, compiled = time.monotonic(), self._compiling
        self._tell(name)
        try:
            yield
        finally:
            took = time.monotonic() - began - (self._compiling - compiled)
            if self.phases and self.phases[-1].name == name:
                took += self.phases.pop().seconds
            self.phases.append(Phase(name, took, self.peak, self.bound))

    def compile(self, kernels: Callable[[], object]) -> None:
        """Have ``kernels`` compiled, or read from the cache, while the clock stands still.

        On a new machine that takes longer than many a search is given.
        """
        if kernels in self._compiled:
            return
        self._compiled.add(kernels)
        doing = self._doing
        self._tell("compiling")
        took = _seconds_of(kernels)
        self.stopper.deadline += took
        self._compiling += took
        self._tell(doing)
        self._say_compiling(took)

    def _tell(self, doing: str) -> None:
        """Say how far the search is, and remember what it is at."""
        self._doing = doing
        if self._progress is not None and doing:
            value = self.peak if self.objective.is_memory else self.objective(self.graph, self.order)[1]
            self._progress(Standing(doing, value, self.peak, self.bound, self.stopper.left))

    def _say_compiling(self, took: float) -> None:
        if took > WORTH_SAYING:
            self.phases.append(Phase("compiling", took, self.peak, self.bound))

    def outcome(self) -> Outcome:
        """The answer so far."""
        return Outcome(
            self.order, self.bound, self.witness, tuple(self.phases), self.stopper.interrupted, self.narrowed
        )

    def offer(self, order: Order) -> bool:
        """Take ``order`` if its peak is lower."""
        peak = peak_bytes(self.graph, order)
        if peak < self.peak:
            self.order, self.peak = order, peak
            self._tell(self._doing)
            return True
        return False

    def prove(self, bound: int, witness: Witness | Refutation | None = None) -> None:
        """No order has a peak below ``bound``; without a witness because a search left nothing out."""
        bound = -(-bound // self.unit) * self.unit
        if bound > self.bound:
            self.bound, self.witness = bound, witness
            self._tell(self._doing)

    def policies(self) -> None:
        """Ties keep the earlier one, so that the program's order stays where nothing is gained."""
        self.compile(_compile_policies)
        with self.phase("policies"):
            lowest = self.objective(self.graph, self.order)
            for policy in CHEAP[1:]:
                if self.over:
                    break
                order = policy(self.graph, self.objective, seconds=self.seconds, seed=self.seed)
                value = self.objective(self.graph, order)
                if value < lowest:
                    lowest, self.order, self.peak = value, order, peak_bytes(self.graph, order)

    def cuts(self, most: float = CUT_SHARE) -> None:
        """Raise the bound by minimum cuts along the best order; ``most`` of the time left goes into it."""
        self.compile(_compile_cuts)
        if self.over:
            return
        with self.phase("cuts"):
            if self._network is None:
                self._network = CutNetwork(self.graph)
            share = 1.0 if self.steps is not None else most
            deadline = time.monotonic() + share * self.stopper.left
            bound, witness = cut_bound(self._network, self.order, floor=self.bound, deadline=deadline)
            self.prove(bound, witness)

    def fits(self, tasks: "Sequence[Dive | Task]", share: float = 1.0) -> bool:
        """Whether all of ``tasks`` together take at most a share of what is left to spend, and fit into memory."""
        at_once = min(self.group, max(len(tasks), 1))
        if any(task.bytes * at_once > MEMORY for task in tasks):
            return False
        if self.steps is not None:
            return sum(task.states for task in tasks) <= share * (self.steps - self.spent)
        work = sum(self._filled.get(type(task), 1.0) * task.states * state_cost(task.problem) for task in tasks)
        speed = min((self._speed.get(type(task), SPEED) for task in tasks), default=SPEED)
        return work / speed / at_once <= share * self.stopper.left

    def run(self, tasks: "Sequence[Dive | Task]") -> list[Found]:
        """Run beams and dives, as many at once as there are cores."""
        self.compile(_compile_beam)
        found: list[Found] = []
        for first in range(0, len(tasks), WORKERS):
            batch = tasks[first : first + WORKERS]
            began = time.monotonic()
            results = self.stopper.map([task.run for task in batch])
            took = time.monotonic() - began
            self.spent += sum(result.states for result in results)
            if took > 0.05:
                self._measure(batch, results, took)
            found += results
        return found

    def _measure(self, tasks: "Sequence[Dive | Task]", results: Sequence[Found], took: float) -> None:
        kind = type(tasks[0])
        work = [result.states * state_cost(task.problem) for task, result in zip(tasks, results, strict=True)]
        self._speed[kind] = max(max(work) / took, 1.0)
        filled = max(result.states / task.states for task, result in zip(tasks, results, strict=True))
        self._filled[kind] = min(1.0, 1.5 * filled)

    def whole_beams(self, width: int) -> list["Task"]:
        """Beams over the whole graph from both ends, for anything better than the best order."""
        return [Task(whole(self.graph, backwards=way), width, self.bound, self.peak - 1) for way in (False, True)]

    def take_all(self, tasks: Sequence["Task"]) -> None:
        """Run beams over the whole graph, and take what they find."""
        for task, found in zip(tasks, self.run(tasks), strict=True):
            self._take(found, task)

    def _take(self, found: Found, task: "Task") -> None:
        """What a beam over the whole graph says: a better order, or a higher bound where it left nothing out."""
        if found.nodes is not None:
            self.offer(found.nodes)
        if found.complete and found.nodes is None:
            self.prove(min(task.limit + 1, self.peak))
        elif found.complete and task.floor <= self.bound:
            self.prove(min(found.peak_bytes, self.peak))


class Task(NamedTuple):
    """One beam to be run; see :func:`~topoformer.schedulers.beam.run_beam`."""

    problem: Problem
    width: int
    floor: int
    limit: int
    climbs: int = 0

    @property
    def states(self) -> int:
        """How many it makes at most."""
        return self.width * len(self.problem.waits)

    @property
    def bytes(self) -> int:
        """How much memory it takes at most."""
        return self.width * (2 * state_bytes(self.problem) + 8 * len(self.problem.waits))

    def scaled(self, scale: float) -> "Task":
        """A narrower one."""
        return self._replace(width=max(1, int(scale * self.width)))

    def run(self, stop: Flag) -> Found:
        """Run it, until ``stop`` is raised."""
        return run_beam(self.problem, self.width, floor=self.floor, limit=self.limit, stop=stop, climbs=self.climbs)


def _seconds_of(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _compile_costs() -> None:
    peak_bytes(TINY, CHEAP[0](TINY, OBJECTIVES["memory"], seconds=1.0, seed=0))
    footprint_bound(TINY)
    unit_of(TINY)


def _compile_policies() -> None:
    for policy in CHEAP:
        policy(TINY, OBJECTIVES["memory"], seconds=1.0, seed=0)
    peak_bytes(TINY, simulate(TINY).order)


def _compile_cuts() -> None:
    cut_bound(CutNetwork(TINY), simulate(TINY).order)


def _compile_beam() -> None:
    for problem in (whole(TINY), whole(TINY, backwards=True), window(TINY, simulate(TINY).order, 0, 3)):
        run_beam(problem, 2, floor=0, limit=3, stop=np.zeros(1, np.int8))
