"""Choosing an order and checking it: the one place where a Schedule is made."""

import math
import time
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any, Protocol

from graphs import Graph, Order, check_order, peak_bytes, program_order
from graphs.bound import cut_bound, footprint_bound
from graphs.cost import Objective, objective_named
from graphs.cuts import CutNetwork
from graphs.device import Device, device_named
from graphs.errors import unknown_name
from topoformer.cache import Answer, Question, ScheduleCache, better
from topoformer.memory_limit import MemoryLimitError, hold_to, limit_in_bytes
from topoformer.outcome import Outcome, Progress
from topoformer.result import Schedule
from topoformer.schedulers.stopper import is_interrupt

__all__ = ["SCHEDULERS", "MemoryLimitError", "Schedule", "Scheduler", "schedule", "scheduler_named", "summary"]

MOST_BYTES = 1 << 62  # of a limit, as compiled loops take it
BOUND_SECONDS = 1.0  # for the bound of a method that proves none itself


class Scheduler(Protocol):
    """A function from a graph to an order, int32[n]; whether it is legal and what it costs is checked elsewhere.

    It should end within ``seconds`` and give the same order for the same ``seed``. One that proves a lower bound
    returns an :class:`~topoformer.outcome.Outcome`, which is an order and that bound. One that has a parameter
    ``steps`` or ``progress`` is given these of :func:`schedule`, where they are not None.

    Example:
        A scheduler of one's own, which runs what became ready last:

        >>> from graphs import Graph
        >>> from topoformer import schedule
        >>> def newest(graph, objective, *, seconds, seed):
        ...     waits = graph.preds.lengths.tolist()  # predecessors that are still to run, of each node
        ...     ready, order = [node for node in range(graph.n) if not waits[node]], []
        ...     while ready:
        ...         order.append(ready.pop())
        ...         for node in graph.succs.row(order[-1]).tolist():
        ...             waits[node] -= 1
        ...             ready += [node] if not waits[node] else []
        ...     return order
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> found = schedule(graph, newest)
        >>> found.method, found.order.tolist(), found.cost.peak_bytes, found.bound_bytes
        ('newest', [1, 3, 0, 2, 4], 120, 110)
    """

    def __call__(self, graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order | Outcome: ...


# Resolved on use, so that a method costs no import until it runs. Papers: "topoformer": Gagrani et al., NeurIPS 2022;
# "bo": Oh et al., NeurIPS 2022; "lpmf": Han et al., DAC 2006; others in the modules named.
SCHEDULERS: dict[str, str] = {
    "auto": "topoformer.schedulers.portfolio:auto",
    "exact": "topoformer.schedulers.portfolio:exact",
    "beam": "topoformer.schedulers.portfolio:beam",
    "local_search": "topoformer.schedulers.portfolio:local_search",
    "cuts": "topoformer.schedulers.portfolio:cuts",
    "topoformer": "topoformer.schedulers.learned:topoformer",
    "topoformer-sample": "topoformer.schedulers.learned:sample",
    "topoformer-beam": "topoformer.schedulers.learned:beam",
    "bo": "topoformer.schedulers.portfolio:bo",
    "program": "topoformer.schedulers.list_scheduling:program",
    "lpmf": "topoformer.schedulers.list_scheduling:lpmf",
    "net_change": "topoformer.schedulers.list_scheduling:net_change",
    "dfs": "topoformer.schedulers.list_scheduling:dfs",
    "liu": "topoformer.schedulers.list_scheduling:liu",
    "bfs": "topoformer.schedulers.list_scheduling:bfs",
    "oldest": "topoformer.schedulers.list_scheduling:oldest",
    "smallest": "topoformer.schedulers.list_scheduling:smallest",
    "critical_path": "topoformer.schedulers.list_scheduling:critical_path",
    "streams": "topoformer.schedulers.list_scheduling:streams",
    "random": "topoformer.schedulers.list_scheduling:random",
}


# What each method minimises by itself; the others' orders are the same for every objective. A result is always judged
# by the whole of the objective, and methods that try several orders keep the best one by it.
USES: dict[str, str] = {
    "auto": "any",
    "local_search": "any",
    "bo": "any",
    "exact": "memory",
    "beam": "memory",
    "cuts": "memory",
    "topoformer-sample": "memory",
    "topoformer-beam": "memory",
    "critical_path": "latency",
    "streams": "latency",
    "topoformer": "memory",
    "lpmf": "memory",
    "net_change": "memory",
    "liu": "memory",
    "smallest": "memory",
}


def schedule(
    graph: Graph,
    method: str | Scheduler = "auto",
    *,
    seconds: float = 10.0,
    seed: int = 0,
    objective: str | Objective = "memory",
    device: str | Device | None = None,
    steps: int | None = None,
    memory_limit: int | str | None = None,
    cache: ScheduleCache | None = None,
    progress: Progress | None = None,
) -> Schedule:
    """Find an order of ``graph`` that costs less than the program's own, and check it.

    By the objective it is never worse than the program's order, which is returned where nothing better was found.

    Args:
        method: a name in :data:`SCHEDULERS`, or any function with the signature of :class:`Scheduler`.
        seconds: time to search; methods that need less take less.
        seed: of every random choice.
        objective: what is minimised: "memory", "latency", "traffic", "arena", a sum such as "latency + 0.5*memory",
            whose terms count as parts of the program's own, or an Objective.
        device: what executes the graph, a Device or a name in ``graphs.device.DEVICES``; for latency and traffic.
        steps: how much to search at most, in states that are looked at. The same number gives the same answer on any
            machine on which ``seconds`` do not run out before; methods that do not search ignore it.
        memory_limit: most bytes that the order may need, or text such as "4GiB": of what is resident and the peak
            together, on all streams of the device. A schedule that is returned keeps within it.
        cache: where to look before searching, and to keep what was found: an answer that is proven optimal, or was
            searched for at least as many seconds, is not searched for again. Other methods than those in
            :data:`SCHEDULERS` and other objectives than "memory" are not kept, nor what was interrupted.
        progress: is told a :class:`~topoformer.outcome.Standing` with each phase, better order and higher bound.

    Raises:
        TypeError, ValueError: an argument is out of range or a name is unknown.
        GraphError: the method's order is not legal; names the nodes.
        MemoryLimitError: no order can keep within ``memory_limit``, or none was found that does; the text says which
            of the two it is, and what is alive at the peak of the best order found.

    Example:
        >>> from graphs import Graph
        >>> from topoformer import schedule
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> schedule(graph, seconds=1)
        <Schedule of 'g' by auto: peak 120 bytes, 0.571 of the program's, optimal>
    """
    _check_numbers(seconds, seed, steps)
    _check_types(graph, objective, device, cache)
    limit = limit_in_bytes(memory_limit)
    scheduler = scheduler_named(method) if isinstance(method, str) else method
    goal = _goal(graph, objective, device, limit)
    question = None
    if cache is not None and isinstance(method, str) and isinstance(objective, str) and goal.is_memory:
        question = Question(method, seed, steps, "memory")
    answer, cached = _answered(graph, scheduler, goal, seconds, seed, steps, progress, cache, question)
    name = method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)
    result = _schedule_of(graph, answer, goal, name, seed, cached)
    if limit is not None:
        hold_to(result, limit)
    return result


