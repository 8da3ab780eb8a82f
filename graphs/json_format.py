"""A graph as the plain dictionary of graph JSON, version 1, and back."""

import difflib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from graphs.csr import csr_from_rows
from graphs.errors import GraphError, quoted, unknown_name
from graphs.graph import Graph, Kind

FORMAT, VERSION = "topoformer.graph", 1
NODE_KEYS = (
    "name", "op", "reads", "writes", "after", "scratch_bytes", "flops", "seconds", "moved_bytes", "dtype", "module",
    "source",
)  # fmt: skip
TENSOR_KEYS = ("bytes", "kind", "name", "value_type")
KINDS = {kind.name.lower(): int(kind) for kind in Kind}
INT64_MAX = (1 << 63) - 1


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """``graph`` as a dictionary of graph JSON; optional keys are left out where they say nothing."""
    after: list[list[int]] = [[] for _ in range(graph.n)]
    for before, node in graph.after.T.tolist():
        after[node].append(before)
    reads, writes = _rows(graph.reads), _rows(graph.writes)
    nodes = []
    for i, label in enumerate(graph.labels):
        optional = {
            "after": after[i],
            "scratch_bytes": int(graph.scratch[i]),
            "flops": float(graph.flops[i]),
            "seconds": float(graph.seconds[i]),
            "dtype": graph.dtypes[i],
            "module": graph.modules[i],
            "source": graph.sources[i],
        }
        node = {"name": label, "op": graph.ops[i], "reads": reads[i], "writes": writes[i]}
        node |= {key: value for key, value in optional.items() if value}
        nodes.append(node | ({"moved_bytes": int(graph.moved[i])} if graph.moved[i] >= 0 else {}))
    tensors = []
    columns = (graph.size.tolist(), graph.kind.tolist(), graph.tensor_names, graph.types)
    for size, kind, name, type_ in zip(*columns, strict=True):
        known = {key: text for key, text in (("name", name), ("value_type", type_)) if text}
        tensors.append({"bytes": size, "kind": Kind(kind).name.lower(), **known})
    return {"format": FORMAT, "version": VERSION, "name": graph.name, "nodes": nodes, "tensors": tensors}


def _rows(csr: Any) -> list[list[int]]:
    flat, ptr = csr.idx.tolist(), csr.ptr.tolist()
    return [flat[a:b] for a, b in pairwise(ptr)]


def graph_from_json(data: Any) -> Graph:
    """The graph that a dictionary of graph JSON describes.

    Unknown keys are passed over, so that a later version's additions do no harm, but one that is nearly a known key
    is taken for a slip of the pen.

    Raises:
        GraphError: it does not describe one; names the node or tensor.
    """
    _check_head(data)
    nodes, tensors = (_objects(data, key) for key in ("nodes", "tensors"))
    _refuse_near_misses("node", nodes, NODE_KEYS)
    _refuse_near_misses("tensor", tensors, TENSOR_KEYS)
    names = [_text(node, "name", "node", i, f"node_{i}") for i, node in enumerate(nodes)]
    after = [_indices(node, "after", name, "node", len(nodes)) for name, node in zip(names, nodes, strict=True)]
    return Graph.build(
        name=_text(data, "name", "graph", 0, "graph"),
        labels=names,
        ops=[_text(node, "op", "node", i, "") for i, node in enumerate(nodes)],
        reads=csr_from_rows(
            [_indices(node, "reads", name, "tensor", len(tensors)) for name, node in zip(names, nodes, strict=True)]
        ),
        writer=_writers(names, nodes, len(tensors)),
        size=[read_count(tensor, "bytes", "tensor", i) for i, tensor in enumerate(tensors)],
        kind=[_kind(tensor, i) for i, tensor in enumerate(tensors)],
        after=[(before, i) for i, row in enumerate(after) for before in row],
        scratch=[read_count(node, "scratch_bytes", "node", name, 0) for name, node in zip(names, nodes, strict=True)],
        flops=_numbers(names, nodes, "flops"),
        seconds=_numbers(names, nodes, "seconds"),
        moved=[
            read_count(node, "moved_bytes", "node", name) if "moved_bytes" in node else -1
            for name, node in zip(names, nodes, strict=True)
        ],
        dtypes=[_text(node, "dtype", "node", i, "") for i, node in enumerate(nodes)],
        tensor_names=[_text(tensor, "name", "tensor", i, "") for i, tensor in enumerate(tensors)],
        types=[_text(tensor, "value_type", "tensor", i, "") for i, tensor in enumerate(tensors)],
        modules=[_text(node, "module", "node", i, "") for i, node in enumerate(nodes)],
        sources=[_text(node, "source", "node", i, "") for i, node in enumerate(nodes)],
    )


