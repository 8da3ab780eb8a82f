"""Memory against latency (or traffic): the orders of a graph that no other known one beats in both."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphs import Graph
from graphs.cost import Objective, objective_named
from graphs.device import Device, device_named
from graphs.latency import latency_bound
from graphs.traffic import compulsory_bytes
from topoformer.memory_limit import MemoryLimitError
from topoformer.scheduling import Schedule, schedule


@dataclass(frozen=True, eq=False)
class Front:
    """Schedules by rising memory and falling latency or traffic, none of them beaten in both; see :func:`pareto`."""

    graph: Graph
    objective: Objective
    schedules: tuple[Schedule, ...]
    program: Schedule  # the program's own order
    bound_bytes: int  # no order holds less
    bound_value: float  # and none takes less, or moves less
    search_seconds: float
    interrupted: bool = False

    def points(self) -> list[tuple[int, float]]:
        """(bytes held beside the resident ones, seconds or bytes moved) of each schedule."""
        return [self.point(one) for one in self.schedules]

    def point(self, one: Schedule) -> tuple[int, float]:
        """The same of one schedule."""
        return one.cost.held_bytes, self.objective.value(one.cost)

    def to_json(self) -> dict[str, Any]:
        """A dictionary: the graph, the device, bounds, and the schedule JSON of each point."""
        return {
            "format": "topoformer.front",
            "version": 1,
            "graph": self.graph.name,
            "graph_sha256": self.graph.fingerprint,
            "objective": self.objective.name,
            "bound_bytes": self.bound_bytes,
            "bound_value": self.bound_value,
            "search_seconds": self.search_seconds,
            "schedules": [one.to_json() for one in self.schedules],
            "program": self.program.to_json(),
        }


def pareto(
    graph: Graph,
    device: Device | str,
    *,
    objective: str = "latency",
    points: int = 8,
    seconds: float = 30.0,
    seed: int = 0,
    steps: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Front:
    """Orders of ``graph`` between the least memory and the least latency (or traffic) that are found on ``device``.

    Both ends are searched for, and what is best within each of ``points`` - 2 limits on memory between them. Ctrl-C
    keeps what is there.

    Args:
        seconds: for all of it; each point gets the same share.
        steps: at most, of each search: the same number gives the same front on any machine.
        progress: is told what is searched for.

    Raises:
        ValueError: fewer than 2 points, an objective that is neither "latency" nor "traffic", a device without what
            the objective needs.
    """
    if objective not in ("latency", "traffic"):
        raise ValueError(f"memory is weighed against 'latency' or 'traffic' (got '{objective}')")
    if points < 2:
        raise ValueError(f"'points' must be at least 2 (got {points})")
    device = device_named(device) if isinstance(device, str) else device
    began, goal = time.monotonic(), objective_named(objective, device)
    asked: dict[str, Any] = {"seconds": seconds / points, "seed": seed, "steps": steps}
    found: list[Schedule] = []
    program = schedule(graph, "program", objective=goal, seconds=seconds / points)
    interrupted = False
    least = objective_named("memory", device)
    searches: list[tuple[str, Objective, int | None]] = [
        ("least memory", least, None),
        (f"least {objective}", goal, None),
    ]
    while searches and not interrupted:
        what, target, limit = searches.pop(0)
        if progress is not None:
            progress(f"{what} ({len(found) + 1} of {points})")
        try:
            one = schedule(graph, objective=target, memory_limit=limit, **asked)
        except MemoryLimitError as error:  # its best may still be on the front
            one = error.schedule
        found.append(one)
        interrupted = one.interrupted
        if len(found) == 2:
            low, high = sorted(one.cost.held_bytes for one in found)
            limits = {low + (high - low) * i // (points - 1) for i in range(1, points - 1)} - {low, high}
            resident = graph.resident_bytes
            searches = [(f"least {objective} in {limit:,} bytes", goal, resident + limit) for limit in sorted(limits)]
    floor = max(one.bound_bytes for one in found)
    value = latency_bound(graph, device) if objective == "latency" else float(compulsory_bytes(graph))
    kept = _unbeaten([program, *found], goal)
    return Front(graph, goal, tuple(kept), program, floor, value, time.monotonic() - began, interrupted)


def _unbeaten(found: list[Schedule], goal: Objective) -> list[Schedule]:
    kept: list[Schedule] = []
    for one in sorted(found, key=lambda one: (one.cost.held_bytes, goal.value(one.cost))):
        if not kept or goal.value(one.cost) < goal.value(kept[-1].cost):
            kept.append(one)
    return kept
