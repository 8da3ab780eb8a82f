"""List scheduling: one loop that always runs the ready node with the smallest key; a policy is a key."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from graphs import Graph, Order, program_order
from graphs.cost import Objective
from graphs.csr import CSR
from graphs.device import Device
from graphs.latency import latency_arrays, node_seconds
from graphs.memory import memory_model

Keys = npt.NDArray[np.number[Any]]
MOST = 1 << 61  # bytes that a guess may come to: twice that is an int64

SINGLE = Device("one stream", {"float32": 1.0}, bandwidth=1.0, link_bandwidth=1.0)  # where none is given


class Dynamic(IntEnum):
    """Keys that change while the order grows; the numbers are those of the kernel."""

    NONE = 0
    ARRIVAL = 1  # how many nodes became ready before this one
    NET_CHANGE = 2  # bytes that would be live after the node less those before it


@dataclass(frozen=True)
class Policy:
    """A list scheduler; calling it gives an order in O((n + m) log n).

    The ready node with the smallest key runs next, the earlier one of the program where keys are equal. ``static``
    makes keys that stay, of any numeric type, [n]; ``within_peak`` puts nodes first that do not raise the peak.
    """

    summary: str
    static: Callable[[Graph, Objective, np.random.Generator], Keys] | None = None
    dynamic: Dynamic = Dynamic.NONE
    within_peak: bool = False

    def __call__(self, graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG002
        """An order of ``graph``, int32[n]; of ``objective`` only the device counts, ``seconds`` make no difference."""
        keys = None if self.static is None else self.static(graph, objective, np.random.default_rng(seed))
        return list_schedule(graph, keys, dynamic=self.dynamic, within_peak=self.within_peak)


def list_schedule(
    graph: Graph, keys: Keys | None = None, *, dynamic: Dynamic = Dynamic.NONE, within_peak: bool = False
) -> Order:
    """Order ``graph`` by keys, [n] numbers of any type, or by a dynamic key; lower runs first among the ready nodes.

    Raises:
        ValueError: the keys are not n numbers.
    """
    from topoformer.schedulers import _kernels

    arrays = memory_model(graph).steps
    if dynamic == Dynamic.NET_CHANGE:
        ranks = arrays.alloc - arrays.drop
    elif keys is None:
        ranks = np.arange(graph.n, dtype=np.int64)
    else:
        ranks = _ranks(keys, graph.n)
    order: Order = _kernels.list_schedule(
        graph.preds.ptr, graph.succs.ptr, graph.succs.idx, *arrays, ranks, int(dynamic), within_peak
    )
    return order


def _ranks(keys: Keys, n: int) -> npt.NDArray[np.int64]:
    """Keys of any numeric type as int64[n] that compare the same way."""
    array = np.asarray(keys)
    if array.shape != (n,) or array.dtype.kind not in "iuf" or np.isnan(array).any():
        raise ValueError(f"'keys' must be {n} numbers (got {array.dtype}{list(array.shape)})")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def _program(graph: Graph, *_: Any) -> Keys:
    return program_order(graph)


def _random(graph: Graph, _: Objective, rng: np.random.Generator) -> Keys:
    return rng.permutation(graph.n)


def _step_bytes(graph: Graph, *_: Any) -> Keys:
    return memory_model(graph).steps.alloc


def _post_order_rank(graph: Graph, *_: Any) -> Keys:
    """Place in a depth-first post-order over predecessors, the ones that hold most bytes first."""
    from topoformer.schedulers import _kernels

    preds, bytes_written = graph.preds, memory_model(graph).steps.alloc - graph.scratch
    by_size = np.lexsort((preds.idx, -bytes_written[preds.idx], preds.row_of))
    rows = CSR(preds.ptr, preds.idx[by_size])
    sinks = np.flatnonzero(graph.succs.lengths == 0).astype(np.int32)
    rank = np.empty(graph.n, np.int64)
    rank[_kernels.post_order(*rows, sinks)] = np.arange(graph.n)
    return rank


def _liu_rank(graph: Graph, *_: Any) -> Keys:
    """Place in a post-order over predecessors, those first whose own peak is furthest above what stays of them."""
    from topoformer.schedulers import _kernels

    preds, steps = graph.preds, memory_model(graph).steps
    kept = steps.alloc - steps.drop
    key = kept - _kernels.cone_peaks(preds.ptr, preds.idx, kept, steps.alloc, MOST)
    by_key = np.lexsort((preds.idx, key[preds.idx], preds.row_of))
    sinks = np.flatnonzero(graph.succs.lengths == 0).astype(np.int32)
    sinks = sinks[np.argsort(key[sinks], kind="stable")]
    rank = np.empty(graph.n, np.int64)
    rank[_kernels.post_order(preds.ptr, preds.idx[by_key], sinks)] = np.arange(graph.n)
    return rank


def _minus_path_length(graph: Graph, objective: Objective, _: np.random.Generator) -> Keys:
    """Minus the longest path to the end, in seconds where the graph or the device knows them, else in nodes."""
    from graphs._latency_kernels import path_lengths

    weight = graph.seconds if graph.seconds.any() else np.ones(graph.n)
    if objective.device is not None:
        weight = node_seconds(graph, objective.device)
    lengths: Keys = path_lengths(*graph.succs, weight)
    return -lengths


program = Policy("The order of the program itself: the yardstick.", static=_program)
bfs = Policy("First ready, first run (Kahn); good where branches are narrow.", dynamic=Dynamic.ARRIVAL)
dfs = Policy("Depth-first post-order, larger inputs first; good on trees and reductions.", static=_post_order_rank)
liu = Policy(
    "Post-order of Liu (1987): the best one on trees; good on large graphs.",
    static=_liu_rank,
)
lpmf = Policy(
    "Least peak memory first (Han et al., 2006), PyTorch Inductor's greedy; good at short range.",
    dynamic=Dynamic.NET_CHANGE,
    within_peak=True,
)
net_change = Policy("Fewest bytes added first; the best plain greedy on wide graphs.", dynamic=Dynamic.NET_CHANGE)
smallest = Policy("Smallest step first; keeps large tensors for late.", static=_step_bytes)
critical_path = Policy("Longest remaining path first, for latency; costs memory.", static=_minus_path_length)
random = Policy("A random legal order from the seed: the least that any method must beat.", static=_random)


def streams(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """Earliest start first on the device's streams, then the longest path, within a memory limit."""
    from graphs._latency_kernels import path_lengths
    from topoformer.schedulers import _stream_kernels

    device = objective.device or SINGLE
    timing = latency_arrays(graph, device)
    rank = path_lengths(*graph.succs, timing.seconds)
    cap = -1 if objective.peak_limit is None else objective.peak_limit
    rows = (tuple(graph.preds), tuple(graph.succs), tuple(memory_model(graph).steps))
    work = (timing.seconds, timing.communicates, timing.streams)
    order: Order = _stream_kernels.stream_schedule(*rows, *work, rank, cap)
    return order


def oldest(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """Node whose predecessors ran earliest first: Inductor's breadth-first; good on wide graphs."""
    from topoformer.schedulers import _kernels

    order: Order = _kernels.oldest_first(*graph.preds, *graph.succs)
    return order