def _check_head(data: Any) -> None:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        got = _short(data.get("format")) if isinstance(data, dict) else type(data).__name__
        raise GraphError(f"not a graph: 'format' must be '{FORMAT}' (got {got})")
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        raise GraphError(f"'version' must be {VERSION} (got {_short(version)})")


def _short(value: Any) -> str:
    """``value`` in an error message: never long, whatever was in the file."""
    if type(value) is int and abs(value) > INT64_MAX:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        return quoted(value)
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


def _objects(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = data.get(key)
    if not isinstance(items, list):
        raise GraphError(f"'{key}' must be a list (got {_short(items)})")
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise GraphError(f"{key[:-1]} {i} must be an object (got {_short(item)})")
    return items


def _refuse_near_misses(what: str, items: Iterable[dict[str, Any]], known: tuple[str, ...]) -> None:
    unknown: set[str] = set()
    expected = set(known)
    for item in items:
        if not item.keys() <= expected:
            unknown.update(key for key in item.keys() - expected if isinstance(key, str))
    for key in sorted(unknown)[:100]:
        if difflib.get_close_matches(key, known, n=1, cutoff=0.8):
            raise GraphError(unknown_name(f"{what} key", key, known))


def _text(item: dict[str, Any], key: str, what: str, index: int, default: str | None = None) -> str:
    value = item.get(key, default)
    if not isinstance(value, str):
        raise GraphError(f"{what} {index}: '{key}' must be a string (got {_short(value)})")
    return value


def _indices(node: dict[str, Any], key: str, name: str, what: str, count: int) -> list[int]:
    row = node.get(key, [] if key == "after" else None)
    if not isinstance(row, list):
        raise GraphError(f"node {quoted(name)}: '{key}' must be a list (got {_short(row)})")
    for index in row:
        if type(index) is not int:
            raise GraphError(f"node {quoted(name)}: '{key}' must hold integers (got {_short(index)})")
        if not 0 <= index < count:
            raise GraphError(f"node {quoted(name)}: '{key}' names {what} {_short(index)}, but there are {count}")
    return row


def _writers(names: list[str], nodes: list[dict[str, Any]], count: int) -> list[int]:
    writer = [-1] * count
    for i, node in enumerate(nodes):
        for tensor in _indices(node, "writes", names[i], "tensor", count):
            if writer[tensor] >= 0:
                both = f"node {quoted(names[writer[tensor]])} and node {quoted(names[i])}"
                raise GraphError(f"tensor {tensor} has two writers, {both}")
            writer[tensor] = i
    return writer


def read_count(item: dict[str, Any], key: str, what: str, name: str | int, default: int | None = None) -> int:
    """A byte count of ``item``; the error names ``what`` it belongs to: ``node 'conv'`` or ``tensor 3``."""
    value = item.get(key, default)
    if type(value) is not int or not 0 <= value <= INT64_MAX:
        label = quoted(name) if isinstance(name, str) else name
        raise GraphError(f"{what} {label}: '{key}' must be an integer from 0 to 2**63 - 1 (got {_short(value)})")
    return value


def _kind(tensor: dict[str, Any], index: int) -> int:
    kind = tensor.get("kind", "temporary")
    if not isinstance(kind, str):
        raise GraphError(f"tensor {index}: 'kind' must be a string (got {_short(kind)})")
    if kind not in KINDS:
        raise GraphError(f"tensor {index}: {unknown_name('kind', kind, KINDS)}")
    return KINDS[kind]


def _numbers(names: list[str], nodes: list[dict[str, Any]], key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    pairs = zip(names, nodes, strict=True)
    return np.array([read_number(node.get(key, 0.0), "node", name, key) for name, node in pairs], np.float64)


def read_number(value: Any, what: str, name: str, key: str) -> float:
    """``value`` as a float; whether it is finite and not negative is for :class:`Graph` to say."""
    try:
        if type(value) in (int, float):
            return float(value)
    except OverflowError:
        pass
    raise GraphError(f"{what} {quoted(name)}: '{key}' must be a finite number (got {_short(value)})")
