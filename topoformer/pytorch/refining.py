"""Orders refined by what running them costs: Bayesian optimisation over measured memory, time, or anything else."""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from graphs import Graph, Order, program_order
from graphs.cost import OBJECTIVES, Objective
from graphs.fx import apply_order, from_fx
from graphs.pt2 import save_pt2
from topoformer.outcome import Outcome
from topoformer.pytorch.costs import Measure, MeasuredCost, load
from topoformer.pytorch.export import ExampleInputs, capture
from topoformer.pytorch.verify import flat_inputs
from topoformer.schedulers import bayes
from topoformer.scheduling import Schedule, Scheduler, schedule

LEAST = 4  # evaluations: the order given, the start, and two more
CONFIRMED, AGAIN = 3, 3  # orders that are timed again in the end, and how often
Progress = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class Refined:
    """What :func:`refine` found: a program in the order whose measured cost is lowest.

    Example:
        >>> import torch
        >>> from topoformer import refine
        >>> class Branches(torch.nn.Module):
        ...     def forward(self, x):
        ...         first, second = x.repeat(100), x.repeat(100) + 1
        ...         return first.sum() + second.sum()
        >>> found = refine(Branches(), torch.ones(4), evaluations=4, seconds=1, workers=0)
        >>> found.value < found.program_value, found.value <= found.start_value, len(found.trials)
        (True, True, 4)
        >>> found.module(torch.ones(4)), [node.name for node in found.program.graph.nodes][-1]
        (tensor(1200.), 'output')
    """

    program: ExportedProgram
    schedule: Schedule  # its ``cost.custom`` is the measured cost
    start_value: float  # measured cost of the order that the search started from
    trials: tuple[bayes.Trial, ...]  # every order that was measured
    stopped: str  # what ended the search
    units: int  # nodes whose sequence was searched

    @property
    def value(self) -> float:
        """Measured cost of the order: bytes, seconds, or in the caller's unit."""
        return float(self.schedule.cost.custom or 0.0)

    @property
    def program_value(self) -> float:
        """Measured cost of the order that was given."""
        return float(self.schedule.program_cost.custom or 0.0)

    @property
    def module(self) -> nn.Module:
        """A module that runs the program."""
        return self.program.module()


