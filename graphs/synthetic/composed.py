"""Trees and series-parallel graphs: what memory-optimal orders were first proven for."""

import numpy as np

from graphs.csr import CSR, Int32Array, Int64Array
from graphs.errors import GraphError, unknown_name
from graphs.graph import Graph, Kind, inverse
from graphs.synthetic._common import generator, random_bytes, weighted_graph


def tree(nodes: int, *, seed: int = 0, direction: str = "in") -> Graph:
    """Random tree of reductions, written as users do: level by level, the deepest first.

    A random recursive tree: each node's parent is uniform among the nodes before it. The best peak of an
    in-tree is the one of Liu, An application of generalized tree pebbling to sparse matrix factorization,
    1987. The out-tree is the in-tree of the same seed run backwards, with a tensor an edge and a donated one
    for the root: node j is node ``nodes - 1 - j`` of the in-tree, and a reversed order has the same peak.

    Args:
        nodes: nodes of the graph, at least 1.
        direction: ``"in"``, from the leaves to the root, which writes an output, or ``"out"``.

    Raises:
        GraphError: too few nodes, an unknown direction.
    """
    rng = generator(nodes, 1, seed)
    if direction not in ("in", "out"):
        raise GraphError(unknown_name("direction", direction, ("in", "out")))
    parent = (rng.random(nodes) * np.arange(nodes)).astype(np.int64)  # the root, 0, is its own
    position = inverse(_deepest_first(parent))
    above = np.empty(nodes, np.int64)
    above[position] = position[parent]
    size = random_bytes(rng, nodes)
    name = f"tree_{direction}_n{nodes}_s{seed}"
    if direction == "out":
        return _out_tree(name, nodes - 1 - above[::-1], size[::-1])
    kind = np.full(nodes, Kind.TEMPORARY, np.int64)
    kind[-1] = Kind.OUTPUT
    child = np.arange(nodes - 1)
    return weighted_graph(name, size, child, above[:-1], kind=kind)


def _deepest_first(parent: Int64Array) -> Int32Array:
    """Nodes by falling depth, int32[n]; of one level by number. ``parent[i] < i`` but for the root."""
    depth = [0] * len(parent)
    for node, above in enumerate(parent.tolist()[1:], start=1):
        depth[node] = depth[above] + 1
    return np.argsort(-np.array(depth), kind="stable").astype(np.int32)


def _out_tree(name: str, parent: Int64Array, size: Int64Array) -> Graph:
    """Node j reads tensor j, which its parent writes; the root, node 0, reads a donated one."""
    kind = np.full(len(parent), Kind.TEMPORARY, np.int64)
    kind[0] = Kind.DONATED
    writer = parent.copy()
    writer[0] = -1
    own = CSR(np.arange(len(parent) + 1, dtype=np.int32), np.arange(len(parent), dtype=np.int32))
    return Graph.build(name, map(str, range(len(parent))), own, writer, size, kind=kind)


def series_parallel(nodes: int, *, seed: int = 0) -> Graph:
    """Random two-terminal series-parallel graph; its first node is the source, its last the target.

    Starts from one edge. Each further node x goes onto a random edge (u, v): half the time in series, in its
    place, else in parallel, beside it, u -> x -> v. In the program x stands right after u. Best peaks of such
    graphs: Kayaaslan et al., Scheduling series-parallel task graphs to minimize peak memory, TCS 2018.

    Args:
        nodes: nodes of the graph, at least 2.

    Raises:
        GraphError: too few nodes.
    """
    rng = generator(nodes, 2, seed)
    added = nodes - 2
    tail, head = [0], [1]
    following = [1, -1]  # the program as a linked list: x after u keeps it legal, so no sorting is needed
    in_parallel = (rng.random(added) < 0.5).tolist()
    for x, (u01, parallel) in enumerate(zip(rng.random(added).tolist(), in_parallel, strict=True), start=2):
        edge = int(u01 * len(tail))
        u, v = tail[edge], head[edge]
        if parallel:
            tail.append(u)
            head.append(x)
        else:
            head[edge] = x
        tail.append(x)
        head.append(v)
        following.append(following[u])
        following[u] = x
    position = _list_positions(following)
    name = f"series_parallel_n{nodes}_s{seed}"
    return weighted_graph(name, random_bytes(rng, nodes), position[tail], position[head])


def _list_positions(following: list[int]) -> Int32Array:
    position = np.empty(len(following), np.int32)
    node = 0
    for place in range(len(following)):
        position[node] = place
        node = following[node]
    return position
