"""Static memory planning: a place in one arena for each tensor of an order, so that no two that are live at once meet.

The peak of an order is what a perfect allocator takes; an arena takes more where lifetimes do not nest. To find the
smallest arena is dynamic storage allocation (NP-hard). :func:`pack` works on bare buffers, :func:`plan` on a graph.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from graphs import _validate
from graphs.csr import Int32Array, Int64Array
from graphs.errors import GraphError, quoted, unknown_name
from graphs.graph import FREED_KINDS, Graph, Order, check_order, inverse, program_order
from graphs.memory import lifetimes, peak_bytes

if TYPE_CHECKING:
    from graphs.arena_search import Clock, Part

GREEDIES = ("greedy_by_size", "best_fit", "by_breadth", "by_lifetime", "first_fit")
METHODS = (*GREEDIES, "search", "best")
ALIGNMENT_LIMIT = 1 << 40
BYTES_LIMIT = _validate.TOTAL_LIMIT


@dataclass(frozen=True, eq=False)
class Packing:
    """Offsets of buffers in one arena; made by :func:`pack`."""

    offset: Int64Array  # int64[b] bytes from the arena's start; 0 for a buffer that is empty in size or time
    bytes: int  # size of the arena, a multiple of the alignment
    bound_bytes: int  # most bytes alive at once, each size rounded up to the alignment: no arena is smaller
    least_bytes: int  # the same, raised where the search has shown that nothing smaller exists
    method: str  # what found it: a greedy's name, "descent" or "search"
    interrupted: bool  # Ctrl-C ended the search

    @property
    def proven(self) -> bool:
        """Whether no smaller arena exists."""
        return self.bytes == self.least_bytes


def pack(
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    size: npt.ArrayLike,
    *,
    alignment: int = 1,
    capacity: int | None = None,
    seconds: float = 1.0,
    seed: int = 0,
    method: str = "best",
    steps: int | None = None,
) -> Packing:
    """Offsets for buffers of ``size`` bytes that live during ``[lower, upper)``, int64[b] each.

    Greedies, one placing of all buffers each, O(b * overlaps * log): ``greedy_by_size``, largest first into the lowest
    gap; ``best_fit``, the same into the smallest gap that holds it (both: Pisarchyk and Lee, arXiv:2001.03288);
    ``by_breadth``, first those alive when most is; ``by_lifetime``, longest first; ``first_fit``, in time order.
    ``search`` improves the first of them until ``seconds`` are over, ``steps`` (placed buffers and nodes of a tree)
    are spent, the bound is met, or nothing smaller exists; ``best`` tries the other greedies before that. The search
    is exact where it has time to end, restarted at random by ``seed`` where not, and the same for the same arguments
    where ``steps`` end it. Ctrl-C ends it with the best so far.

    Args:
        alignment: bytes, a power of two; every offset is a multiple of it.
        capacity: bytes; an arena that takes no more is good enough.

    Raises:
        ValueError: an argument is out of range; names it.
    """
    from graphs.arena_search import Clock, parts_of

    starts, ends, sizes = _buffers(lower, upper, size)
    _check_options(alignment, capacity, seconds, method, steps)
    rounded = _round_up(sizes, alignment)
    if sum(rounded.tolist()) > BYTES_LIMIT:
        raise ValueError(f"'size' must add up to at most 2**62 bytes (got {sum(rounded.tolist())})")
    clock = Clock(seconds, steps)
    offset = np.zeros(len(sizes), np.int64)
    rows = np.flatnonzero((rounded > 0) & (starts < ends))
    name, bound, least, unit = GREEDIES[0] if method in ("search", "best") else method, 0, 0, 1
    if len(rows):
        unit = int(np.gcd.reduce(rounded[rows]))
        parts = parts_of(starts[rows], ends[rows], rounded[rows] // unit)
        bound = max(part.floor for part in parts)
        _pack_parts(parts, method, -1 if capacity is None else capacity // unit, seed, clock)
        for part in parts:
            offset[rows[part.rows]] = part.offset * unit
        name = max(parts, key=lambda part: part.units).method
        least = max(part.floor for part in parts)
    offset.flags.writeable = False
    total = int((offset[rows] + rounded[rows]).max(initial=0))
    return Packing(offset, total, bound * unit, least * unit, name, clock.interrupted)


def _pack_parts(parts: list["Part"], method: str, goal: int, seed: int, clock: "Clock") -> None:
    """Give each part the offsets that ``method`` finds; ``goal`` units are good enough."""
    from graphs.arena_search import search

    first = method if method in GREEDIES else GREEDIES[0]
    for part in parts:
        part.greedy(first)

    def improve() -> None:
        if method == "best":
            for part in parts:
                for name in GREEDIES[1:]:
                    if part.units > max(goal, part.floor) and not clock.late:
                        part.greedy(name)
        if method in ("best", "search"):
            search(parts, goal, seed, clock)

    clock.until_interrupted(improve)


def _buffers(lower: npt.ArrayLike, upper: npt.ArrayLike, size: npt.ArrayLike) -> tuple[Int64Array, ...]:
    columns = {"lower": lower, "upper": upper, "size": size}
    starts, ends, sizes = (_validate.integers(name, column, np.int64) for name, column in columns.items())
    for name, column in (("upper", ends), ("size", sizes)):
        if column.ndim != 1 or column.shape != starts.shape:
            raise ValueError(f"'{name}' must be int64[{len(starts)}] as 'lower' is (got shape {list(column.shape)})")
    bad = np.flatnonzero(ends < starts)
    if len(bad):
        raise ValueError(
            f"buffer {bad[0]} lives during [{starts[bad[0]]}, {ends[bad[0]]}), which ends before it starts"
        )
    bad = np.flatnonzero((sizes < 0) | (sizes > BYTES_LIMIT))
    if len(bad):
        raise ValueError(f"buffer {bad[0]} has {sizes[bad[0]]} bytes; bytes must be between 0 and 2**62")
    return starts, ends, sizes


def _check_options(alignment: int, capacity: int | None, seconds: float, method: str, steps: int | None) -> None:
    if not 0 < alignment <= ALIGNMENT_LIMIT or alignment & (alignment - 1):
        text = "a power of two" if alignment <= ALIGNMENT_LIMIT else "at most 2**40"
        raise ValueError(f"'alignment' must be {text} (got {alignment})")
    for name, value in (("capacity", capacity), ("seconds", seconds), ("steps", steps)):
        if value is not None and not value >= 0:
            raise ValueError(f"'{name}' must not be negative (got {value})")
    if method not in METHODS:
        raise ValueError(unknown_name("method", method, METHODS))


def _round_up(size: Int64Array, alignment: int) -> Int64Array:
    rounded: Int64Array = (size + (alignment - 1)) & -alignment
    return rounded


@dataclass(frozen=True, eq=False)
class ArenaPlan:
    """Where each tensor of one order of ``graph`` lies in an arena; made by :func:`plan`."""

    graph: Graph
    order: Order
    offset: Int64Array  # int64[k] bytes; -1 for a tensor without a place: resident, or donated and read by nobody
    scratch_offset: Int64Array  # int64[n] bytes, of each node's scratch; -1 where it has none
    arena_bytes: int
    bound_bytes: int  # peak of the sizes rounded up to ``alignment``, tensors that share a place counted once
    least_bytes: int  # the same, raised where the search has shown that nothing smaller exists
    peak_bytes: int  # of the order, as graphs.peak_bytes says: neither rounded nor in place
    alignment: int
    in_place: frozenset[str]  # operators that were allowed to write over an input
    method: str
    interrupted: bool

    @property
    def proven(self) -> bool:
        """Whether no smaller arena exists for this order."""
        return self.arena_bytes == self.least_bytes


def plan(
    graph: Graph,
    order: npt.ArrayLike | None = None,
    *,
    alignment: int = 64,
    seconds: float = 1.0,
    seed: int = 0,
    in_place: Set[str] = frozenset(),
    capacity: int | None = None,
    steps: int | None = None,
) -> ArenaPlan:
    """Place the tensors and scratch of ``order`` (int[n]; default: the program's own) in one arena.

    Args:
        in_place: names of operators that may write their one output over an input of the same rounded size that
            nobody needs afterwards; both then share a place.

    Other arguments are those of :func:`pack`.

    Raises:
        GraphError: the order is not legal; names the nodes.
        ValueError: an argument is out of range; names it.
    """
    _check_options(alignment, capacity, seconds, "best", steps)
    checked = program_order(graph) if order is None else check_order(graph, order)
    first, last = lifetimes(graph, checked)
    heir = _heirs(graph, checked, last, alignment, frozenset(in_place))
    holder = np.arange(graph.k)
    for tensor in np.argsort(first, kind="stable"):  # writers before those that write over them
        if heir[tensor] >= 0:
            holder[heir[tensor]] = holder[tensor]
    ends = last.astype(np.int64)
    np.maximum.at(ends, holder, last)
    live = first < last
    held = np.flatnonzero(live & (holder == np.arange(graph.k)))
    nodes = np.flatnonzero(graph.scratch > 0)
    step = inverse(checked)[nodes].astype(np.int64)
    packing = pack(
        np.concatenate([first[held].astype(np.int64), step]),
        np.concatenate([ends[held], step + 1]),
        np.concatenate([graph.size[held], graph.scratch[nodes]]),
        alignment=alignment, capacity=capacity, seconds=seconds, seed=seed, steps=steps,
    )  # fmt: skip
    offset, scratch_offset = np.full(graph.k, -1, np.int64), np.full(graph.n, -1, np.int64)
    offset[held] = packing.offset[: len(held)]
    offset = np.where(live, offset[holder], -1)
    scratch_offset[nodes] = packing.offset[len(held) :]
    for array in (checked, offset, scratch_offset):
        array.flags.writeable = False
    return ArenaPlan(
        graph, checked, offset, scratch_offset, packing.bytes, packing.bound_bytes, packing.least_bytes,
        peak_bytes(graph, checked), alignment, frozenset(in_place), packing.method, packing.interrupted,
    )  # fmt: skip


def _heirs(graph: Graph, order: Order, last: Int32Array, alignment: int, in_place: frozenset[str]) -> Int32Array:
    """For each tensor the one that is written over it, or -1; int32[k]."""
    heir = np.full(graph.k, -1, np.int32)
    if not in_place:
        return heir
    rounded = [-(-size // alignment) for size in graph.size.tolist()]
    for step, node in enumerate(order.tolist()):
        written = graph.writes.row(node)
        if graph.ops[node] not in in_place or len(written) != 1:
            continue
        for tensor in graph.reads.row(node).tolist():
            ends_here = graph.kind[tensor] in FREED_KINDS and last[tensor] == step + 1
            if ends_here and rounded[tensor] == rounded[written[0]] > 0:
                heir[tensor] = written[0]
                break
    return heir


def check_plan(plan: ArenaPlan) -> None:
    """Check a plan without trust in what made it: a sweep over the steps; O((k + n) * live).

    Raises:
        GraphError: two tensors that are live at once overlap, or one is not aligned, not in the arena, or has no
            place; names them.
    """
    from bisect import bisect_left, insort

    graph, order = plan.graph, plan.order
    first, last = lifetimes(graph, check_order(graph, order))
    heir = _heirs(graph, order, last, plan.alignment, plan.in_place)
    _check_places(plan, first < last)
    starts: list[list[int]] = [[] for _ in range(graph.n + 1)]
    for tensor in np.flatnonzero((first < last) & (graph.size > 0)).tolist():
        starts[first[tensor]].append(tensor)
    live: list[tuple[int, int, int]] = []  # (offset, end, tensor, or ~node for scratch), by offset
    for step, node in enumerate(order.tolist()):
        live = [entry for entry in live if entry[2] >= 0 and last[entry[2]] > step]
        fresh = [(int(plan.offset[t]), int(plan.offset[t] + graph.size[t]), t) for t in starts[step]]
        if graph.scratch[node] > 0:
            start = int(plan.scratch_offset[node])
            fresh.append((start, start + int(graph.scratch[node]), ~node))
        for entry in fresh:
            given = [old for old in live if old[2] >= 0 and heir[old[2]] == entry[2] and old[0] == entry[0]]
            for old in given:  # the node writes over it, and has read it by then
                live.remove(old)
            at = bisect_left(live, entry)
            for other in live[max(0, at - 1) : at + 1]:
                if other[0] < entry[1] and entry[0] < other[1]:
                    raise GraphError(
                        f"{_named(graph, other[2])} and {_named(graph, entry[2])} are both live at step {step} and "
                        f"overlap: bytes {other[0]} to {other[1]} and {entry[0]} to {entry[1]}"
                    )
            insort(live, entry)


def _check_places(plan: ArenaPlan, live: npt.NDArray[np.bool_]) -> None:
    """Each tensor and scratch has a place if and only if it is to have one, aligned and in the arena."""
    graph = plan.graph
    for wanted, offset, size, scratch in (
        (live, plan.offset, graph.size, False),
        (graph.scratch > 0, plan.scratch_offset, graph.scratch, True),
    ):
        if offset.shape != wanted.shape:
            raise GraphError(
                f"the plan has {len(offset)} offsets for {len(wanted)} {'nodes' if scratch else 'tensors'}"
            )
        for i, (place, end) in enumerate(zip(offset.tolist(), (offset + size).tolist(), strict=True)):
            name = _named(graph, ~i if scratch else i)
            if not wanted[i] and place != -1:
                raise GraphError(f"{name} is not to have a place (got offset {place})")
            if wanted[i] and (place < 0 or place % plan.alignment):
                raise GraphError(f"{name} must lie at a multiple of {plan.alignment} (got offset {place})")
            if wanted[i] and end > plan.arena_bytes:
                raise GraphError(f"{name} ends at byte {end} of an arena of {plan.arena_bytes} bytes")


def _named(graph: Graph, item: int) -> str:
    """A tensor (or, for ``~node``, a node's scratch) in an error message."""
    if item < 0:
        return f"the scratch of node {quoted(graph.labels[~item])}"
    writer = int(graph.writer[item])
    name = graph.tensor_names[item] or (graph.labels[writer] if writer >= 0 else "")
    return f"tensor {item} {quoted(name)}" if name else f"tensor {item}"
