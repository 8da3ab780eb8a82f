"""Choosing an order and checking it: the one place where a Schedule is made."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from graphs import Graph, MemoryProfile, Order, check_order, peak_bytes, program_order, simulate
from graphs.bound import cut_bound, footprint_bound
from graphs.cost import ARENA_EFFORT, Cost, Objective, objective_bound, objective_named
from graphs.cuts import CutNetwork, Witness
from graphs.device import Device, device_named
from graphs.errors import unknown_name
from graphs.implied import Refutation
from topoformer.cache import Answer, Question, ScheduleCache, better
from topoformer.memory_limit import MemoryLimitError, hold_to, limit_in_bytes
from topoformer.outcome import Outcome, Phase
from topoformer.schedulers.stopper import is_interrupt

if TYPE_CHECKING:
    from graphs.arena import ArenaPlan

__all__ = ["SCHEDULERS", "MemoryLimitError", "Schedule", "Scheduler", "schedule", "scheduler_named", "summary"]

MOST_BYTES = 1 << 62  # of a limit, as compiled loops take it
BOUND_SECONDS = 1.0  # for the bound of a method that proves none itself


class Scheduler(Protocol):
    """A function from a graph to an order, int32[n]; whether it is legal and what it costs is checked elsewhere.

    It should end within ``seconds`` and give the same order for the same ``seed``. One that proves a lower bound
    returns an :class:`~topoformer.outcome.Outcome`, which is an order and that bound.
    """

    def __call__(self, graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order | Outcome: ...


# Resolved on use, so that a method costs no import until it runs.
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
    "smallest": "memory",
}


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A checked order of ``graph`` with its cost and a certified bound; only :func:`schedule` makes one."""

    graph: Graph
    order: Order  # int32[n]
    cost: Cost
    program_cost: Cost  # of the order in which the graph was given
    method_cost: Cost  # of the order that the method found: higher than `cost` where the program's own was kept
    bound_bytes: int  # certified: no legal order has a lower peak
    # its proof, where it is a minimum cut or follows from such; graphs.bound.check_bound goes through it
    witness: Witness | Refutation | None
    objective: Objective  # what was minimised
    method: str
    seed: int
    search_seconds: float  # that the search took, whenever that was
    phases: tuple[Phase, ...] = ()  # what each phase of the search contributed
    interrupted: bool = False  # by the user, before the search was over
    narrowed: str = ""  # by how much precedences narrowed the search, in words
    cached: bool = False  # whether it was searched before, and found again on disk

    @property
    def proven_optimal(self) -> bool:
        """Whether no order can have a lower peak."""
        return self.cost.peak_bytes == self.bound_bytes

    @property
    def ratio(self) -> float:
        """Peak over the program's own peak; 1 where both are 0."""
        before = self.program_cost.peak_bytes
        return self.cost.peak_bytes / before if before else 1.0

    @property
    def gap(self) -> float:
        """By which part of the bound the peak could at most be too high; 0 where it is proven optimal."""
        above = self.cost.peak_bytes - self.bound_bytes
        return above / self.bound_bytes if above and self.bound_bytes else math.inf if above else 0.0

    @property
    def value_ratio(self) -> float:
        """What was minimised, over the program's own; 1 where both are 0."""
        value, before = self.objective.value(self.cost), self.objective.value(self.program_cost)
        return value / before if before else 1.0

    @cached_property
    def value_bound(self) -> float | None:
        """What was minimised can be no lower for any order; None for sums and measures of the caller's."""
        return objective_bound(self.objective, self.graph, self.bound_bytes)

    @cached_property
    def arena(self) -> "ArenaPlan":
        """Offsets of all tensors in one arena, multiples of 64; where arenas were compared, those of the comparison.

        They are searched for a second at most otherwise.
        """
        from graphs.arena import plan

        return plan(self.graph, self.order, **(ARENA_EFFORT if "arena" in self.objective.weights else {}))

    @cached_property
    def profile(self) -> MemoryProfile:
        """Live bytes of every step, and what is alive at the peak."""
        return simulate(self.graph, self.order)

    def to_json(self) -> dict[str, Any]:
        """The dictionary of schedule JSON, version 1."""
        return {
            "format": "topoformer.schedule",
            "version": 1,
            "graph": self.graph.name,
            "graph_sha256": self.graph.fingerprint,
            "method": self.method,
            "seed": self.seed,
            "order": self.order.tolist(),
            "program_peak_bytes": self.program_cost.peak_bytes,
            "peak_bytes": self.cost.peak_bytes,
            "bound_bytes": self.bound_bytes,
            "proven_optimal": self.proven_optimal,
            "resident_bytes": self.cost.resident_bytes,
            "search_seconds": self.search_seconds,
            **self._costs_to_json(),
        }

    def _costs_to_json(self) -> dict[str, Any]:
        """What is known beside memory, of the program and of the schedule."""
        device = self.objective.device
        known: dict[str, Any] = {}
        if not self.objective.is_memory:
            known = {"objective": self.objective.name, "value_bound": self.value_bound}
        known |= {} if device is None else {"device": device.to_json()}
        for name in ("latency_seconds", "traffic_bytes", "arena_bytes", "concurrent_peak_bytes"):
            if (value := getattr(self.cost, name)) is not None:
                known |= {name: value, f"program_{name}": getattr(self.program_cost, name)}
        if "arena" in self.__dict__:  # it has been planned
            known["arena_bytes"] = self.arena.arena_bytes
        return known

    def __repr__(self) -> str:
        if not self.objective.is_memory:
            value = (
                f"{self.objective.name} {self.objective.value(self.cost):.6g}, {self.value_ratio:.3f} of the program's"
            )
            return f"<Schedule of {self.graph.name!r} by {self.method}: {value}, peak {self.cost.peak_bytes:,} bytes>"
        proof = "optimal" if self.proven_optimal else f"at most {self.gap:.1%} above the optimum"
        return (
            f"<Schedule of {self.graph.name!r} by {self.method}: peak {self.cost.peak_bytes:,} bytes, "
            f"{self.ratio:.3f} of the program's, {proof}>"
        )


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

    Raises:
        TypeError, ValueError: an argument is out of range or a name is unknown.
        GraphError: the method's order is not legal; names the nodes.
        MemoryLimitError: no order can keep within ``memory_limit``, or none was found that does; the text says which
            of the two it is, and what is alive at the peak of the best order found.
    """
    _check_numbers(seconds, seed, steps)
    if not isinstance(cache, ScheduleCache | None):
        raise TypeError(f"'cache' must be a topoformer.cache.ScheduleCache (got {type(cache).__name__})")
    limit = limit_in_bytes(memory_limit)
    scheduler = scheduler_named(method) if isinstance(method, str) else method
    goal = _goal(graph, objective, device, limit)
    question = known = None
    if cache is not None and isinstance(method, str) and isinstance(objective, str) and goal.is_memory:
        question = Question(method, seed, steps, "memory")
        known = cache.schedule(graph, question)
    cached = known is not None and known.serves(seconds)
    if known is None or not cached:
        answer = better(_searched(graph, scheduler, goal, seconds, seed, steps), known)
        if cache is not None and question is not None and not answer.outcome.interrupted:
            cache.keep_schedule(graph, question, answer)
    else:
        answer = known
    name = method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)
    result = _schedule_of(graph, answer, goal, name, seed, cached)
    if limit is not None:
        hold_to(result, limit)
    return result


def _goal(graph: Graph, objective: str | Objective, device: str | Device | None, limit: int | None) -> Objective:
    """What is minimised, for ``graph``; the peak of one stream is minimised whatever the limit."""
    if device is not None and not isinstance(objective, str):
        raise ValueError("'device' goes with the name of an objective; an Objective has its own")
    _check_types(objective, device)
    executing = device_named(device) if isinstance(device, str) else device
    goal = objective_named(objective, executing) if isinstance(objective, str) else objective
    return goal.fitted(graph, None if limit is None else max(0, min(limit, MOST_BYTES) - graph.resident_bytes))


def _check_types(objective: object, device: object) -> None:
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
    graph: Graph, scheduler: Scheduler, goal: Objective, seconds: float, seed: int, steps: int | None
) -> Answer:
    """What ``scheduler`` finds, its order checked."""
    began = time.perf_counter()
    cap = {"steps": steps} if steps is not None and "steps" in signature(scheduler).parameters else {}
    try:
        outcome = _outcome(graph, scheduler(graph, goal, seconds=float(seconds), seed=seed, **cap), seconds)
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
