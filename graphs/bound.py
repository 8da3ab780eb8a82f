"""Certified lower bounds: no legal order of the graph has a lower peak."""

import numpy as np

from graphs.graph import Graph, Kind
from graphs.memory import memory_model


def footprint_bound(graph: Graph) -> int:
    """The largest working set of one node, or what must be live at the ends of the order; O(n + m).

    Whatever the order, a node's step holds the tensors it reads (those that are not resident), the ones it writes and
    its scratch; the first step holds all donated tensors that are read, and the last one all outputs.
    """
    if graph.n == 0:
        return 0
    arrays = memory_model(graph).steps
    counted = np.where(np.isin(graph.kind, (Kind.INPUT, Kind.WEIGHT)), 0, graph.size)
    working_set = arrays.alloc.copy()
    np.add.at(working_set, graph.reads.row_of, counted[graph.reads.idx])
    at_end = int(graph.size[graph.kind == Kind.OUTPUT].sum())
    return max(int(working_set.max()), arrays.start, at_end)
