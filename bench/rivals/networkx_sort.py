"""networkx's own topological order of the nodes' precedences: what one gets without thinking of memory."""

import networkx as nx
import numpy as np

from graphs import Graph, Order
from graphs.cost import Objective


def networkx_sort(graph: Graph, objective: Objective, *, seconds: float, seed: int) -> Order:  # noqa: ARG001
    """``networkx.topological_sort``, int32[n]: generation after generation, in the program's order within each."""
    arcs = nx.DiGraph()
    arcs.add_nodes_from(range(graph.n))
    arcs.add_edges_from(graph.edges.T.tolist())
    return np.array(list(nx.topological_sort(arcs)), np.int32)


def missing() -> str:
    """Never anything: networkx is one of the package's own dependencies."""
    return ""
