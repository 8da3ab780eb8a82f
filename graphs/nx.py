"""Graphs as networkx directed graphs, and back."""

from typing import Any

import networkx as nx
import numpy as np

from graphs.errors import GraphError, cycle_text, quoted
from graphs.graph import Graph
from graphs.json_format import NODE_KEYS, graph_from_json, graph_to_json, read_count, read_number


def to_networkx(graph: Graph) -> "nx.DiGraph[str]":
    """``graph`` as a DiGraph over its labels that :func:`from_networkx` turns back into the same graph.

    Nodes carry the keys of graph JSON (``op``, ``reads``, ``writes``, ...), the graph carries ``name`` and ``tensors``.
    An edge (u, v) means "u before v" and carries ``bytes``, the size of what v reads of u (0: ordering only).

    Example:
        >>> from graphs import Graph, from_networkx, to_networkx
        >>> graph = Graph.build("g", "abc", [[], [0], [0]], [0, 1, 2], [4, 2, 1], after=[(1, 2)])
        >>> digraph = to_networkx(graph)
        >>> sorted(digraph.edges(data="bytes"))
        [('a', 'b', 4), ('a', 'c', 4), ('b', 'c', 0)]
        >>> from_networkx(digraph).fingerprint == graph.fingerprint
        True
    """
    data = graph_to_json(graph)
    result: nx.DiGraph[str] = nx.DiGraph(name=graph.name, tensors=data["tensors"])
    for node in data["nodes"]:
        result.add_node(node["name"], **{key: value for key, value in node.items() if key != "name"})
    result.add_edges_from(((graph.labels[u], graph.labels[v]) for u, v in graph.edges.T.tolist()), bytes=0)
    for v, row in enumerate(data["nodes"]):
        for tensor in row["reads"]:
            if (u := int(graph.writer[tensor])) >= 0:
                result.edges[graph.labels[u], graph.labels[v]]["bytes"] += int(graph.size[tensor])
    return result


def from_networkx(digraph: "nx.DiGraph[Any]", *, size: str = "bytes", name: str | None = None) -> Graph:
    """Turn a networkx directed graph into a Graph.

    Either ``digraph`` came from :func:`to_networkx`, or it is a plain weighted one: each node allocates one tensor of
    as many bytes as its attribute ``size`` says, read by its successors. A node's attribute ``kind`` may be
    ``"output"`` (kept to the end); without it the tensor is freed after its last reader. ``op``, ``scratch_bytes``,
    ``flops``, ``seconds``, ``moved_bytes``, ``dtype``, ``module`` are taken over; an edge with ``bytes=0`` orders
    without holding memory.
    The program order is the order in which nodes were added where that is legal, else ``networkx.topological_sort``.

    Args:
        digraph: not changed.
        size: the attribute of a plain digraph's nodes that holds the bytes of their tensors.
        name: of the graph; by default the digraph's own, or "graph".

    Raises:
        GraphError: a cycle, a multigraph, an undirected graph, a missing or bad attribute, an edge of a digraph from
            :func:`to_networkx` that its nodes' ``reads`` and ``after`` do not ask for; names the node.

    Example:
        >>> import networkx as nx
        >>> from graphs import from_networkx
        >>> digraph = nx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
        >>> nx.set_node_attributes(digraph, {"a": 4, "b": 2, "c": 2, "d": 1}, "bytes")
        >>> from_networkx(digraph, name="diamond")
        <Graph 'diamond': 4 nodes, 4 tensors (4 temporary), 4 edges, writes 9 B, resident 0 B>
    """
    if not isinstance(digraph, nx.DiGraph) or digraph.is_multigraph():
        raise GraphError(f"'digraph' must be a networkx.DiGraph (got {type(digraph).__name__})")
    if "tensors" in digraph.graph:
        return _from_own(digraph, name)
    nodes = _program_order(digraph)
    index = {node: i for i, node in enumerate(nodes)}
    rows = [_plain_node(digraph, node, index) for node in nodes]
    tensors = [{"bytes": _size(digraph, node, size), "kind": _kind(digraph, node)} for node in nodes]
    title = name if name is not None else str(digraph.graph.get("name", "") or "graph")
    return graph_from_json(
        {"format": "topoformer.graph", "version": 1, "name": title, "nodes": rows, "tensors": tensors}
    )


def _from_own(digraph: "nx.DiGraph[Any]", name: str | None) -> Graph:
    title = name if name is not None else digraph.graph.get("name", "graph")
    nodes = [{**attributes, "name": node} for node, attributes in digraph.nodes(data=True)]
    data = {"format": "topoformer.graph", "version": 1, "name": title, "nodes": nodes}
    graph = graph_from_json(data | {"tensors": digraph.graph["tensors"]})
    wanted = {(graph.labels[u], graph.labels[v]) for u, v in graph.edges.T.tolist()}
    for u, v in sorted(wanted.symmetric_difference(digraph.edges)):
        where = "in 'reads' and 'after', but not in the digraph" if (u, v) in wanted else "in the digraph only"
        raise GraphError(f"edge {quoted(u)} -> {quoted(v)} is {where}")
    return graph


def _program_order(digraph: "nx.DiGraph[Any]") -> list[Any]:
    nodes = list(digraph)
    index = {node: i for i, node in enumerate(nodes)}
    if all(index[u] < index[v] for u, v in digraph.edges):
        return nodes
    try:
        return list(nx.topological_sort(digraph))
    except nx.NetworkXUnfeasible:
        raise GraphError(cycle_text([u for u, *_ in nx.find_cycle(digraph)])) from None


def _plain_node(digraph: "nx.DiGraph[Any]", node: Any, index: dict[Any, int]) -> dict[str, Any]:
    attributes = digraph.nodes[node]
    own = ("name", "reads", "writes", "after")
    kept = {key: _plain(attributes[key]) for key in NODE_KEYS if key in attributes and key not in own}
    before = {u: _edge_bytes(digraph, u, node) for u in digraph.predecessors(node)}
    reads = [index[u] for u, count in before.items() if count != 0]
    after = [index[u] for u, count in before.items() if count == 0]
    return kept | {"name": str(node), "reads": reads, "writes": [index[node]], "after": after}


def _plain(value: Any) -> Any:
    """``value`` as JSON knows it: networkx users hold NumPy scalars."""
    return value.item() if isinstance(value, np.generic) else value


def _edge_bytes(digraph: "nx.DiGraph[Any]", u: Any, v: Any) -> float:
    return read_number(_plain(digraph.edges[u, v].get("bytes", 1)), "edge", f"{u} -> {v}", "bytes")


def _size(digraph: "nx.DiGraph[Any]", node: Any, size: str) -> int:
    if size not in digraph.nodes[node]:
        raise GraphError(f"node {quoted(node)} has no attribute {quoted(size)}")
    return read_count({size: _plain(digraph.nodes[node][size])}, size, "node", str(node))


def _kind(digraph: "nx.DiGraph[Any]", node: Any) -> str:
    kind = digraph.nodes[node].get("kind", "temporary")
    if not isinstance(kind, str) or kind not in ("temporary", "output"):
        raise GraphError(f"node {quoted(node)}: 'kind' must be 'temporary' or 'output' (got {quoted(kind)})")
    return kind
