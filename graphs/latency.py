"""Seconds that an order takes on a device: three models, from one stream to memory on the chip.

**A node** takes, where the graph has no measured seconds of it, the roofline time (Williams et al., 2009)

    w(v) = launch_seconds + max(flops(v) / rate(dtype), moved(v) / B)

and 0 where it neither computes nor moves anything: a view. ``B`` is the device's bandwidth, that of its on-chip memory
where it has one. A collective takes launch_seconds + moved(v) / link_bandwidth.

**One stream.** Nodes run one after the other: the latency is the sum of w, *whatever the order*.

**k streams.** Nodes are issued in the given order, each to the stream that is free first, and start when it is free
and their predecessors have finished; collectives have one stream for themselves. The latency is when the last node
has finished. In this model neither a faster device nor one with more streams is ever slower, one stream gives the sum,
and as many as nodes the critical path.

**On-chip memory.** Bytes that do not stay on the chip between their uses are moved again, see :mod:`graphs.traffic`;
off-chip bytes / bandwidth are added, as if nothing else ran meanwhile: the latency is an upper one.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs.csr import Float64Array, Int32Array, Int64Array
from graphs.device import Device
from graphs.errors import GraphError, quoted
from graphs.graph import Graph, Order, check_order, program_order
from graphs.memory import memory_model

COLLECTIVES = re.compile(
    r"(?:^|[._:])(?:all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|(?:send|recv|broadcast)(?![a-z_]))",
    re.IGNORECASE,
)


class LatencyArrays(NamedTuple):
    """What the latency kernels take beside an order."""

    pred_ptr: Int32Array
    pred_idx: Int32Array
    seconds: Float64Array  # float64[n]
    communicates: Int32Array  # int32[n] 1 for collectives
    streams: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each node of ``graph`` runs under one order; made by :func:`simulate_latency`.

    Example:
        Two branches side by side on two streams: their tensors are in memory together.

        >>> from graphs import Device, Graph, simulate_latency
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> device = Device("toy", {"float32": 1e3}, bandwidth=1e3, streams=2)
        >>> timeline = simulate_latency(graph, device=device)
        >>> timeline.start.round(3).tolist(), timeline.stream.tolist()
        ([0.0, 0.0, 0.1, 0.1, 0.21], [0, 1, 0, 1, 0])
        >>> round(timeline.seconds, 3), timeline.peak_bytes, timeline.exposed_communication_seconds
        (0.231, 220, 0.0)
    """

    graph: Graph
    order: Order  # int32[n]
    device: Device
    start: Float64Array  # float64[n] seconds, by node
    finish: Float64Array  # float64[n] seconds, by node
    stream: Int32Array  # int32[n]; device.streams is the one of collectives
    off_chip_bytes: int  # beyond what the nodes' own seconds have in them; 0 without on-chip memory

    @cached_property
    def seconds(self) -> float:
        """Latency of the whole order, in seconds."""
        return float(self.finish.max(initial=0.0)) + self.off_chip_bytes / self.device.bandwidth

    @cached_property
    def exposed_communication_seconds(self) -> float:
        """Time during which collectives run and no other node does."""
        communicates = self.stream == self.device.streams
        total = _covered(self.start, self.finish)
        return total - _covered(self.start[~communicates], self.finish[~communicates])

    @cached_property
    def memory(self) -> tuple[Float64Array, Int64Array]:
        """(seconds, bytes live from then on) of the 2 n starts and finishes in time, float64[2 n] and int64[2 n]."""
        from graphs import _latency_kernels

        memory = memory_model(self.graph).simulator
        times, level = _latency_kernels.concurrent_profile(self.order, self.start, self.finish, *memory)
        return times, level

    @cached_property
    def peak_bytes(self) -> int:
        """Most bytes live at once, nodes of different streams together; one stream: that of the memory model."""
        return max(int(self.memory[1].max(initial=0)), memory_model(self.graph).steps.start if self.graph.n else 0)


def is_collective(op: str) -> bool:
    """Whether an operator of that name communicates with other devices."""
    return COLLECTIVES.search(op) is not None


def moved_bytes(graph: Graph) -> Int64Array:
    """Bytes that each node moves, int64[n]: what its kernels say where they do, else all that it reads and writes."""
    total = np.zeros(graph.n, np.int64)
    np.add.at(total, graph.reads.row_of, graph.size[graph.reads.idx])
    written = graph.writer >= 0
    np.add.at(total, graph.writer[written], graph.size[written])
    return np.where(graph.moved >= 0, graph.moved, total)


