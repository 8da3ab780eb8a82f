"""PyTorch Inductor's memory pass, run as it is on our graphs: ``torch._inductor.memory.reorder_for_peak_memory``.

The pass sees scheduler nodes and buffers; light stand-ins for these carry a graph's nodes and tensors. A tensor is a
buffer, a node's scratch is a buffer that nobody reads, an order without a read is a "fake" weak dependency, a donated
input is a freeable one, inputs and weights are not mentioned. Its model of live bytes is then the same as ours.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from graphs import Graph, Kind, Order, peak_bytes
from graphs.cost import OBJECTIVES, Objective

BYTE = torch.uint8  # numbers of elements are bytes
DEEP = 1_000_000  # its depth-first sort and its check for cycles are recursive: more than Python allows by itself


class Pass(NamedTuple):
    """Arguments of the pass."""

    nodes: list["Node"]
    buffers: dict[str, "Buffer"]
    inputs: Any  # OrderedSet[str] of buffers that are there from the start
    outputs: Any  # OrderedSet[str] of buffers that stay

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of the pass."""
        fused = {node.name: node for node in self.nodes}
        return self.nodes, self.buffers, fused, self.inputs, self.outputs


class Contents(NamedTuple):
    """What ``SchedulerBuffer.node`` tells: how much is in a buffer."""

    bytes: int
    layout: object

    def get_numel(self) -> int:
        """Bytes: an element is one."""
        return self.bytes

    def get_dtype(self) -> torch.dtype:
        """One byte an element."""
        return BYTE


@dataclass(eq=False)
class Buffer:
    """Stands in for a ``SchedulerBuffer``; the pass adds ``mpi_buffer``."""

    name: str
    node: Contents
    users: tuple[Any, ...] = ()
    mpi_buffer: Any = None

    def get_name(self) -> str:
        """Its name."""
        return self.name


class Dep(NamedTuple):
    """Stands in for a dependency on a buffer's contents."""

    name: str


class ReadWrites(NamedTuple):
    """Stands in for what a node says it reads."""

    reads: list[Any]


@dataclass(eq=False)
class Node:
    """Stands in for a ``BaseSchedulerNode``; the pass adds ``mpi_node``."""

    name: str
    place: int  # in the graph's program order
    outputs: list[Buffer]
    unmet_dependencies: list[Any]
    read_writes: ReadWrites
    mpi_node: Any = None

    def get_name(self) -> str:
        """Its name."""
        return self.name

    def get_outputs(self) -> list[Buffer]:
        """Buffers that it makes."""
        return self.outputs

    def get_buffer_names(self) -> list[str]:
        """Names of these."""
        return [buffer.name for buffer in self.outputs]


class Surroundings:
    """Stands in for ``V.graph``: nothing is mutated, sizes are known."""

    name = ""

    class _Scheduler:
        mutation_real_name: dict[str, str] = {}  # noqa: RUF012

    class _Sizes:
        def optimization_hint(self, size: int, fallback: int = 0) -> int:  # noqa: ARG002
            return size

        size_hint = optimization_hint  # its name before torch 2.12

    def __init__(self, bytes_of: dict[str, int]) -> None:
        self.bytes_of = bytes_of
        self.scheduler, self.sizevars = self._Scheduler(), self._Sizes()

    def get_dep_size_hint(self, dep: Any) -> int:
        """Bytes of a buffer that is there from the start."""
        return self.bytes_of[dep.name]


def inductor(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """Inductor's own pick, int32[n]: by its estimate the best of the program's order, its LPMF, its BFS and its DFS."""
    from torch._inductor import memory

    with _stand_ins(graph) as given:
        picked = memory.reorder_for_peak_memory(*given.arguments)
    return np.array([node.place for node in picked], np.int32)


def estimated_peak(graph: Graph) -> int:
    """Bytes that Inductor thinks the program's own order needs."""
    from torch._inductor import memory

    with _stand_ins(graph) as given:
        peak, _ = memory.prepare_planning_info(*given.arguments)
    return int(peak)


def parts() -> dict[str, Callable[[Graph], Order]]:
    """Its three sorts by name, each run alone."""
    from torch._inductor import memory

    def alone(sort: Any) -> Callable[[Graph], Order]:
        def order(graph: Graph) -> Order:
            with _stand_ins(graph) as given:
                _, freeable = memory.prepare_planning_info(*given.arguments)
                lpmf = sort is memory.topological_sort_lpmf
                more = (freeable, given.buffers, given.outputs) if lpmf else ()
                return np.array([node.place for node in sort(given.nodes, *more)], np.int32)

        return order

    sorts = (memory.topological_sort_lpmf, memory.topological_sort_bfs, memory.topological_sort_dfs)
    return {sort.__name__.removeprefix("topological_sort_"): alone(sort) for sort in sorts}


@cache
def missing() -> str:
    """Why the pass cannot be compared with this torch, or "" where it can: it is private, and changes."""
    kind = [Kind.TEMPORARY, Kind.OUTPUT, Kind.OUTPUT, Kind.DONATED]
    tiny = Graph.build("tiny", "abc", [[3], [0], [0, 1]], [0, 1, 2, -1], [4, 2, 1, 9], kind=kind, after=[(1, 2)])
    try:
        inductor(tiny, OBJECTIVES["memory"], seconds=1.0, seed=0)
        parts()
        estimate = estimated_peak(tiny)
    except Exception as error:  # whatever has moved or changed
        return f"torch {torch.__version__}: {type(error).__name__}: {error}"
    peak = peak_bytes(tiny)
    return "" if estimate == peak else f"torch {torch.__version__} estimates {estimate} bytes where {peak} are live"


@contextmanager
def _stand_ins(graph: Graph) -> Iterator[Pass]:
    from torch._inductor.virtualized import V

    given = _translated(graph)
    sizes = {name: int(graph.size[int(name.removeprefix("donated"))]) for name in given.inputs}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEEP))
    try:
        with V.set_graph_handler(Surroundings(sizes)):
            yield given
    finally:
        sys.setrecursionlimit(limit)


def _translated(graph: Graph) -> Pass:
    from torch._inductor.dependencies import WeakDep
    from torch.utils._ordered_set import OrderedSet

    layout = object()
    names = [f"donated{t}" if graph.writer[t] < 0 else f"buf{t}" for t in range(graph.k)]
    nodes, buffers = [], {}
    for v in range(graph.n):
        made = [Buffer(names[t], Contents(int(graph.size[t]), layout)) for t in graph.writes.row(v).tolist()]
        if graph.scratch[v] or not made:  # an order without a read needs something to hang on to
            made.append(Buffer(f"scratch{v}", Contents(int(graph.scratch[v]), layout)))
        buffers.update({buffer.name: buffer for buffer in made})
        read = [t for t in graph.reads.row(v).tolist() if graph.writer[t] >= 0 or graph.kind[t] == Kind.DONATED]
        deps = [Dep(names[t]) for t in read]
        unmet: list[Any] = [dep for dep, t in zip(deps, read, strict=True) if graph.writer[t] >= 0]
        nodes.append(Node(f"op{v}", v, made, unmet, ReadWrites(list(deps))))
    for u, v in graph.after.T.tolist():
        nodes[v].unmet_dependencies.append(WeakDep(nodes[u].outputs[0].name, nodes[v].outputs[0].name, is_fake=True))
    outputs = OrderedSet(names[t] for t in np.flatnonzero(graph.kind == Kind.OUTPUT).tolist())
    donated = OrderedSet(names[t] for t in np.flatnonzero(graph.kind == Kind.DONATED).tolist())
    return Pass(nodes, buffers, donated, outputs)
