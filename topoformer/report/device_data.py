"""What the page's script draws of a device: when each node runs, and what is moved on and off the chip."""

from typing import Any

import numpy as np

from graphs import Order, program_order
from graphs._latency_kernels import path_lengths
from graphs.device import Device
from graphs.graph import Graph
from graphs.latency import latency_bound, node_seconds, order_matters, simulate_latency
from graphs.traffic import compulsory_bytes, simulate_traffic
from topoformer.report.columns import columns_of
from topoformer.report.words import same_order
from topoformer.result import Schedule
from topoformer.text import printable

MOST_BARS = 40_000


def timed(result: Schedule) -> Device | None:
    """The device, where different orders of the graph take different times on it."""
    device = result.objective.device
    known = device is not None and result.cost.latency_seconds is not None
    return device if device is not None and known and order_matters(result.graph, device) else None


def chip(result: Schedule) -> Device | None:
    """The device, where it has memory of its own on the chip."""
    device = result.objective.device
    return device if device is not None and device.on_chip_bytes and result.cost.traffic_bytes is not None else None


def device_data(result: Schedule) -> dict[str, Any]:
    """Timelines and traffic of the program's order and the schedule's, where they were asked for; O(n k + m log m)."""
    graph = result.graph
    orders = [result.order] if same_order(result) else [program_order(graph), result.order]
    data: dict[str, Any] = {}
    if device := timed(result):
        data["latency"] = {
            "device": printable(device.name),
            "streams": device.streams,
            "bound": latency_bound(graph, device),
            "path": float(path_lengths(*graph.succs, node_seconds(graph, device)).max(initial=0.0)),
            "orders": [_timeline(graph, order, device) for order in orders],
        }
    if device := chip(result):
        data["traffic"] = {
            "device": printable(device.name),
            "capacity": device.on_chip_bytes,
            "compulsory": compulsory_bytes(graph),
            "orders": [_traffic(graph, order, device.on_chip_bytes) for order in orders],
        }
    return data


def _timeline(graph: Graph, order: Order, device: Device) -> dict[str, Any]:
    """When the longest nodes run, and what is alive on all streams together."""
    timeline = simulate_latency(graph, order, device=device)
    seconds = timeline.finish - timeline.start
    longest = np.sort(np.argsort(-seconds, kind="stable")[:MOST_BARS])
    times, level = timeline.memory
    columns = columns_of(level)
    return {
        "seconds": timeline.seconds,
        "off_chip_seconds": timeline.off_chip_bytes / device.bandwidth,
        "held": timeline.peak_bytes,
        "left_out": graph.n - len(longest),
        "node": longest,
        "start": timeline.start[longest],
        "length": seconds[longest],
        "stream": timeline.stream[longest],
        "time": times[columns.step],
        "level": columns.bytes,
    }


def _traffic(graph: Graph, order: Order, capacity: int) -> dict[str, Any]:
    moved = simulate_traffic(graph, order, capacity=capacity)
    busiest = columns_of(moved.fetched + moved.written_back).step
    return {"total": moved.bytes, "fetched": moved.fetched[busiest], "written": moved.written_back[busiest]}
