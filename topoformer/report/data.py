"""What the page's script draws from: steps, tensors and nodes as columns, cut down to what a page can hold."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graphs import Order, program_order, simulate
from graphs.csr import Int32Array, Int64Array
from graphs.graph import Graph, Kind, inverse
from graphs.memory import MemoryProfile, lifetimes
from topoformer.report._kernels import first_fit
from topoformer.report.columns import Columns, columns_of
from topoformer.report.device_data import device_data
from topoformer.report.words import same_order
from topoformer.result import Schedule
from topoformer.text import place, printable

MOST_ITEMS = 40_000
NAME_LENGTH = 240
KINDS = (*(kind.name.lower() for kind in Kind), "scratch")


class Strings:
    """Texts by number, each of them kept once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def numbered(self, texts: Iterable[str]) -> Int32Array:
        """The number of each text, int32[len(texts)]."""
        numbers = self.numbers
        return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int32)

    def shown(self) -> list[str]:
        """All of them by number, safe to show."""
        return [printable(text, NAME_LENGTH) for text in self.numbers]


class Items(NamedTuple):
    """What takes memory for some steps: tensors, and scratch of nodes as the last kind of them."""

    tensor: Int64Array  # int64[i], ascending; k + node for the scratch of a node
    size: Int64Array
    left_out: int  # how many there are beside these


def items_of(graph: Graph, profiles: list[MemoryProfile]) -> Items:
    """The largest of what takes memory, and before these what is alive at a peak."""
    first, last = lifetimes(graph, profiles[0].order)
    tensor = np.concatenate([np.flatnonzero(first < last), graph.k + np.flatnonzero(graph.scratch > 0)])
    size = np.concatenate([graph.size, graph.scratch])[tensor]
    if len(tensor) <= MOST_ITEMS:
        return Items(tensor, size, 0)
    at_peak = np.zeros(len(tensor), np.bool_)
    for profile in profiles:
        begin, end = _lives(graph, profile.order, tensor)
        at_peak |= (begin <= profile.peak_step) & (profile.peak_step < end)
    kept = np.sort(np.lexsort((-size, ~at_peak))[:MOST_ITEMS])
    return Items(tensor[kept], size[kept], len(tensor) - MOST_ITEMS)


def _lives(graph: Graph, order: Order, tensor: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Half-open steps of each item, int64[i] both."""
    first, last = lifetimes(graph, order)
    position = inverse(order)
    begin, end = np.concatenate([first, position]), np.concatenate([last, position + 1])
    return begin[tensor].astype(np.int64), end[tensor].astype(np.int64)


def report_data(result: Schedule) -> dict[str, Any]:
    """The page's data, for :func:`topoformer.report.container.packed`; O(n + m) and a layout of the items kept."""
    graph = result.graph
    profiles = [result.profile] if same_order(result) else [simulate(graph, program_order(graph)), result.profile]
    items = items_of(graph, profiles)
    columns = [columns_of(profile.step_bytes) for profile in profiles]
    owner = np.concatenate([graph.writer, np.arange(graph.n, dtype=np.int32)])[items.tensor].astype(np.int64)
    shown = [profile.order[column.step] for profile, column in zip(profiles, columns, strict=True)]
    device = device_data(result)
    timelines = device["latency"]["orders"] if "latency" in device else []
    nodes = np.unique(np.concatenate([owner[owner >= 0], *shown, *(timeline["node"] for timeline in timelines)]))
    for timeline in timelines:
        timeline["node"] = rows_of(nodes, timeline["node"])
    strings = Strings()
    return {
        **device,
        "steps": graph.n,
        "bound": result.bound_bytes,
        "optimal": result.proven_optimal,
        "left_out": items.left_out,
        "kinds": list(KINDS),
        "edges": columns[0].edges.astype(np.int32),
        "nodes": _node_columns(graph, nodes, strings),
        "items": _item_columns(graph, items, owner, nodes, strings),
        "orders": [
            _order_columns(result, profile, column, items, nodes)
            for profile, column in zip(profiles, columns, strict=True)
        ],
        "strings": strings.shown(),  # the last, when all are known
    }


def _node_columns(graph: Graph, nodes: Int64Array, strings: Strings) -> dict[str, Int32Array]:
    parts = {"label": graph.labels, "op": graph.ops, "module": graph.modules, "source": graph.sources}
    columns = {name: [texts[node] for node in nodes.tolist()] for name, texts in parts.items()}
    columns["source"] = [place(source, NAME_LENGTH) for source in columns["source"]]
    return {name: strings.numbered(texts) for name, texts in columns.items()}


def _item_columns(
    graph: Graph, items: Items, owner: Int64Array, nodes: Int64Array, strings: Strings
) -> dict[str, npt.NDArray[Any]]:
    tensors = items.tensor.tolist()
    names = [_name(graph, tensor) for tensor in tensors]
    types = [graph.types[tensor] if tensor < graph.k else "" for tensor in tensors]
    kinds = [graph.kind[tensor] if tensor < graph.k else len(KINDS) - 1 for tensor in tensors]
    return {
        "name": strings.numbered(names),
        "type": strings.numbered(types),
        "kind": np.array(kinds, np.int32),
        "bytes": items.size,
        "node": rows_of(nodes, owner),
    }


def rows_of(nodes: Int64Array, wanted: npt.NDArray[np.integer]) -> Int32Array:
    """The place of each of ``wanted`` in the sorted ``nodes``, int32[len(wanted)]; -1 where it is not among them."""
    if not len(nodes):
        return np.full(len(wanted), -1, np.int32)
    place = np.minimum(np.searchsorted(nodes, wanted), len(nodes) - 1)
    return np.where(nodes[place] == wanted, place, -1).astype(np.int32)


def _name(graph: Graph, tensor: int) -> str:
    if tensor >= graph.k:
        return f"scratch of {graph.labels[tensor - graph.k]}"
    writer = int(graph.writer[tensor])
    return graph.tensor_names[tensor] or (graph.labels[writer] if writer >= 0 else "") or f"tensor {tensor}"


def _order_columns(
    result: Schedule, profile: MemoryProfile, columns: Columns, items: Items, nodes: Int64Array
) -> dict[str, Any]:
    first, last = _lives(result.graph, profile.order, items.tensor)
    planned = "arena" in result.__dict__ and profile is result.profile
    offset = _planned(result, items) if planned else _stacked(first, last, items.size)
    return {
        "name": "new" if profile is result.profile and not same_order(result) else "program",
        "peak": profile.peak_bytes,
        "peak_step": profile.peak_step,
        "bytes": columns.bytes,
        "step": columns.step.astype(np.int32),
        "node": rows_of(nodes, profile.order[columns.step]),
        "first": first.astype(np.int32),
        "last": last.astype(np.int32),
        "offset": offset,
        "height": int((offset + items.size).max(initial=0)),
        "planned": planned,
    }


def _planned(result: Schedule, items: Items) -> Int64Array:
    arena = result.arena
    places: Int64Array = np.concatenate([arena.offset, arena.scratch_offset])[items.tensor]
    return places


def _stacked(first: Int64Array, last: Int64Array, size: Int64Array) -> Int64Array:
    """A place for each item, int64[i]; of those that begin in one step the largest comes first."""
    offset = np.zeros(len(size), np.int64)
    by_start = np.lexsort((-size, first))
    by_start = by_start[size[by_start] > 0]
    offset[by_start] = first_fit(first[by_start], last[by_start], size[by_start])
    return offset
