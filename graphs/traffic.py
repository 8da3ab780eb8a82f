"""Bytes that an order moves between a small on-chip memory and the memory behind it.

**The model.** On-chip memory is filled by software, in bytes: a tensor may be there in part. While a node runs, the
tensors that it reads and writes and its scratch are on the chip, as far as they fit; others are put out to make room,
and a node whose own tensors do not fit streams through. Inputs, weights and donated tensors are off the chip at
first, outputs are off the chip in the end. A byte that is put out before its last use is fetched again; one that was
computed is written back first, once. Nodes that move nothing (views) touch nothing.

**What is put out** is what is used furthest in the future (Belady, 1966; Mattson et al., 1970): no other choice
fetches fewer bytes, and more on-chip memory never moves more. Write-backs are not weighed against fetches: as every
byte fetched again was written back at most once, all that is moved beyond the compulsory bytes is at most twice what
the best choice would move.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs.csr import Int32Array, Int64Array, csr_from_pairs
from graphs.device import Device
from graphs.graph import RESIDENT_KINDS, Graph, Kind, Order, check_order, program_order

MOST_BYTES, EXACT = 1 << 62, float(1 << 62)  # of on-chip memory, and of what is added up in 64 bits
WRITTEN, KEPT, OUTSIDE = 0, 1, 2  # what the kernel is told of a tensor


class TrafficArrays(NamedTuple):
    """What the traffic kernel takes beside an order and a capacity."""

    ptr: Int32Array  # int32[n + 1] rows of tensors that each node touches and has not written itself
    idx: Int32Array
    write_ptr: Int32Array
    write_idx: Int32Array
    size: Int64Array
    kind: Int32Array
    scratch: Int64Array


@dataclass(frozen=True, eq=False)
class Traffic:
    """What one order moves on and off the chip; made by :func:`simulate_traffic`.

    Example:
        With room for 150 bytes, 50 of "a" make way for "b", and 60 of "b" for the rest of "a" and for "c":

        >>> from graphs import Graph, simulate_traffic
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> traffic = simulate_traffic(graph, capacity=150)
        >>> traffic.bytes, traffic.compulsory_bytes, traffic.fetched.tolist()
        (220, 0, [0, 0, 50, 60, 0])
    """

    graph: Graph
    order: Order  # int32[n]
    capacity: int  # bytes on the chip
    fetched: Int64Array  # int64[n] bytes, by step
    written_back: Int64Array  # int64[n] bytes, by step; a tensor's are charged to the step that uses it last

    @cached_property
    def bytes(self) -> int:
        """Bytes moved in both directions."""
        return _added(self.fetched, self.written_back)

    @property
    def compulsory_bytes(self) -> int:
        """Of these, what every order moves."""
        return compulsory_bytes(self.graph)


def traffic_arrays(graph: Graph) -> TrafficArrays:
    """What the kernel takes beside an order and a capacity, made once a graph."""
    cached: TrafficArrays | None = graph.__dict__.get("_traffic_arrays")
    if cached is None:
        touching = graph.moved[graph.reads.row_of] != 0
        reads = csr_from_pairs(graph.reads.row_of[touching], graph.reads.idx[touching], graph.n)
        kind = np.full(graph.k, WRITTEN, np.int32)
        kind[graph.kind == Kind.OUTPUT] = KEPT
        kind[np.isin(graph.kind, (*RESIDENT_KINDS, Kind.DONATED))] = OUTSIDE
        arrays = TrafficArrays(*reads, *graph.writes, graph.size, kind, graph.scratch)
        cached = graph.__dict__["_traffic_arrays"] = arrays
    return cached


def simulate_traffic(graph: Graph, order: npt.ArrayLike | None = None, *, capacity: int) -> Traffic:
    """Bytes that ``order`` (int[n]; default: the program's own) moves with ``capacity`` bytes on the chip.

    What is put out is what is used furthest in the future (Belady, IBM Systems Journal 5, 1966); O((n + m) log m).

    Raises:
        GraphError: the order is not legal; names the nodes.
        ValueError: ``capacity`` is negative.

    Example:
        >>> from graphs import Graph, simulate_traffic
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> [simulate_traffic(graph, capacity=room).bytes for room in (120, 150, 210)]
        [340, 220, 0]
        >>> simulate_traffic(graph, [0, 2, 1, 3, 4], capacity=120).bytes  # a peak of 120 bytes fits
        0
    """
    from graphs import _latency_kernels

    if capacity < 0:
        raise ValueError(f"'capacity' must not be negative (got {capacity})")
    checked = program_order(graph) if order is None else check_order(graph, order)
    fetched, written = _latency_kernels.traffic(checked, *traffic_arrays(graph), min(capacity, MOST_BYTES))
    return Traffic(graph, checked, capacity, fetched, written)


def traffic_bytes(graph: Graph, order: Order, device: Device) -> int:
    """Bytes moved by an order that is known to be legal (not checked), int32[n]."""
    from graphs import _latency_kernels

    fetched, written = _latency_kernels.traffic(order, *traffic_arrays(graph), device.on_chip_bytes)
    return _added(fetched, written)


def _added(fetched: Int64Array, written: Int64Array) -> int:
    """All of them together, which may be beyond 64 bits."""
    if float(fetched.sum(dtype=np.float64) + written.sum(dtype=np.float64)) < EXACT:
        return int(fetched.sum()) + int(written.sum())
    return int(sum(fetched.tolist()) + sum(written.tolist()))


def compulsory_bytes(graph: Graph) -> int:
    """Bytes that every order moves: each input, weight or donated tensor that is touched once, each output once."""
    arrays = traffic_arrays(graph)
    touched = np.zeros(graph.k, np.bool_)
    touched[arrays.idx] = True
    return int(graph.size[touched & (arrays.kind == OUTSIDE)].sum() + graph.size[arrays.kind == KEPT].sum())
