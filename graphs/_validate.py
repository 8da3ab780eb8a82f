"""Checks of a graph's arrays at construction; each error names the node or tensor at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from graphs.errors import GraphError, cycle_text, quoted

if TYPE_CHECKING:
    from graphs.csr import CSR, Float64Array, Int32Array
    from graphs.graph import Graph

TOTAL_LIMIT = 1 << 62  # sums of bytes stay clear of the end of int64


def integers(what: str, value: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    """``value`` as an array of ``dtype``; refuses anything that is not integers in range."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise GraphError(f"'{what}' must be a regular array of integers ({error})") from None
    if array.size == 0:
        return array.astype(dtype)
    if array.dtype.kind not in "iu":
        raise GraphError(f"'{what}' must hold integers that fit {np.dtype(dtype).name} (got {array.dtype})")
    info = np.iinfo(dtype)
    if array.min() < info.min or array.max() > info.max:
        worst = array.max() if array.max() > info.max else array.min()
        raise GraphError(f"'{what}' holds {worst}, which does not fit {np.dtype(dtype).name}")
    return array.astype(dtype)


def pairs(what: str, value: npt.ArrayLike) -> Int32Array:
    """``value`` as int32[c, 2]."""
    array = integers(what, value, np.int32)
    if array.size and (array.ndim != 2 or array.shape[1] != 2):
        raise GraphError(f"'{what}' must be pairs (u, v), int[c, 2] (got shape {list(array.shape)})")
    return array.reshape(-1, 2)


