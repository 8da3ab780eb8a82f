"""What the network is told of each node; renumbering the nodes renumbers the rows and changes nothing else."""

import numpy as np
import numpy.typing as npt

from graphs import Graph, Kind
from graphs.csr import CSR, Int32Array, transposed
from graphs.memory import memory_model
from topoformer.net.relations import Bits, ancestor_bits

VERSION = 1  # of what follows and of the dynamic features: weights of another version do not fit
ROUNDS = 4  # of hashing the surroundings; nodes that look alike that far are taken for equal
FEATURES = (
    "bytes allocated", "their logarithm", "bytes gone with the step", "bytes kept",
    "bytes read", "bytes freed if the last reader", "bytes that it alone reads", "bytes by readers",
    "net change at first", "net change at best", "readers of what it writes",
    "predecessors", "successors", "nodes before", "nodes after", "slack",
    "ancestors", "descendants", "incomparable",
    "live if early", "live if late", "live late less early",
    "nodes of the graph", "edges a node", "mean bytes",
)  # fmt: skip

Features = npt.NDArray[np.float32]  # float32[n, len(FEATURES)]


def _scaled(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Values over the largest of their absolutes."""
    array = np.asarray(values, np.float64)
    return array / max(float(np.abs(array).max(initial=0.0)), 1e-9)


def features(graph: Graph, bits: Bits | None = None) -> Features:
    """Features of the nodes, each over its maximum in the graph but for the last three; O(n (n + entries))."""
    from topoformer.net import _encode_kernels as kernels

    n, count = graph.n, max(graph.n, 1)
    known = ancestor_bits(graph) if bits is None else bits
    steps = memory_model(graph).steps
    node = np.repeat(np.arange(n), np.diff(steps.ptr))
    size, uses = steps.size[steps.idx].astype(np.float64), steps.uses[steps.idx]
    unit = max(float(steps.alloc.max(initial=0)), 1.0)
    alloc, drop = steps.alloc.astype(np.float64), steps.drop.astype(np.float64)
    freed = np.bincount(node, size, n)
    alone = np.bincount(node, size * (uses == 1), n)
    written = np.flatnonzero(graph.writer >= 0)
    kept_bytes = np.bincount(graph.writer[written], (graph.size * (graph.kind == Kind.OUTPUT))[written], n)
    readers = np.bincount(graph.writer[written], steps.uses[written], n)
    read = np.bincount(graph.reads.row_of, graph.size[graph.reads.idx], n)
    depth, height = kernels.longest_paths(*graph.preds), kernels.longest_paths_on(*graph.succs)
    before, after = kernels.relatives(known)
    rows = transposed(CSR(steps.ptr, steps.idx), graph.k)
    early, late = kernels.live_around(known, graph.writer, graph.size, graph.kind == Kind.OUTPUT, *rows)
    highest = max(float(early.max(initial=0)), float(late.max(initial=0)), 1.0)
    longest = max(float((depth + height).max(initial=0)), 1.0)
    columns = [
        alloc / unit, np.log1p(alloc) / np.log1p(unit), drop / unit, kept_bytes / unit,
        _scaled(read), _scaled(freed), _scaled(alone), _scaled(np.bincount(node, size / np.maximum(uses, 1), n)),
        (alloc - drop - alone) / unit, (alloc - drop - freed) / unit, _scaled(readers),
        _scaled(graph.preds.lengths), _scaled(graph.succs.lengths),
        depth / longest, height / longest, 1.0 - (depth + height) / longest,
        before / count, after / count, 1.0 - (before + after + 1) / count,
        early / highest, late / highest, (late - early) / highest,
        np.full(n, np.log(count) / 10), np.full(n, len(graph.preds.idx) / (10 * count)),
        np.full(n, alloc.sum() / (count * unit)),
    ]  # fmt: skip
    # Some graphs have values far out of what is usual (a node read by all): they must not drown the rest.
    found: Features = np.clip(np.stack(columns, axis=1), -4.0, 4.0).astype(np.float32)
    return found


def canonical_ranks(graph: Graph) -> Int32Array:
    """int32[n] that order the nodes whatever their numbers: equal only for nodes with like surroundings; O(n + m)."""
    from topoformer.net import _encode_kernels as kernels

    steps = memory_model(graph).steps
    freed = np.bincount(np.repeat(np.arange(graph.n), np.diff(steps.ptr)), steps.size[steps.idx], graph.n)
    own = (steps.alloc.astype(np.uint64) << np.uint64(1)) ^ (steps.drop.astype(np.uint64) << np.uint64(21))
    own ^= freed.astype(np.uint64) << np.uint64(42)
    hashes = kernels.colours(own, *graph.preds, *graph.succs, ROUNDS)
    return np.unique(hashes, return_inverse=True)[1].astype(np.int32)