def refine(
    module: nn.Module | ExportedProgram,
    example_inputs: "ExampleInputs | None" = None,
    *,
    cost: str | Measure = "peak",
    evaluations: int = bayes.EVALUATIONS,
    batch_size: int = 4,
    method: str | Scheduler = "auto",
    seconds: float = 10.0,
    steps: int | None = None,
    seed: int = 0,
    timeout: float = math.inf,
    workers: int = 1,
    dask: str | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> Refined:
    """Measure ``evaluations`` orders of ``module`` by running each of them, and give back the best.

    It starts from what ``method`` finds by simulation and goes on by batch Bayesian optimisation (LAW, Oh et al.,
    NeurIPS 2022) over the priorities of up to 40 nodes, those that change memory most and can move furthest: see
    :class:`topoformer.schedulers.reduced.ReducedSpace`. The result is never worse than that start, or than the order
    given, as measured. A candidate that raises, runs out of memory or takes too long is a failed evaluation. Ctrl-C
    keeps what was found.

    Args:
        module: a module, with ``example_inputs`` as for :func:`topoformer.capture`, or an ExportedProgram; not changed.
        cost: "peak", most bytes that the allocator had handed out at once; "heap", bytes that a heap grows to;
            "seconds", median time of a run; or a function ``cost(module, inputs)`` of the reordered module that
            returns a number, lower is better.
        batch_size: orders measured between two looks at the model, as many at once as there are workers.
        method, seconds, steps, seed: of the search by simulation, as for :func:`topoformer.schedule`.
        timeout: seconds that one measurement may take; needs workers.
        workers: processes that measure; 0 measures in this one, where running out of memory ends it. A script that
            starts some needs ``if __name__ == "__main__":``. Times are best measured by one.
        dask: address of a Dask scheduler whose workers, on this machine or sharing its files, measure instead.
        executor: to be used instead, or a function that makes one.
        journal: a file of every measurement, from which an interrupted search goes on.
        progress: is told after each measurement how many there were, and the lowest.
        name: of the graph.

    Raises:
        UnsupportedOp: the module does not trace.
        ValueError: the program cannot be run, the order given fails, or an argument is out of range.

    Example:
        >>> import torch, topoformer
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
        >>> found = topoformer.refine(net, torch.ones(1, 8), evaluations=4, seconds=1, workers=0)
        >>> found.value <= found.program_value, found.schedule.order.tolist()  # there is one order only
        (True, [0, 1, 2])
    """
    began = time.perf_counter()
    program, graph = _captured(module, example_inputs, name, evaluations)
    found = schedule(graph, method, seconds=seconds, seed=seed, steps=steps)
    with _measured(program, workers, dask, executor) as (where, make):
        search = _Search(graph, MeasuredCost(where, cost), make, timeout, seed)
        return _refined(program, found, search, evaluations, batch_size, journal, progress, began)


def _refined(
    program: ExportedProgram,
    found: Schedule,
    search: "_Search",
    evaluations: int,
    batch_size: int,
    journal: str | os.PathLike[str] | None,
    progress: Progress | None,
    began: float,
) -> Refined:
    """The best of ``evaluations`` orders by measurement, of which the first two are the order given and ``found``."""
    own, start = search.first(found.order)
    result = search.refine(found, evaluations - 2, batch_size, journal, progress)
    trials, cost = (own, start, *result.trials), search.cost.measure
    best, own, start = search.best(trials, noisy=cost == "seconds")
    took, interrupted = time.perf_counter() - began, result.stopped == "interrupted"
    ordered = replace(_scheduled(found, best, own, start, _name(cost), took), interrupted=interrupted)
    return Refined(_in_order(program, ordered), ordered, start.value, trials, result.stopped, result.units)


def _captured(
    module: nn.Module | ExportedProgram, example_inputs: "ExampleInputs | None", name: str | None, evaluations: int
) -> tuple[ExportedProgram, Graph]:
    if evaluations < LEAST:  # said before a capture, which can take long
        raise ValueError(f"'evaluations' must be at least {LEAST} (got {evaluations})")
    program = module if isinstance(module, ExportedProgram) else capture(module, example_inputs)
    flat_inputs(program)  # which says if it cannot be run
    return program, from_fx(program, name=type(module).__name__ if name is None and module is not program else name)


def _in_order(program: ExportedProgram, ordered: Schedule) -> ExportedProgram:
    reordered = apply_order(program, ordered.order)
    reordered.graph_module.meta["schedule"] = ordered
    return reordered


@dataclass(frozen=True, eq=False)
class _Search:
    graph: Graph
    cost: MeasuredCost
    make: Executor | Callable[[], Executor] | None
    timeout: float
    seed: int

    def measure(self, orders: Sequence[Order]) -> list[bayes.Trial]:
        """Each of ``orders`` once."""
        return bayes.evaluate(self.cost, orders, self.make, self.timeout)

    def first(self, found: Order) -> tuple[bayes.Trial, bayes.Trial]:
        """The order given and the one ``found`` by simulation; raises ValueError where one of them fails."""
        own, start = self.measure([program_order(self.graph), found])
        for what, trial in (("given", own), ("found by simulation", start)):
            if trial.failure is not None:
                reason = f"{trial.failure}{_hint(trial)}"
                raise ValueError(f"'{self.graph.name}' cannot be measured in the order {what}: {reason}")
        return own, start

    def refine(
        self,
        found: Schedule,
        evaluations: int,
        batch_size: int,
        journal: str | os.PathLike[str] | None,
        progress: Progress | None,
    ) -> bayes.Refinement:
        """Bayesian optimisation from what was ``found``, or nothing where there is nothing to search."""
        start = found.order
        if found.interrupted:
            return bayes.Refinement(start, math.nan, math.nan, (), "interrupted", 0)
        others = [one(self.graph, OBJECTIVES["memory"], seconds=1.0, seed=self.seed) for one in bayes.POLICIES]
        try:
            return bayes.refine_order(
                self.graph,
                self.cost,
                [start, *others],
                evaluations=evaluations,
                batch_size=batch_size,
                seed=self.seed,
                timeout=self.timeout,
                executor=self.make,
                journal=journal,
                tag=_name(self.cost.measure),
                progress=progress,
            )
        except bayes.NothingToSearchError as reason:
            return bayes.Refinement(start, math.nan, math.nan, (), str(reason), 0)

    def best(self, trials: Sequence[bayes.Trial], *, noisy: bool) -> tuple[bayes.Trial, bayes.Trial, bayes.Trial]:
        """The lowest of ``trials``, and the first two: the order given and the start.

        Where the cost is noisy the lowest ones and these two are measured again, in turns, and medians count: of all
        three. Ctrl-C leaves the values that there are.
        """
        own, start = trials[:2]
        good = sorted((trial for trial in trials if trial.failure is None), key=lambda trial: trial.value)
        if not noisy:
            return good[0], own, start
        some = {trial.order.tobytes(): trial for trial in [own, start, *good[:CONFIRMED]]}
        values = {key: [trial.value] for key, trial in some.items()}
        try:
            for _ in range(AGAIN):
                again = self.measure([trial.order for trial in some.values()])
                for key, trial in zip(some, again, strict=True):
                    values[key].append(math.inf if trial.failure else trial.value)
        except KeyboardInterrupt:
            pass
        medians = [bayes.Trial(some[key].order, statistics.median(row), None) for key, row in values.items()]
        known = {trial.order.tobytes(): trial for trial in medians}
        lowest = min(medians, key=lambda trial: trial.value)
        return lowest, known[own.order.tobytes()], known[start.order.tobytes()]


def _scheduled(
    found: Schedule, best: bayes.Trial, own: bayes.Trial, start: bayes.Trial, name: str, took: float
) -> Schedule:
    """A Schedule of the best order by the measured values."""
    values = {trial.order.tobytes(): trial.value for trial in (own, start, best)}

    def known(_: Graph, order: Order) -> float:
        return values[np.ascontiguousarray(order, np.int32).tobytes()]

    def method(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Outcome:  # noqa: ARG001
        return Outcome(best.order, found.bound_bytes, found.witness, found.phases)

    method.__name__ = "bo"
    unit = {"peak": "bytes", "heap": "bytes", "seconds": "seconds"}.get(name, "")
    result = schedule(found.graph, method, objective=Objective(f"measured {name}", {}, custom=known, unit=unit))
    return replace(result, search_seconds=took)


def _hint(trial: bayes.Trial) -> str:
    if trial.failure is None or "BrokenProcessPool" not in trial.failure:
        return ""
    return "; a script that has workers needs 'if __name__ == \"__main__\":', and workers=0 does without them"


def _name(cost: str | Measure) -> str:
    return cost if isinstance(cost, str) else getattr(cost, "__name__", type(cost).__name__)


def _ready_pool(workers: int, path: str) -> Executor:
    """Processes that have read the program: what that takes is no part of a measurement's time."""
    pool = bayes.process_pool(workers)
    wait([pool.submit(load, path) for _ in range(workers)])
    return pool


@contextmanager
def _measured(
    program: ExportedProgram, workers: int, dask: str | None, executor: Executor | Callable[[], Executor] | None
) -> "Iterator[tuple[ExportedProgram | str, Executor | Callable[[], Executor] | None]]":
    """What is measured, itself or a file that other processes read, and who measures."""
    if workers < 0:
        raise ValueError(f"'workers' must not be negative (got {workers})")
    if executor is None and dask is None and workers == 0:
        yield program, None
        return
    with tempfile.TemporaryDirectory(prefix="topoformer-") as folder:
        path = str(Path(folder) / "program.pt2")
        save_pt2(program, path)
        if executor is not None:
            yield path, executor
        elif dask is None:
            yield path, partial(_ready_pool, workers, path)
        else:
            cluster = bayes.DaskExecutor(dask)
            try:
                yield path, cluster
            finally:
                cluster.shutdown(wait=False)
