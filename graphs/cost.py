"""What an order costs, and what of it is to be small."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from graphs.device import Device
from graphs.errors import quoted, unknown_name
from graphs.graph import Graph, Order, program_order
from graphs.memory import peak_bytes

# What can be minimised, and what it is.
METRICS = {
    "memory": "most bytes alive at once",
    "latency": "seconds on the device",
    "traffic": "bytes moved on and off the chip",
    "arena": "bytes of the arena that a planner places all tensors in",
}


@dataclass(frozen=True)
class Cost:
    """Costs of one legal order; what was not asked for is None."""

    peak_bytes: int  # most bytes of non-resident tensors and scratch alive during any step
    resident_bytes: int  # inputs and weights, the same for every order
    latency_seconds: float | None = None
    traffic_bytes: int | None = None
    arena_bytes: int | None = None
    concurrent_peak_bytes: int | None = None  # alive at once where several streams run
    custom: float | None = None  # of a measure of the caller's

    @property
    def held_bytes(self) -> int:
        """What a limit on memory is about, beside the resident bytes: the peak on all streams together."""
        return self.peak_bytes if self.concurrent_peak_bytes is None else self.concurrent_peak_bytes

    def metric(self, name: str) -> float:
        """The metric of that name in :data:`METRICS`.

        Raises:
            ValueError: it was not measured.
        """
        value = {
            "memory": self.held_bytes,
            "latency": self.latency_seconds,
            "traffic": self.traffic_bytes,
            "arena": self.arena_bytes,
        }[name]
        if value is None:
            raise ValueError(f"{quoted(name)} was not measured")
        return value


@dataclass(frozen=True, eq=False)
class Objective:
    """What is minimised: a metric, or a weighted sum of several, each of them as a part of the program order's.

    Orders compare by their ``key``: first by how much they exceed ``peak_limit``, then by the value, then by memory.
    Made by :func:`objective_named`, or from any function of a graph and an order that gives a number.
    """

    name: str
    weights: Mapping[str, float]
    device: Device | None = None
    peak_limit: int | None = None  # most bytes beside the resident ones
    scales: Mapping[str, float] | None = None  # what each metric of a sum is divided by
    communicates: bool = False  # whether the graph has collectives, which have a stream of their own
    custom: Callable[[Graph, Order], float] | None = None
    unit: str = ""  # of what ``custom`` returns: "bytes", "seconds"

    @property
    def is_memory(self) -> bool:
        """Whether the peak of one stream is all that counts: what ideals decide, and bounds are about."""
        alone = dict(self.weights) == {"memory": 1.0} and self.peak_limit is None and self.custom is None
        return alone and not self.at_once

    @property
    def at_once(self) -> bool:
        """Whether what several nodes hold at once counts."""
        return self.device is not None and (self.device.streams > 1 or self.communicates)

    def measure(self, graph: Graph, order: Order) -> Cost:
        """All costs of a legal order (not checked), int32[n], that the objective and its device know of."""
        cost = Cost(peak_bytes(graph, order), graph.resident_bytes)
        if self.device is not None:
            cost = _on_device(graph, order, self.device, cost)
        if "arena" in self.weights:
            cost = replace(cost, arena_bytes=_arena_bytes(graph, order))
        return cost if self.custom is None else replace(cost, custom=float(self.custom(graph, order)))

    def value(self, cost: Cost) -> float:
        """The scalar that is minimised."""
        if self.custom is not None and cost.custom is not None:
            return math.inf if math.isnan(cost.custom) else cost.custom
        if len(self.weights) == 1:
            return cost.metric(next(iter(self.weights)))
        scales = self.scales or {}
        return sum(weight * cost.metric(name) / scales.get(name, 1.0) for name, weight in self.weights.items())

    def key(self, cost: Cost) -> tuple[float, float, float]:
        """What orders compare by: lower is better."""
        over = 0 if self.peak_limit is None else max(0, cost.held_bytes - self.peak_limit)
        return over, self.value(cost), cost.held_bytes

    def __call__(self, graph: Graph, order: Order) -> tuple[float, float, float]:
        """The ``key`` of one order."""
        return self.key(self.measure(graph, order))

    def fitted(self, graph: Graph, peak_limit: int | None = None) -> "Objective":
        """The same for ``graph``: sums relative to its program order, and with a limit."""
        fitted = self
        if self.device is not None:
            from graphs.latency import communicating

            fitted = replace(self, communicates=bool(communicating(graph).any()))
        limited = fitted if peak_limit is None or fitted.is_memory else replace(fitted, peak_limit=peak_limit)
        if len(self.weights) < 2 or self.scales is not None:
            return limited
        cost = fitted.measure(graph, program_order(graph))
        return replace(limited, scales={name: cost.metric(name) or 1.0 for name in self.weights})


MOST_WEIGHT = 1e9
# Of the planner, where arenas are compared: the same for every order, and seconds only as a last resort.
ARENA_EFFORT: dict[str, Any] = {"steps": 10_000, "seconds": 10.0}
MOST_ARENAS = 100  # of a graph, that are remembered: to plan one can take seconds
OBJECTIVES = {"memory": Objective("memory", {"memory": 1.0})}
TERM = re.compile(r"\s*(?:([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*\*)?\s*([a-z_]+)\s*")


def _arena_bytes(graph: Graph, order: Order) -> int:
    from graphs.arena import plan

    known: dict[bytes, int] = graph.__dict__.setdefault("_arena_bytes", {})
    key = sha256(order.tobytes()).digest()
    if key not in known:
        if len(known) >= MOST_ARENAS:
            known.clear()
        known[key] = plan(graph, order, **ARENA_EFFORT).arena_bytes
    return known[key]


def _on_device(graph: Graph, order: Order, device: Device, cost: Cost) -> Cost:
    from graphs.latency import concurrent, node_seconds, order_matters, simulate_latency
    from graphs.traffic import traffic_bytes

    if not order_matters(graph, device):  # else the order of a sum would decide its last digit
        return replace(cost, latency_seconds=math.fsum(node_seconds(graph, device)))
    timeline = simulate_latency(graph, order, device=device)
    traffic = traffic_bytes(graph, order, device) if device.on_chip_bytes else None
    held = timeline.peak_bytes if concurrent(graph, device) else None
    return replace(cost, latency_seconds=timeline.seconds, traffic_bytes=traffic, concurrent_peak_bytes=held)


def objective_named(name: str, device: Device | None = None) -> Objective:
    """The objective of that name: one of :data:`METRICS`, or a sum such as ``"latency + 0.5*memory"``.

    Args:
        device: what executes the graph; latency and traffic need one.

    Raises:
        ValueError: a name is unknown, a weight is not positive, or there is no device, or one without on-chip memory.
    """
    weights: dict[str, float] = {}
    for term in name.split("+"):
        match = TERM.fullmatch(term)
        if match is None:
            raise ValueError(f"{quoted(name)} is not an objective: write a name or a sum, as in 'latency + 0.5*memory'")
        weight, metric = float(match[1] or 1.0), match[2]
        if metric not in METRICS:
            raise ValueError(unknown_name("objective", metric, METRICS))
        if not 0 < weight <= MOST_WEIGHT or metric in weights:
            raise ValueError(
                f"objective {quoted(name)}: each metric must be there once, its weight positive and at most 1e9"
            )
        weights[metric] = weight
    for metric in ("latency", "traffic"):
        if metric in weights and device is None:
            raise ValueError(f"objective {quoted(metric)} needs a device")
    if "traffic" in weights and device is not None and not device.on_chip_bytes:
        raise ValueError(f"objective 'traffic' needs on-chip memory, of which device {quoted(device.name)} has none")
    if len(weights) == 1:
        weights = dict.fromkeys(weights, 1.0)
    return OBJECTIVES["memory"] if device is None and list(weights) == ["memory"] else Objective(name, weights, device)


def objective_bound(objective: Objective, graph: Graph, bound_bytes: int) -> float | None:
    """What one metric cannot be below for any order of ``graph``, whose peak cannot be below ``bound_bytes``.

    None where nothing is known: of sums.
    """
    from graphs.latency import latency_bound
    from graphs.traffic import compulsory_bytes

    name = next(iter(objective.weights)) if len(objective.weights) == 1 and objective.custom is None else ""
    if name in ("memory", "arena"):
        return bound_bytes
    if objective.device is None or not name:
        return None
    return latency_bound(graph, objective.device) if name == "latency" else compulsory_bytes(graph)
