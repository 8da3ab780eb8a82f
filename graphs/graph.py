"""The computation graph that everything else works on: nodes that read and write tensors."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from graphs import _validate
from graphs.csr import CSR, Float64Array, Int8Array, Int32Array, Int64Array, csr_from_pairs, csr_from_rows, transposed
from graphs.errors import GraphError, quoted
from graphs.units import format_bytes


class Kind(IntEnum):
    """What allocates a tensor and what ends its life.

    Example:
        >>> from graphs import Graph, Kind, simulate
        >>> kinds = [Kind.WEIGHT, Kind.TEMPORARY, Kind.OUTPUT]
        >>> graph = Graph.build("g", ["a", "b"], reads=[[0], [1]], writer=[-1, 0, 1], size=[8, 4, 2], kind=kinds)
        >>> graph.resident_bytes, simulate(graph).peak_bytes, simulate(graph).live_bytes.tolist()
        (8, 6, [4, 2])
    """

    TEMPORARY = 0  # allocated by its writer, freed after its last reader
    OUTPUT = 1  # allocated by its writer, live to the end
    INPUT = 2  # there from the start to the end: resident, not in the peak
    WEIGHT = 3  # as INPUT; told apart for the reports only
    DONATED = 4  # there from the start, freed after its last reader: in the peak


WRITTEN_KINDS = (Kind.TEMPORARY, Kind.OUTPUT)
RESIDENT_KINDS = (Kind.INPUT, Kind.WEIGHT)
FREED_KINDS = (Kind.TEMPORARY, Kind.DONATED)


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """``n`` nodes that read and write ``k`` tensors; the program's own order is 0 .. n - 1.

    A node reads the tensors that must be in memory while it runs and allocates the tensors it writes. There is
    one tensor a storage: a view is not a tensor. Arrays are checked and frozen at construction, rows and pairs are
    sorted and repeats dropped. Use :meth:`build` unless all arrays are at hand.

    Raises:
        GraphError: the arrays do not describe a graph whose program order is legal; names the node or tensor.

    Example:
        A front end of one's own, for programs that are lists of (name, names of what is read, bytes written):

        >>> from graphs import Graph, simulate
        >>> program = [("a", "", 100), ("b", "", 100), ("c", "a", 10), ("d", "b", 10), ("e", "cd", 1)]
        >>> index = {name: i for i, (name, _, _) in enumerate(program)}  # node i writes tensor i
        >>> graph = Graph.build(
        ...     "two branches",
        ...     labels=[name for name, _, _ in program],
        ...     reads=[[index[source] for source in sources] for _, sources, _ in program],
        ...     writer=range(len(program)),
        ...     size=[size for _, _, size in program],
        ... )
        >>> graph
        <Graph 'two branches': 5 nodes, 5 tensors (5 temporary), 4 edges, writes 221 B, resident 0 B>
        >>> graph.preds.row(4).tolist(), graph.readers.row(0).tolist(), graph.edges.tolist()
        ([2, 3], [2], [[0, 1, 2, 3], [2, 3, 4, 4]])
        >>> simulate(graph).peak_bytes, simulate(graph, [0, 2, 1, 3, 4]).peak_bytes
        (210, 120)
    """

    name: str
    labels: tuple[str, ...]  # n unique names in the source program: all that apply_order needs to go back
    ops: tuple[str, ...]  # n operator names, "aten.mm.default" or "Conv"
    reads: CSR  # n rows of tensors
    writer: Int32Array  # int32[k] node that allocates the tensor; -1 = there from the start
    size: Int64Array  # int64[k] bytes
    kind: Int8Array  # int8[k] values of Kind
    after: Int32Array  # int32[2, c] "u before v" for any reason other than a read
    scratch: Int64Array  # int64[n] bytes live only while the node runs
    flops: Float64Array  # float64[n] floating point operations, 0 where unknown
    seconds: Float64Array  # float64[n] measured duration, 0 where unknown
    moved: Int64Array  # int64[n] bytes that the node's kernels read and write; -1 = all that it reads and writes
    dtypes: tuple[str, ...]  # n types of number that the node computes in, "float32", "" where unknown
    tensor_names: tuple[str, ...]  # k names for people, "" where there is none
    types: tuple[str, ...]  # k types and shapes for people, "float32[8, 64]", "" where unknown
    modules: tuple[str, ...]  # n modules of the user's program, "layers.0.attention", "" where unknown
    sources: tuple[str, ...]  # n places in the user's code, "model.py:12", "" where unknown

    @classmethod
    def build(
        cls,
        name: str,
        labels: Iterable[str],
        reads: CSR | Sequence[Iterable[int]],
        writer: npt.ArrayLike,
        size: npt.ArrayLike,
        *,
        ops: Iterable[str] | None = None,
        kind: npt.ArrayLike | None = None,
        after: npt.ArrayLike | Sequence[tuple[int, int]] = (),
        scratch: npt.ArrayLike | None = None,
        flops: npt.ArrayLike | None = None,
        seconds: npt.ArrayLike | None = None,
        moved: npt.ArrayLike | None = None,
        dtypes: Iterable[str] | None = None,
        tensor_names: Iterable[str] | None = None,
        types: Iterable[str] | None = None,
        modules: Iterable[str] | None = None,
        sources: Iterable[str] | None = None,
    ) -> "Graph":
        """Make a graph from what is known, the rest at its default.

        Args:
            name, labels, ops, scratch, flops, seconds, moved, dtypes, tensor_names, types, modules, sources: as the
                fields of the class, with their shapes and units.
            reads: n rows of tensor indices.
            writer: int[k]; -1 for a tensor that no node writes.
            size: int[k] bytes.
            kind: int[k] values of :class:`Kind`; by default ``TEMPORARY`` where there is a writer, else ``INPUT``.
            after: pairs (u, v), or int[c, 2]: node u must run before node v.

        Raises:
            GraphError: as the class does.
        """
        labels = tuple(labels)
        n = len(labels)
        writer = _validate.integers("writer", writer, np.int32)
        k = len(writer)
        pairs = _validate.pairs("after", after)
        default_kind = np.where(writer >= 0, Kind.TEMPORARY, Kind.INPUT)
        return cls(
            name=name,
            labels=labels,
            ops=("",) * n if ops is None else tuple(ops),
            reads=reads if isinstance(reads, CSR) else csr_from_rows(reads),
            writer=writer,
            size=_validate.integers("size", size, np.int64),
            kind=_validate.integers("kind", default_kind if kind is None else kind, np.int8),
            after=np.ascontiguousarray(pairs.T),
            scratch=_validate.integers("scratch", np.zeros(n, np.int64) if scratch is None else scratch, np.int64),
            flops=np.zeros(n) if flops is None else _validate.floats("flops", flops),
            seconds=np.zeros(n) if seconds is None else _validate.floats("seconds", seconds),
            moved=_validate.integers("moved", np.full(n, -1, np.int64) if moved is None else moved, np.int64),
            dtypes=("",) * n if dtypes is None else tuple(dtypes),
            tensor_names=("",) * k if tensor_names is None else tuple(tensor_names),
            types=("",) * k if types is None else tuple(types),
            modules=("",) * n if modules is None else tuple(modules),
            sources=("",) * n if sources is None else tuple(sources),
        )

    def __post_init__(self) -> None:
        _validate.shapes(self)
        _validate.values(self)
        set_ = object.__setattr__  # the one place where a frozen graph is still being made
        set_(self, "reads", csr_from_pairs(self.reads.row_of, self.reads.idx, self.n))
        if self.after.size:
            rows = csr_from_pairs(self.after[0], self.after[1], self.n)
            set_(self, "after", np.stack([rows.row_of, rows.idx]))
        _validate.acyclic(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                own = np.add(value, 0, order="C", subok=False)  # a copy that nobody else holds; -0.0 becomes 0.0
                own.flags.writeable = False
                set_(self, field.name, own)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.labels)

    @property
    def k(self) -> int:
        """Number of tensors."""
        return len(self.writer)

    @cached_property
    def writes(self) -> CSR:
        """n rows: the tensors that each node allocates."""
        written = np.flatnonzero(self.writer >= 0)
        return csr_from_pairs(self.writer[written], written, self.n)

    @cached_property
    def readers(self) -> CSR:
        """k rows: the nodes that read each tensor."""
        return transposed(self.reads, self.k)

    @cached_property
    def preds(self) -> CSR:
        """n rows: the nodes that must run before each node, from reads and ``after`` together."""
        node, writer = self.reads.row_of, self.writer[self.reads.idx]
        internal = writer >= 0
        before = np.concatenate([writer[internal], self.after[0]])
        return csr_from_pairs(np.concatenate([node[internal], self.after[1]]), before, self.n)

    @cached_property
    def succs(self) -> CSR:
        """n rows: the nodes that must run after each node."""
        return transposed(self.preds, self.n)

    @property
    def edges(self) -> Int32Array:
        """int32[2, m]: "u before v", sorted by v, without repeats."""
        return np.stack([self.preds.idx, self.preds.row_of])

    @cached_property
    def resident_bytes(self) -> int:
        """Bytes of inputs and weights: in memory from start to end whatever the order."""
        return int(self.size[np.isin(self.kind, RESIDENT_KINDS)].sum())

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of everything that decides an order and its way back: two captures of one program agree.

        What is for people only is left out: names of the graph and the tensors, types, modules, places in the source.
        """
        digest = hashlib.sha256(b"topoformer.graph 1")
        for text in (*self.labels, *self.ops):
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        arrays = (*self.reads, self.writer, self.size, self.kind, self.after, self.scratch, self.flops, self.seconds)
        for array in arrays:
            digest.update(array.size.to_bytes(8, "little"))
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        if (self.moved >= 0).any():  # later columns count where they say something: older fingerprints stay
            digest.update(b"moved" + self.moved.astype("<i8", copy=False).tobytes())
        if any(self.dtypes):
            digest.update(b"dtypes" + "\0".join(self.dtypes).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def __repr__(self) -> str:
        counts = ", ".join(f"{c} {kind.name.lower()}" for kind in Kind if (c := int((self.kind == kind).sum())))
        written = format_bytes(int(self.size[self.writer >= 0].sum()))
        return (
            f"<Graph {quoted(self.name)}: {self.n} nodes, {self.k} tensors ({counts or 'none'}), "
            f"{len(self.preds.idx)} edges, writes {written}, resident {format_bytes(self.resident_bytes)}>"
        )


Order = Int32Array  # order[t] = node that runs at step t; its inverse is position[node] = t


def check_order(graph: Graph, order: npt.ArrayLike) -> Order:
    """Return ``order`` as int32[n] if it is a legal order of ``graph``'s nodes; O(n + m).

    Raises:
        GraphError: not a permutation of the nodes, or a node comes before one that it must follow; names them.

    Example:
        >>> from graphs import Graph, check_order
        >>> graph = Graph.build("g", "abcde", [[], [], [0], [1], [2, 3]], [0, 1, 2, 3, 4], [100, 100, 10, 10, 1])
        >>> check_order(graph, [0, 2, 1, 3, 4])
        array([0, 2, 1, 3, 4], dtype=int32)
        >>> check_order(graph, [2, 0, 1, 3, 4])
        Traceback (most recent call last):
            ...
        graphs.errors.GraphError: order of graph 'g' is not legal: node 'c' must run after node 'a'
    """
    from graphs import _kernels

    array: Order = _validate.integers("order", order, np.int32)
    _validate.permutation(graph, array)
    node = _kernels.first_late(position := inverse(array), *graph.preds)
    if node >= 0:
        before = next(u for u in graph.preds.row(node) if position[u] > position[node])
        raise GraphError(
            f"order of graph {quoted(graph.name)} is not legal: node {quoted(graph.labels[node])} must run after "
            f"node {quoted(graph.labels[before])}"
        )
    return array


def inverse(order: Order) -> Int32Array:
    """``position`` of an ``order`` (and the other way round), int32[n]: ``position[order[t]] = t``; O(n).

    The order must be a permutation of 0 .. n - 1 (not checked).

    Example:
        >>> import numpy as np
        >>> from graphs import inverse
        >>> inverse(np.array([2, 0, 1], np.int32))  # node 0 runs at step 1, node 1 at step 2, node 2 at step 0
        array([1, 2, 0], dtype=int32)
    """
    position = np.empty_like(order)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


def program_order(graph: Graph) -> Order:
    """The order in which the program was given: 0 .. n - 1, int32[n].

    Example:
        >>> from graphs import Graph, program_order
        >>> program_order(Graph.build("g", "abc", reads=[[], [0], [1]], writer=[0, 1, 2], size=[4, 2, 1]))
        array([0, 1, 2], dtype=int32)
    """
    return np.arange(graph.n, dtype=np.int32)
