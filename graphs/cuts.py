"""The minimum-cut bound: from whichever ideal a node runs, at least so many bytes are live.

Whatever the order, node v runs from an ideal S (a set of nodes closed under "must run before") that holds all of v's
ancestors, but neither v nor any of its descendants. So its step costs at least what v allocates plus the least live
bytes of any such ideal, and that least is a minimum cut with S on the source side: from each node an arc that cannot
be cut leads to each of its predecessors; a tensor is an arc of its bytes from its writer to a vertex from which arcs
that cannot be cut lead to its readers, so that it is cut just where S has the writer and lacks a reader. An output's
arc leads to the sink; a donated tensor's starts at the source. Ancestors are one with the source, v and its
descendants with the sink.
(Closures as cuts: Picard, "Maximal closure of a graph", Management Science 22, 1976.)

A flow is a certificate: :func:`graphs.bound.check_bound` adds it up, without any search.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphs.csr import Int64Array
from graphs.graph import Graph, Kind
from graphs.memory import memory_model


@dataclass(frozen=True, eq=False)
class Witness:
    """Proof that no legal order has a peak below ``bytes``: ``node`` cannot run with less.

    ``flow``, int64[a], goes through the arcs of :class:`CutNetwork` in their order; ``ideal``, bool[n], is a cheapest
    set of nodes to have run before.
    """

    bytes: int
    node: int
    ideal: npt.NDArray[np.bool_]
    flow: Int64Array


class CutNetwork:
    """The arcs of ``graph``, the same for all nodes; vertices are nodes, then tensors, then source and sink."""

    def __init__(self, graph: Graph) -> None:
        n, k = graph.n, graph.k
        self.graph = graph
        self.source, self.sink = n + k, n + k + 1
        output = (graph.kind == Kind.OUTPUT) & (graph.size > 0)
        freed = (memory_model(graph).steps.uses > 0) & (graph.size > 0)
        entry = freed[graph.reads.idx]
        from_writer = np.where(graph.writer < 0, self.source, graph.writer).astype(np.int64)
        tensor = np.arange(k) + n
        self.tail = np.concatenate(
            [graph.preds.row_of, tensor[graph.reads.idx[entry]], from_writer[freed], from_writer[output]]
        ).astype(np.int64)
        self.head = np.concatenate(
            [graph.preds.idx, graph.reads.row_of[entry], tensor[freed], np.full(output.sum(), self.sink)]
        ).astype(np.int64)
        bytes_ = np.concatenate([graph.size[freed], graph.size[output]])
        self.endless = int(bytes_.sum()) + 1  # more than any cut that can be cut
        self.capacity = np.full(len(self.tail), self.endless)
        self.capacity[len(self.tail) - len(bytes_) :] = bytes_
        self.asked: set[int] = set()  # nodes whose bound is known

    def merged(self, node: int) -> Int64Array:
        """Which vertex stands for which in the network of ``node``, int64[n + k + 2]; O(n + m)."""
        from graphs import _kernels

        vertex = np.arange(self.sink + 1)
        vertex[_kernels.reachable(*self.graph.preds, node)] = self.source
        vertex[_kernels.reachable(*self.graph.succs, node)] = self.sink
        vertex[node] = self.sink
        return vertex


def cut_witness(network: CutNetwork, node: int) -> Witness:
    """The least that ``node``'s step can cost in any order, with its proof: one maximum flow."""
    from ortools.graph.python.max_flow import SimpleMaxFlow

    graph, vertex = network.graph, network.merged(node)
    tail, head = vertex[network.tail], vertex[network.head]
    used = np.flatnonzero((tail != head) & (tail != network.sink) & (head != network.source))
    names, compact = np.unique(
        np.concatenate([[network.source, network.sink], tail[used], head[used]]), return_inverse=True
    )
    solver = SimpleMaxFlow()
    arcs = solver.add_arcs_with_capacity(
        compact[2 : 2 + len(used)].astype(np.int32), compact[2 + len(used) :].astype(np.int32), network.capacity[used]
    )
    solver.add_arc_with_capacity(int(compact[0]), int(compact[1]), 0)  # a sink without arcs would not be known to it
    status = solver.solve(int(compact[0]), int(compact[1]))
    if status != solver.OPTIMAL:
        raise ArithmeticError(f"maximum flow of node {node} ended with {status}")
    flow = np.zeros(len(network.tail), np.int64)
    flow[used] = solver.flows(arcs)
    reached = np.zeros(network.sink + 1, np.bool_)
    reached[names[solver.get_source_side_min_cut()]] = True
    ideal = reached[vertex[: graph.n]]
    ideal[vertex[: graph.n] == network.source] = True
    alloc = int(memory_model(graph).steps.alloc[node])
    return Witness(alloc + int(solver.optimal_flow()), node, ideal, flow)
