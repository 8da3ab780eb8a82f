"""Orders of a graph as permutations of its few nodes that matter most: the space of a search that can try little."""

from dataclasses import dataclass

import numpy as np

from graphs import Graph, Order, inverse, simulate
from graphs.csr import CSR, Int32Array, Int64Array
from graphs.memory import memory_model

MOST_UNITS = 40  # more cost a search of tens of evaluations more than they give it
NEAR_PEAK = 2.0  # power by which a node counts less where less is alive


@dataclass(frozen=True, eq=False)
class ReducedSpace:
    """Permutations of ``m`` units, nodes of a graph, and the order of the graph that each of them stands for.

    Every node has a priority, its place in a base order. A permutation gives the units' places to the units anew; what
    a unit needs is moved forward with it, and what needs it backward. The graph is then list-scheduled by these
    priorities. The permutation 0 .. m - 1 stands for the base order itself, and any that keeps ``precedence`` for a
    legal one: of the graph's ideals those are left out that no priority of the units makes. Where the graph has no
    more than :data:`MOST_UNITS` nodes that can move at all, nothing is left out.
    """

    preds: CSR
    succs: CSR
    base: Order  # int32[n]
    units: Int32Array  # int32[m] nodes, by their place in the base order
    precedence: tuple[tuple[int, int], ...]  # pairs of units, by number: the first must come before the second

    @classmethod
    def around(cls, graph: Graph, base: Order, most: int = MOST_UNITS) -> "ReducedSpace":
        """The units that change the live bytes most and can move furthest in the ``base`` order, int32[n]."""
        units = _units(graph, base, most)
        before = _reaches(graph, units)
        pairs = tuple((int(i), int(j)) for i, j in np.argwhere(before))
        return cls(CSR(*graph.preds), CSR(*graph.succs), base.copy(), units, pairs)

    def order_of(self, permutation: Int64Array) -> Order:
        """The order, int32[n], that a permutation of units, int64[m], stands for; O((n + m) log n)."""
        n, position = len(self.base), inverse(self.base)
        key = position.astype(np.int64)
        fixed = np.zeros(n, np.bool_)
        fixed[self.units] = True
        key[self.units[permutation]] = position[self.units]
        for node in self.base.tolist():
            if not fixed[node]:
                key[node] = max(key[node], key[self.preds.row(node)].max(initial=0))
        for node in self.base[::-1].tolist():
            key[node] = min(key[node], key[self.succs.row(node)].min(initial=n))
        return _list_scheduled(self.preds, self.succs, np.lexsort((position, key)).astype(np.int32))

    def permutation_of(self, order: Order) -> Int64Array:
        """The units in the sequence in which ``order``, int32[n], runs them, int64[m]."""
        return np.argsort(inverse(order)[self.units]).astype(np.int64)


def _units(graph: Graph, base: Order, most: int) -> Int32Array:
    """Of each chain of nodes the one that changes memory most; of these, those with most bytes times room to move."""
    steps, position = memory_model(graph).steps, inverse(base)
    freed = np.zeros(graph.n, np.int64)
    np.add.at(freed, np.repeat(np.arange(graph.n), np.diff(steps.ptr)), steps.size[steps.idx])
    weight = (steps.alloc + freed).astype(np.float64) + 1.0
    first, last = np.zeros(graph.n, np.int64), np.full(graph.n, graph.n - 1, np.int64)
    for node in range(graph.n):  # program order is legal
        first[node] = position[graph.preds.row(node)].max(initial=-1) + 1
    for node in range(graph.n):
        last[node] = position[graph.succs.row(node)].min(initial=graph.n) - 1
    ancestors, descendants = _cone(graph.preds, range(graph.n)), _cone(graph.succs, range(graph.n - 1, -1, -1))
    room = np.maximum(graph.n - 1 - ancestors - descendants, last - first)
    chain = _chains(graph)
    step_bytes = simulate(graph, base).step_bytes
    near = (step_bytes / max(int(step_bytes.max(initial=0)), 1)) ** NEAR_PEAK
    score = weight * room * near[position]
    best: dict[int, int] = {}
    for node in np.argsort(-score, kind="stable").tolist():
        if room[node] > 0:
            best.setdefault(int(chain[node]), node)
    chosen = list(best.values())
    if len(chosen) < most:  # there is room for all that can move
        chosen += [node for node in np.argsort(-score, kind="stable").tolist() if room[node] > 0 and node not in chosen]
    units = np.array(chosen[:most], np.int32)
    return units[np.argsort(position[units])]


def _chains(graph: Graph) -> Int32Array:
    """Number of each node's chain, int32[n]: nodes of which each is all that follows one, and follows nothing else."""
    chain = np.arange(graph.n, dtype=np.int32)
    for node in range(graph.n):
        before = graph.preds.row(node)
        if len(before) == 1 and len(graph.succs.row(int(before[0]))) == 1:
            chain[node] = chain[before[0]]
    return chain


def _cone(rows: CSR, sequence: "range") -> Int64Array:
    """How many nodes can be reached along ``rows`` from each, int64[n]; O(n^2 / 64 + m) with sets as integers."""
    reached = [0] * (len(rows.ptr) - 1)
    counts = np.zeros(len(reached), np.int64)
    for node in sequence:
        found = 0
        for other in rows.row(node).tolist():
            found |= reached[other] | (1 << other)
        reached[node] = found
        counts[node] = found.bit_count()
    return counts


def _reaches(graph: Graph, units: Int32Array) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Whether unit i must run before unit j, bool[m, m]."""
    before = np.zeros((len(units), len(units)), np.bool_)
    carried = np.zeros((graph.n, len(units)), np.bool_)  # which units come before each node
    number = {int(node): i for i, node in enumerate(units)}
    for node in range(graph.n):
        rows = graph.preds.row(node)
        if len(rows):
            carried[node] = carried[rows].any(axis=0)
        if node in number:
            before[:, number[node]] = carried[node]
            carried[node, number[node]] = True
    return before


def _list_scheduled(preds: CSR, succs: CSR, ranked: Int32Array) -> Order:
    """Of the ready nodes always the one that stands first in ``ranked``, int32[n]."""
    import heapq

    rank = inverse(ranked).tolist()
    waits = preds.lengths.tolist()
    ready = [rank[node] for node, count in enumerate(waits) if count == 0]
    heapq.heapify(ready)
    order = np.empty(len(ranked), np.int32)
    for t in range(len(ranked)):
        node = int(ranked[heapq.heappop(ready)])
        order[t] = node
        for other in succs.row(node).tolist():
            waits[other] -= 1
            if waits[other] == 0:
                heapq.heappush(ready, rank[other])
    return order
