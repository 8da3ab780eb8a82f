"""A schedule in the Trace Event Format, which Perfetto and chrome://tracing show: steps, live bytes, large tensors."""

from typing import Any

import numpy as np

from graphs import Graph, Kind, MemoryProfile, Order, program_order, simulate
from graphs.csr import Float64Array, Int64Array
from graphs.graph import RESIDENT_KINDS
from graphs.units import format_bytes
from topoformer.scheduling import Schedule

STEP = 1e-6  # seconds that a step is wide where nothing is known of time
LARGEST = 200  # tensors whose lives are shown; each is a track of its own
ORDERS = {1: "topoformer's order", 2: "program order"}


def trace(result: Schedule) -> dict[str, Any]:
    """The schedule's order and the program's as two processes, in the JSON object form of the format.

    Nodes stand where the device's model has them, or are drawn one after the other: in their measured seconds where
    all have some, else all of one width. Times are microseconds.
    """
    events: list[dict[str, Any]] = []
    for process, order in ((1, result.order), (2, program_order(result.graph))):
        profile = simulate(result.graph, order)
        clock = _Clock(result, order)
        events.append({"ph": "M", "pid": process, "name": "process_name", "args": {"name": ORDERS[process]}})
        events += _steps(profile, clock, process)
        events += _live_bytes(profile, clock, process)
        events += _tensors(result.graph, clock, process)
    about = {"graph": result.graph.name, "graph_sha256": result.graph.fingerprint, "time": clock.meaning}
    about |= {"peak": format_bytes(result.cost.peak_bytes), "lower bound": format_bytes(result.bound_bytes)}
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}


class _Clock:
    """When each node begins and ends, in microseconds, and on what stream."""

    def __init__(self, result: Schedule, order: Order) -> None:
        graph, device = result.graph, result.objective.device
        self.stream = np.zeros(graph.n, np.int32)
        self.at_once: tuple[Float64Array, Int64Array] | None = None  # bytes alive from each moment on
        if device is not None:
            from graphs.latency import simulate_latency

            timeline = simulate_latency(graph, order, device=device)
            self.begin, self.end, self.stream = timeline.start * 1e6, timeline.finish * 1e6, timeline.stream
            self.at_once = timeline.memory if result.objective.at_once else None
            self.meaning = f"as the model of {device.name} has it"
            return
        measured = bool(graph.n) and bool((graph.seconds > 0).all())
        widths = graph.seconds[order] if measured else np.full(graph.n, STEP)
        ends: Float64Array = np.cumsum(widths) * 1e6
        self.begin, self.end = np.empty(graph.n), np.empty(graph.n)
        self.end[order], self.begin[order] = ends, ends - widths * 1e6
        self.meaning = "measured seconds of the nodes" if measured else "one microsecond a step"


def _steps(profile: MemoryProfile, clock: _Clock, process: int) -> list[dict[str, Any]]:
    graph = profile.graph
    events = []
    for step, node in enumerate(profile.order.tolist()):
        known = {"step": step, "operator": graph.ops[node], "module": graph.modules[node]}
        known |= {"source": graph.sources[node], "live bytes": int(profile.step_bytes[step])}
        known |= {"writes": " ".join(graph.types[tensor] for tensor in graph.writes.row(node).tolist())}
        span = {"ts": float(clock.begin[node]), "dur": float(clock.end[node] - clock.begin[node])}
        place = {"pid": process, "tid": int(clock.stream[node]), "cat": "node", "name": graph.labels[node]}
        events.append({"ph": "X", **place, **span, "args": {key: value for key, value in known.items() if value != ""}})
    return events


def _live_bytes(profile: MemoryProfile, clock: _Clock, process: int) -> list[dict[str, Any]]:
    """A counter: what each step holds or, with several streams, what is alive at each moment."""
    head = {"ph": "C", "pid": process, "tid": 0, "name": "live bytes"}
    if clock.at_once is not None:
        times, level = clock.at_once
        rows = zip((times * 1e6).tolist(), level.tolist(), strict=True)
    else:
        rows = zip(clock.begin[profile.order].tolist(), profile.step_bytes.tolist(), strict=True)
    return [{**head, "ts": moment, "args": {"bytes": size}} for moment, size in rows]


def _tensors(graph: Graph, clock: _Clock, process: int) -> list[dict[str, Any]]:
    """The lives of the largest tensors, each from when its writer begins to when its last reader has ended."""
    counted = np.flatnonzero(~np.isin(graph.kind, RESIDENT_KINDS) & (graph.size > 0))
    largest = counted[np.argsort(-graph.size[counted], kind="stable")][:LARGEST]
    events = []
    for tensor in largest.tolist() if graph.n else ():
        writer, users = int(graph.writer[tensor]), graph.readers.row(tensor)
        name = graph.tensor_names[tensor] or (graph.labels[writer] if writer >= 0 else f"tensor {tensor}")
        about = {"bytes": int(graph.size[tensor]), "type": graph.types[tensor]}
        about["kind"] = Kind(graph.kind[tensor]).name.lower()
        head = {"pid": process, "tid": 0, "cat": "tensor", "id": f"{process}.{tensor}"}
        head["name"] = f"{name} ({format_bytes(about['bytes'])})"
        begin = float(clock.begin[writer]) if writer >= 0 else 0.0
        ends = clock.end if graph.kind[tensor] == Kind.OUTPUT else clock.end[users]
        end = float(max(ends.max(initial=begin), clock.end[writer] if writer >= 0 else begin))
        events += [{"ph": "b", **head, "ts": begin, "args": about}, {"ph": "e", **head, "ts": end}]
    return events
