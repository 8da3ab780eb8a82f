"""Memory against latency (or traffic): the orders of a graph that no other known one beats in both."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphs import Graph
from graphs.cost import Objective, objective_named
from graphs.device import Device, device_named
from graphs.latency import latency_bound
from graphs.traffic import compulsory_bytes
from topoformer.memory_limit import MemoryLimitError
from topoformer.scheduling import Schedule, schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the points and both bounds on ``ax``, or on a figure of its own; returns the axes.

        Raises:
            ModuleNotFoundError: Matplotlib is not installed (``pip install 'topoformer[plot]'``).
        """
        from topoformer.report.plot import plot_front

        return plot_front(self, ax)

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture of ``--pareto --report``."""
        from topoformer.front_plot import svg

        return f'<div style="max-width:800px">{svg(self)}</div>'

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

    Both ends are searched for, and what is best within each of ``points`` - 2 limits on memory between them (the
    epsilon-constraint method: Haimes et al., 1971). Ctrl-C keeps what is there.

    Args:
        device: what executes the graph, a Device or a name in ``graphs.device.DEVICES``.
        objective: what memory is weighed against, "latency" or "traffic".
        points: searches, at least 2; the front may have fewer.
        seconds: for all of it; each point gets the same share.
        seed: of every random choice.
        steps: at most, of each search: the same number gives the same front on any machine.
        progress: is told what is searched for.

    Raises:
        ValueError: fewer than 2 points, an objective that is neither "latency" nor "traffic", a device without what
            the objective needs.

    Example:
        To send "small" while the work on "big" goes on saves 100 ms and needs 90 bytes more:

        >>> from graphs import Device, Graph
        >>> from topoformer import pareto
        >>> labels = ["big", "sum_big", "small", "all_reduce", "join"]
        >>> reads, size = [[], [0], [], [2], [1, 3]], [300, 10, 50, 50, 1]
        >>> graph = Graph.build("step", labels, reads, range(5), size, ops=["", "", "", "all_reduce", ""])
        >>> device = Device("toy", {"float32": 1e3}, bandwidth=1e3, link_bandwidth=1e3)
        >>> front = pareto(graph, device, points=2, seconds=2, steps=100)
        >>> [(held, round(seconds, 3)) for held, seconds in front.points()]
        [(310, 0.821), (400, 0.721)]
    """
    if objective not in ("latency", "traffic"):
        raise ValueError(f"memory is weighed against 'latency' or 'traffic' (got '{objective}')")
    if points < 2:
        raise ValueError(f"'points' must be at least 2 (got {points})")
    device = device_named(device) if isinstance(device, str) else device
    began, goal = time.monotonic(), objective_named(objective, device)
    program = schedule(graph, "program", objective=goal, seconds=seconds / points)
    asked = {"seconds": seconds / points, "seed": seed, "steps": steps}
    found = _searched(graph, goal, points, asked, progress)
    floor = max(one.bound_bytes for one in found)
    value = latency_bound(graph, device) if objective == "latency" else float(compulsory_bytes(graph))
    kept = _unbeaten([program, *found], goal)
    return Front(graph, goal, tuple(kept), program, floor, value, time.monotonic() - began, found[-1].interrupted)


def _searched(
    graph: Graph, goal: Objective, points: int, asked: dict[str, Any], progress: Callable[[str], None] | None
) -> list[Schedule]:
    """The least memory, the least of ``goal``, and what is best within limits between them; ends where interrupted."""
    searches: list[tuple[str, Objective, int | None]] = [
        ("least memory", objective_named("memory", goal.device), None),
        (f"least {goal.name}", goal, None),
    ]
    found: list[Schedule] = []
    interrupted = False
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
            searches = [(f"least {goal.name} in {limit:,} bytes", goal, resident + limit) for limit in sorted(limits)]
    return found


def _unbeaten(found: list[Schedule], goal: Objective) -> list[Schedule]:
    kept: list[Schedule] = []
    for one in sorted(found, key=lambda one: (one.cost.held_bytes, goal.value(one.cost))):
        if not kept or goal.value(one.cost) < goal.value(kept[-1].cost):
            kept.append(one)
    return kept