def floats(what: str, value: npt.ArrayLike) -> Float64Array:
    """``value`` as float64; refuses anything that is not numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise GraphError(f"'{what}' must be a regular array of numbers ({error})") from None
    if array.size and array.dtype.kind not in "iuf":
        raise GraphError(f"'{what}' must hold numbers (got {array.dtype})")
    return array.astype(np.float64)


def shapes(graph: Graph) -> None:
    """Types and lengths of every field agree with the number of nodes and tensors."""
    if not isinstance(graph.name, str):
        raise GraphError(f"'name' must be a string (got {type(graph.name).__name__})")
    n, k = len(graph.labels), len(graph.writer)
    columns = dict.fromkeys(("labels", "ops", "sources", "modules", "dtypes"), n) | {"tensor_names": k, "types": k}
    for field, length in columns.items():
        column = getattr(graph, field)
        if not isinstance(column, tuple) or not all(isinstance(text, str) for text in column):
            raise GraphError(f"'{field}' must be a tuple of strings")
        if len(column) != length:
            raise GraphError(f"'{field}' must have {length} entries (got {len(column)})")
    wanted = {
        "writer": (np.int32, (k,)),
        "size": (np.int64, (k,)),
        "kind": (np.int8, (k,)),
        "after": (np.int32, (2, *np.shape(graph.after)[-1:])),
        "scratch": (np.int64, (n,)),
        "flops": (np.float64, (n,)),
        "seconds": (np.float64, (n,)),
        "moved": (np.int64, (n,)),
    }
    for field, (dtype, shape) in wanted.items():
        array = getattr(graph, field)
        text = f"'{field}' must be {np.dtype(dtype).name}{list(shape)}"
        if not isinstance(array, np.ndarray):
            raise GraphError(f"{text} (got {type(array).__name__})")
        if array.dtype != dtype or array.shape != shape:
            raise GraphError(f"{text} (got {array.dtype}{list(array.shape)})")
    rows(graph.reads, n)


def rows(reads: CSR, n: int) -> None:
    """``reads`` is well formed: n rows, pointers that start at 0, never fall and end at the last entry."""
    ptr, idx = reads
    if ptr.dtype != np.int32 or idx.dtype != np.int32 or ptr.shape != (n + 1,) or idx.ndim != 1:
        raise GraphError(f"'reads' must be {n} rows in int32 arrays (got {ptr.dtype}{list(ptr.shape)} pointers)")
    if ptr[0] != 0 or ptr[-1] != len(idx) or np.any(np.diff(ptr) < 0):
        raise GraphError("'reads' has row pointers that do not rise from 0 to the number of entries")


def values(graph: Graph) -> None:
    """Every index, byte count, kind and name is in range, and each tensor has the writer that its kind asks for."""
    unique_labels(graph.labels)
    in_range(graph.reads.row_of, graph.reads.idx, graph.k, graph.labels, "reads tensor", "tensors")
    for column, other in ((0, 1), (1, 0)):
        in_range(graph.after[other].clip(0, max(graph.n - 1, 0)), graph.after[column], graph.n, graph.labels,
                 "is ordered against node", "nodes")  # fmt: skip
    bad = np.flatnonzero((graph.writer < -1) | (graph.writer >= graph.n))
    if len(bad):
        raise GraphError(f"tensor {bad[0]} is written by node {graph.writer[bad[0]]}, but there are {graph.n} nodes")
    kinds(graph)
    bad = np.flatnonzero(graph.size < 0)
    if len(bad):
        raise GraphError(f"tensor {bad[0]} has {graph.size[bad[0]]} bytes; bytes must not be negative")
    bad = np.flatnonzero(graph.scratch < 0)
    if len(bad):
        label, count = graph.labels[bad[0]], graph.scratch[bad[0]]
        raise GraphError(f"node {quoted(label)} has {count} scratch bytes; bytes must not be negative")
    bad = np.flatnonzero(graph.moved < -1)
    if len(bad):
        label, count = graph.labels[bad[0]], graph.moved[bad[0]]
        raise GraphError(f"node {quoted(label)} moves {count} bytes; bytes must not be negative (-1: unknown)")
    for field in ("flops", "seconds"):
        array = getattr(graph, field)
        bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
        if len(bad):
            label, value = graph.labels[bad[0]], array[bad[0]]
            raise GraphError(f"node {quoted(label)}: '{field}' must be finite and not negative (got {value})")
    total = graph.size.astype(np.float64).sum() + graph.scratch.astype(np.float64).sum()
    if total >= TOTAL_LIMIT:
        raise GraphError(f"graph {quoted(graph.name)} holds {total:.3g} bytes in all; the most is 2**62")


def unique_labels(labels: tuple[str, ...]) -> None:
    """No two nodes share a name."""
    if len(set(labels)) < len(labels):
        seen: set[str] = set()
        twice = next(label for label in labels if label in seen or seen.add(label))  # type: ignore[func-returns-value]
        raise GraphError(f"two nodes are named {quoted(twice)}")


def in_range(node: Int32Array, index: Int32Array, count: int, labels: tuple[str, ...], verb: str, what: str) -> None:
    """Every ``index`` is one of ``count``; the error names the ``node`` it belongs to."""
    bad = np.flatnonzero((index < 0) | (index >= count))
    if len(bad):
        label = labels[node[bad[0]]] if len(labels) else "?"
        raise GraphError(f"node {quoted(label)} {verb} {index[bad[0]]}, but there are {count} {what}")


def kinds(graph: Graph) -> None:
    """Temporaries and outputs have a writer; inputs, weights and donated tensors have none."""
    from graphs.graph import WRITTEN_KINDS, Kind

    bad = np.flatnonzero((graph.kind < 0) | (graph.kind >= len(Kind)))
    if len(bad):
        raise GraphError(f"tensor {bad[0]} has kind {graph.kind[bad[0]]}; kinds are 0 .. {len(Kind) - 1}")
    wants_writer = np.isin(graph.kind, WRITTEN_KINDS)
    bad = np.flatnonzero(wants_writer != (graph.writer >= 0))
    if len(bad):
        tensor = int(bad[0])
        kind = Kind(graph.kind[tensor]).name.lower()
        if wants_writer[tensor]:
            first = np.flatnonzero(graph.reads.idx == tensor)
            reader = f", yet node {quoted(graph.labels[graph.reads.row_of[first[0]]])} reads it" if len(first) else ""
            raise GraphError(f"tensor {tensor} is {kind} but no node writes it{reader}")
        raise GraphError(f"tensor {tensor} is {kind} but node {quoted(graph.labels[graph.writer[tensor]])} writes it")


def acyclic(graph: Graph) -> None:
    """The program order 0 .. n - 1 is legal; tells a cycle from a mere wrong order."""
    late = first_violation(graph, np.arange(graph.n, dtype=np.int32))
    if late is None:
        return
    import networkx as nx

    try:
        arcs = nx.find_cycle(nx.DiGraph(zip(*graph.edges.tolist(), strict=True)))
    except nx.NetworkXNoCycle:
        before, node = (quoted(graph.labels[i]) for i in late)
        text = f"program order is not legal: node {node} must run after node {before}, which comes later"
        raise GraphError(text) from None
    raise GraphError(cycle_text([graph.labels[u] for u, _ in arcs]))


def permutation(graph: Graph, order: Int32Array) -> None:
    """``order`` holds each of the graph's nodes once."""
    if order.shape != (graph.n,):
        raise GraphError(f"an order of graph {quoted(graph.name)} has {graph.n} nodes (got shape {list(order.shape)})")
    bad = np.flatnonzero((order < 0) | (order >= graph.n))
    if len(bad):
        raise GraphError(f"order holds node {order[bad[0]]}, but graph {quoted(graph.name)} has {graph.n} nodes")
    twice = np.flatnonzero(np.bincount(order, minlength=graph.n) > 1)
    if len(twice):
        raise GraphError(f"order holds node {quoted(graph.labels[twice[0]])} more than once")


def first_violation(graph: Graph, position: Int32Array) -> tuple[int, int] | None:
    """The first pair (u, v) where u must run before v but ``position`` does not put it there."""
    preds = graph.preds
    node = preds.row_of
    bad = np.flatnonzero(position[preds.idx] >= position[node])
    return (int(preds.idx[bad[0]]), int(node[bad[0]])) if len(bad) else None