def _answered(
    graph: Graph,
    scheduler: Scheduler,
    goal: Objective,
    seconds: float,
    seed: int,
    steps: int | None,
    progress: Progress | None,
    cache: ScheduleCache | None,
    question: Question | None,
) -> tuple[Answer, bool]:
    """What is known of the ``question`` or is found now, and whether it was known; without a question, nothing is."""
    known = cache.schedule(graph, question) if cache is not None and question is not None else None
    if known is not None and known.serves(seconds):
        return known, True
    answer = better(_searched(graph, scheduler, goal, seconds, seed, steps, progress), known)
    if cache is not None and question is not None and not answer.outcome.interrupted:
        cache.keep_schedule(graph, question, answer)
    return answer, False


def _goal(graph: Graph, objective: str | Objective, device: str | Device | None, limit: int | None) -> Objective:
    """What is minimised, for ``graph``; the peak of one stream is minimised whatever the limit."""
    if device is not None and not isinstance(objective, str):
        raise ValueError("'device' goes with the name of an objective; an Objective has its own")
    executing = device_named(device) if isinstance(device, str) else device
    goal = objective_named(objective, executing) if isinstance(objective, str) else objective
    return goal.fitted(graph, None if limit is None else max(0, min(limit, MOST_BYTES) - graph.resident_bytes))