def node_seconds(graph: Graph, device: Device) -> Float64Array:
    """Seconds of each node by itself, float64[n], by the formula of this module.

    Raises:
        GraphError: a node communicates and the device has no link.
    """
    moved = moved_bytes(graph)
    rate = np.array([device.rate(dtype) for dtype in graph.dtypes], np.float64)
    near = device.on_chip_bandwidth if device.on_chip_bytes else device.bandwidth
    work = np.maximum(graph.flops / rate, moved / near) if graph.n else np.zeros(0)
    communicates = communicating(graph)
    if communicates.any():
        if not device.link_bandwidth:
            label = graph.labels[int(np.flatnonzero(communicates)[0])]
            raise GraphError(f"node {quoted(label)} communicates, but device {quoted(device.name)} has no link")
        work = np.where(communicates, moved / device.link_bandwidth, work)
    seconds = np.where((moved > 0) | (graph.flops > 0), device.launch_seconds + work, 0.0)
    return np.where(graph.seconds > 0, graph.seconds, seconds)


def communicating(graph: Graph) -> npt.NDArray[np.bool_]:
    """Which nodes are collectives, bool[n]."""
    known = {op: is_collective(op) for op in set(graph.ops)}
    return np.array([known[op] for op in graph.ops], np.bool_)


def latency_arrays(graph: Graph, device: Device) -> LatencyArrays:
    """What the kernels take beside an order."""
    seconds, communicates = node_seconds(graph, device), communicating(graph).astype(np.int32)
    return LatencyArrays(*graph.preds, seconds, communicates, min(device.streams, max(graph.n, 1)))


def concurrent(graph: Graph, device: Device) -> bool:
    """Whether nodes of ``graph`` can run at once on ``device``: on several streams, or beside collectives."""
    return device.streams > 1 or bool(communicating(graph).any())


def order_matters(graph: Graph, device: Device) -> bool:
    """Whether two orders of ``graph`` can take different times on ``device``."""
    return device.on_chip_bytes > 0 or concurrent(graph, device)


def simulate_latency(graph: Graph, order: npt.ArrayLike | None = None, *, device: Device) -> Timeline:
    """When each node runs under ``order`` (int[n]; default: the program's own) on ``device``; O(n k + m).

    ``k`` is the number of streams. Nodes without measured seconds take the roofline time (Williams et al., 2009), see
    :mod:`graphs.latency` for the models.

    Raises:
        GraphError: the order is not legal, or a node communicates and the device has no link; names the nodes.

    Example:
        >>> from dataclasses import replace
        >>> from graphs import Device, Graph, simulate_latency
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> device = Device("toy", {"float32": 1e3}, bandwidth=1e3)
        >>> round(simulate_latency(graph, device=device).seconds, 3)  # 221 bytes written, 220 read, 1,000 a second
        0.441
        >>> round(simulate_latency(graph, device=replace(device, streams=2)).seconds, 3)
        0.231
    """
    from graphs import _latency_kernels
    from graphs.traffic import traffic_bytes

    checked = program_order(graph) if order is None else check_order(graph, order)
    start, finish, stream = _latency_kernels.timeline(checked, *latency_arrays(graph, device))
    stream[communicating(graph)] = device.streams
    off_chip = traffic_bytes(graph, checked, device) if device.on_chip_bytes else 0
    return Timeline(graph, checked, device, start, finish, stream, off_chip)


def latency_bound(graph: Graph, device: Device) -> float:
    """Seconds below which no order of ``graph`` can be on ``device``: its longest path, or its work over its streams.

    Off-chip bytes that every order moves are added.
    """
    from graphs import _latency_kernels
    from graphs.traffic import compulsory_bytes

    seconds, communicates = node_seconds(graph, device), communicating(graph)
    path = float(_latency_kernels.path_lengths(*graph.succs, seconds).max(initial=0.0))
    work = max(float(seconds[~communicates].sum()) / device.streams, float(seconds[communicates].sum()))
    off_chip = compulsory_bytes(graph) / device.bandwidth if device.on_chip_bytes else 0.0
    return max(path, work) + off_chip


def _covered(start: Float64Array, finish: Float64Array) -> float:
    """Length of the union of the intervals from ``start`` to ``finish``, float64[m] each."""
    if not len(start):
        return 0.0
    by_start = np.argsort(start, kind="stable")
    begin, end = start[by_start], np.maximum.accumulate(finish[by_start])
    reached = np.concatenate([[begin[0]], end[:-1]])
    return float(np.maximum(end - np.maximum(begin, reached), 0.0).sum())
