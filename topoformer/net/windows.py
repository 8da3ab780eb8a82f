"""Large graphs: stretches of an order as graphs of their own, which the network can look at whole."""

import numpy as np
import numpy.typing as npt

from graphs import Graph, Kind, MemoryProfile, Order, simulate
from graphs.csr import Int32Array, csr_from_pairs
from graphs.graph import FREED_KINDS

LARGEST = 2000  # nodes of a stretch: all pairs of them are looked at
LEAST = 1000


def stretches(profile: MemoryProfile) -> list[tuple[int, int]]:
    """Half-open steps that cut an order into stretches of LEAST to LARGEST nodes, each ended where least is live.

    Between two ideals of low live bytes the order of one stretch hardly matters to the others.
    """
    n, live = profile.graph.n, profile.live_bytes
    found, first = [], 0
    while n - first > LARGEST:
        # What is left must not be shorter than LEAST, or the last stretch would have few nodes to choose from.
        low, high = first + LEAST, min(first + LARGEST, max(n - LEAST, first + LEAST + 1))
        last = low + int(live[low - 1 : high].argmin())
        found.append((first, last))
        first = last
    return [*found, (first, n)]


def stretch_graph(graph: Graph, order: Order, first: int, last: int) -> tuple[Graph, Int32Array]:
    """The steps [first, last) of ``order`` as a graph, and the graph's nodes in it, int32[last - first].

    A tensor written before and read for the last time inside is a donated one there, one that is read afterwards is
    an input or an output.
    """
    nodes = np.sort(order[first:last])
    place = np.full(graph.n, -1, np.int32)
    place[nodes] = np.arange(len(nodes), dtype=np.int32)
    position = np.empty(graph.n, np.int64)
    position[order] = np.arange(graph.n)
    readers = graph.readers
    last_read = np.full(graph.k, -1, np.int64)
    np.maximum.at(last_read, readers.row_of, position[readers.idx])
    reader, tensor = _entries(graph, place)
    written = np.flatnonzero((graph.writer >= 0) & (place[graph.writer] >= 0))
    tensors, inverse = np.unique(np.concatenate([tensor, written]), return_inverse=True)
    inside = (graph.writer[tensors] >= 0) & (place[graph.writer[tensors]] >= 0)
    freed = np.isin(graph.kind[tensors], FREED_KINDS) & (last_read[tensors] < last)
    kind = np.where(
        inside,
        np.where(freed, Kind.TEMPORARY, Kind.OUTPUT),
        np.where(freed, Kind.DONATED, Kind.INPUT),
    )
    before, after = place[graph.after[0]], place[graph.after[1]]
    both = (before >= 0) & (after >= 0)
    made = Graph.build(
        graph.name,
        (graph.labels[i] for i in nodes.tolist()),
        csr_from_pairs(reader, inverse[: len(tensor)], len(nodes)),
        np.where(inside, place[graph.writer[tensors]], -1),
        graph.size[tensors],
        kind=kind,
        after=np.stack([before[both], after[both]], axis=1),
        scratch=graph.scratch[nodes],
    )
    return made, nodes


def _entries(graph: Graph, place: Int32Array) -> tuple[Int32Array, npt.NDArray[np.int32]]:
    """(place of the reader, tensor) of all reads inside a stretch."""
    row = place[graph.reads.row_of]
    return row[row >= 0], graph.reads.idx[row >= 0]


def base_profile(graph: Graph) -> MemoryProfile:
    """The best of a few cheap orders: where large graphs are cut."""
    from graphs.cost import OBJECTIVES
    from topoformer.schedulers import list_scheduling as ls

    orders = (
        policy(graph, OBJECTIVES["memory"], seconds=1.0, seed=0) for policy in (ls.program, ls.net_change, ls.dfs)
    )
    return min((simulate(graph, order) for order in orders), key=lambda profile: profile.peak_bytes)
