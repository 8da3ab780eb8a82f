"""Bytes that an order of a graph keeps alive, step by step, and what is alive at the peak.

The model: a node's step holds what was live before it, the tensors it writes and its scratch. After the step every
tensor whose last reader has run is freed; so is a temporary that nobody reads. Outputs stay. Inputs and weights are
resident: reported, not counted. A donated tensor is live from the start and freed after its last reader.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graphs.csr import CSR, Int32Array, Int64Array, UInt32Array, csr_from_pairs, transposed
from graphs.graph import FREED_KINDS, Graph, Kind, Order, check_order, inverse, program_order


class LiveTensor(NamedTuple):
    """A tensor that is in memory at some step: for people who want to know what to change.

    Example:
        >>> from graphs import Graph, simulate
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> [(tensor.name, tensor.bytes, tensor.kind) for tensor in simulate(graph).alive()]  # at the peak
        [('a', 100, 'temporary'), ('b', 100, 'temporary'), ('c', 10, 'temporary')]
    """

    tensor: int  # index into the graph's columns, 0 .. k - 1
    name: str  # the tensor's own, else its writer's label
    bytes: int
    kind: str  # name of its Kind in lower case
    writer: str  # label of the node that wrote it, "" for a donated tensor
    op: str
    source: str  # "model.py:12" where the trace has it
    type: str = ""  # "float32[8, 64]" where it is known
    module: str = ""  # of the node that wrote it, "layers.0.attention" where it is known


@dataclass(frozen=True, eq=False)
class MemoryProfile:
    """What one order of ``graph`` keeps in memory; made by :func:`simulate`.

    Example:
        >>> from graphs import Graph, simulate
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> profile = simulate(graph)
        >>> profile.peak_bytes, profile.peak_step, profile.resident_bytes
        (210, 2, 0)
        >>> [tensor.name for tensor in profile.alive()], [tensor.name for tensor in profile.alive(-1)]
        (['a', 'b', 'c'], ['c', 'd', 'e'])
    """

    graph: Graph
    order: Order  # int32[n]
    step_bytes: Int64Array  # int64[n] bytes live while step t runs
    live_bytes: Int64Array  # int64[n] bytes live after step t

    @cached_property
    def peak_bytes(self) -> int:
        """Most bytes live during any step; resident bytes are not in it."""
        return int(self.step_bytes.max(initial=0))

    @cached_property
    def peak_step(self) -> int:
        """First step that reaches the peak."""
        return int(self.step_bytes.argmax()) if len(self.step_bytes) else 0

    @property
    def resident_bytes(self) -> int:
        """Bytes of inputs and weights, in memory throughout."""
        return self.graph.resident_bytes

    def alive(self, step: int | None = None) -> list[LiveTensor]:
        """Tensors in memory while ``step`` (default: the peak step) runs, largest first; O(n + entries).

        Their bytes and the step's scratch bytes add up to ``step_bytes[step]``.

        Raises:
            IndexError: the order has no such step; negative ones count from its end.
        """
        if step is None and not self.graph.n:
            return []
        at = self.peak_step if step is None else step
        if not -self.graph.n <= at < self.graph.n:
            raise IndexError(f"'step' must be one of the order's {self.graph.n} steps (got {at})")
        first, last = lifetimes(self.graph, self.order)
        at %= self.graph.n
        counted = np.flatnonzero((first <= at) & (at < last))
        by_size = counted[np.argsort(-self.graph.size[counted], kind="stable")]
        return [_live_tensor(self.graph, int(tensor)) for tensor in by_size]


def _live_tensor(graph: Graph, tensor: int) -> LiveTensor:
    writer = int(graph.writer[tensor])
    columns = (graph.labels, graph.ops, graph.sources, graph.modules)
    label, op, source, module = (column[writer] for column in columns) if writer >= 0 else ("",) * 4
    name = graph.tensor_names[tensor] or label or f"tensor {tensor}"
    size, kind = int(graph.size[tensor]), Kind(graph.kind[tensor]).name.lower()
    return LiveTensor(tensor, name, size, kind, label, op, source, graph.types[tensor], module)


def simulate(graph: Graph, order: npt.ArrayLike | None = None) -> MemoryProfile:
    """Live bytes of every step of ``order`` (int[n]; default: the program's own); O(n + m).

    Without views, kinds and scratch this is the peak of Gagrani et al., NeurIPS 2022: on their published layered graphs
    it agrees to the byte.

    Raises:
        GraphError: the order is not legal; names the nodes.

    Example:
        Each tensor is freed after its last reader, so that the second branch is better begun when the first is done:

        >>> from graphs import Graph, simulate
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> simulate(graph).step_bytes.tolist(), simulate(graph).live_bytes.tolist()
        ([100, 200, 210, 120, 21], [100, 200, 110, 20, 0])
        >>> simulate(graph, [0, 2, 1, 3, 4]).step_bytes.tolist()
        [100, 110, 110, 120, 21]
    """
    from graphs import _kernels

    checked = program_order(graph) if order is None else check_order(graph, order)
    checked.flags.writeable = False
    during, after = _kernels.live_profile(checked, *memory_model(graph).simulator)
    for array in (during, after):
        array.flags.writeable = False
    return MemoryProfile(graph, checked, during, after)


def peak_bytes(graph: Graph, order: Order | None = None) -> int:
    """Peak in bytes of an order that is known to be legal (not checked: for inner loops), int32[n]; O(n + m).

    Resident bytes are not in it. Use :func:`simulate` for an order that may not be legal, or for more than the peak.

    Example:
        >>> import numpy as np
        >>> from graphs import Graph, peak_bytes
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> peak_bytes(graph), peak_bytes(graph, np.array([0, 2, 1, 3, 4], np.int32))
        (210, 120)
    """
    from graphs import _kernels

    fixed = program_order(graph) if order is None else order.view()
    fixed.flags.writeable = False  # kernels are compiled for one kind of array, and a Schedule's order is of this one
    return int(_kernels.peak(fixed, *memory_model(graph).simulator))


class SimulatorArrays(NamedTuple):
    """What the simulator's kernels take: for each tensor that is freed after its last reader, its readers."""

    ptr: UInt32Array  # uint32[f + 1] rows of readers of the f freed tensors
    idx: UInt32Array
    size: Int64Array  # int64[f]
    alloc: Int64Array  # int64[n] bytes that appear with the step: writes and scratch
    drop: Int64Array  # int64[n] of these, bytes gone with it: scratch and temporaries that nobody reads
    start: int  # bytes of donated tensors


class StepArrays(NamedTuple):
    """What kernels take that build an order node by node: for each node, the freed tensors that it reads."""

    ptr: Int32Array  # int32[n + 1]
    idx: Int32Array
    uses: Int32Array  # int32[k] readers of each tensor, 0 for those that are not freed by a reader
    size: Int64Array  # int64[k]
    alloc: Int64Array
    drop: Int64Array
    start: int


class MemoryModel(NamedTuple):
    """The memory model of a graph as flat arrays, by tensor and by node."""

    simulator: SimulatorArrays
    steps: StepArrays


def memory_model(graph: Graph) -> MemoryModel:
    """The memory model of ``graph`` as flat arrays, made once a graph."""
    cached: MemoryModel | None = graph.__dict__.get("_memory_model")
    if cached is None:
        cached = graph.__dict__["_memory_model"] = _memory_model(graph)
    return cached


def _memory_model(graph: Graph) -> MemoryModel:
    freed = np.isin(graph.kind, FREED_KINDS)
    entry = freed[graph.reads.idx]
    reads: CSR = csr_from_pairs(graph.reads.row_of[entry], graph.reads.idx[entry], graph.n)
    uses = np.bincount(reads.idx, minlength=graph.k).astype(np.int32)
    written = graph.writer >= 0
    unread = written & freed & (uses == 0)
    donated = (graph.kind == Kind.DONATED) & (uses > 0)  # one that nobody reads is gone before the first step
    alloc = _sum_by_node(graph, written) + graph.scratch
    drop = _sum_by_node(graph, unread) + graph.scratch
    start = int(graph.size[donated].sum())
    readers = transposed(reads, graph.k)
    ends = np.concatenate([readers.ptr[:-1][uses > 0], readers.ptr[-1:]])  # rows without entries take no room
    return MemoryModel(
        SimulatorArrays(ends.view(np.uint32), readers.idx.view(np.uint32), graph.size[uses > 0], alloc, drop, start),
        StepArrays(*reads, uses, graph.size, alloc, drop, start),
    )


def _sum_by_node(graph: Graph, tensors: npt.NDArray[np.bool_]) -> Int64Array:
    total = np.zeros(graph.n, np.int64)
    np.add.at(total, graph.writer[tensors], graph.size[tensors])
    return total


def lifetimes(graph: Graph, order: Order) -> tuple[Int32Array, Int32Array]:
    """Half-open steps [first, last) during which each tensor is live under ``order``, int32[k] each.

    Resident tensors, and donated ones that nobody reads, get the empty interval [0, 0).
    """
    position = inverse(order)
    steps = memory_model(graph).steps
    first, last = np.zeros(graph.k, np.int32), np.zeros(graph.k, np.int32)
    written = np.flatnonzero(graph.writer >= 0)
    first[written] = position[graph.writer[written]]
    last[written] = first[written] + 1
    node = np.repeat(np.arange(graph.n, dtype=np.int32), np.diff(steps.ptr))
    np.maximum.at(last, steps.idx, position[node] + 1)
    last[graph.kind == Kind.OUTPUT] = graph.n
    return first, last