def _check_types(graph: object, objective: object, device: object, cache: object) -> None:
    if not isinstance(graph, Graph):
        raise TypeError(
            f"'graph' must be a Graph, as graphs.load and graphs.from_fx make it (got {type(graph).__name__})"
        )
    if not isinstance(cache, ScheduleCache | None):
        raise TypeError(f"'cache' must be a topoformer.cache.ScheduleCache (got {type(cache).__name__})")
    if not isinstance(objective, str | Objective):
        raise TypeError(f"'objective' must be a name or an Objective (got {type(objective).__name__})")
    if not isinstance(device, str | Device | None):
        raise TypeError(f"'device' must be a name or a Device (got {type(device).__name__})")


def _check_numbers(seconds: float, seed: int, steps: int | None) -> None:
    if not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
        raise ValueError(f"'seconds' must be positive and finite (got {seconds})")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"'seed' must be an integer that is not negative (got {seed})")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"'steps' must be a positive integer (got {steps})")


def _searched(
    graph: Graph,
    scheduler: Scheduler,
    goal: Objective,
    seconds: float,
    seed: int,
    steps: int | None,
    progress: Progress | None,
) -> Answer:
    """What ``scheduler`` finds, its order checked."""
    began = time.perf_counter()
    taken = signature(scheduler).parameters
    more = {key: value for key, value in (("steps", steps), ("progress", progress)) if value is not None}
    more = {key: value for key, value in more.items() if key in taken}
    try:
        outcome = _outcome(graph, scheduler(graph, goal, seconds=float(seconds), seed=seed, **more), seconds)
    except SystemError as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        raise
    took = time.perf_counter() - began
    outcome = outcome._replace(order=check_order(graph, outcome.order))
    peak = min(peak_bytes(graph, outcome.order), peak_bytes(graph))
    return Answer(outcome, peak, float(seconds), took)


def _schedule_of(graph: Graph, answer: Answer, goal: Objective, method: str, seed: int, cached: bool) -> Schedule:
    """``answer`` as a Schedule: of the program's own order where the one found is no better."""
    outcome = answer.outcome
    order = outcome.order
    cost, program_cost = (goal.measure(graph, o) for o in (order, program_order(graph)))
    found = cost
    if not goal.key(cost) < goal.key(program_cost):
        order, cost = program_order(graph), program_cost
    order.flags.writeable = False
    return Schedule(
        graph=graph,
        order=order,
        cost=cost,
        program_cost=program_cost,
        method_cost=found,
        bound_bytes=outcome.bound_bytes,
        witness=outcome.witness,
        objective=goal,
        method=method,
        seed=seed,
        search_seconds=answer.search_seconds,
        phases=outcome.phases,
        interrupted=outcome.interrupted,
        narrowed=outcome.narrowed,
        cached=cached,
    )


def _outcome(graph: Graph, answer: "Order | Outcome", seconds: float) -> Outcome:
    """A method's answer, with a bound if it came without: cuts along the order, as many as there is time for."""
    if isinstance(answer, Outcome):
        return answer
    order = check_order(graph, answer)
    deadline = time.monotonic() + min(seconds, BOUND_SECONDS)
    floor = footprint_bound(graph)
    bound, witness = cut_bound(CutNetwork(graph), order, floor=floor, deadline=deadline)
    return Outcome(order, bound, witness)


def scheduler_named(name: str) -> Scheduler:
    """The scheduler of that name, imported now.

    Raises:
        ValueError: there is none; names the nearest and lists all.
    """
    if name not in SCHEDULERS:
        raise ValueError(unknown_name("method", name, SCHEDULERS))
    module, attribute = SCHEDULERS[name].split(":")
    found: Scheduler = getattr(import_module(module), attribute)
    return found


def summary(scheduler: Callable[..., Any]) -> str:
    """One line that says what a scheduler is and when to use it."""
    text: str = getattr(scheduler, "summary", None) or scheduler.__doc__ or ""
    return text.strip().splitlines()[0] if text.strip() else ""
