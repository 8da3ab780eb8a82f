"""Certified lower bounds: no legal order of the graph has a lower peak, and proofs of that which can be checked."""

import time

import numpy as np
import numpy.typing as npt

from graphs.csr import Int32Array
from graphs.cuts import CutNetwork, Witness, cut_witness
from graphs.graph import Graph, Kind, Order
from graphs.implied import Refutation
from graphs.memory import memory_model, simulate
from graphs.reductions import IMPLIED, TWIN, holds

HALF = 32  # bits


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


def cut_bound(
    network: CutNetwork, order: Order, *, floor: int = 0, deadline: float = float("inf")
) -> tuple[int, Witness | None]:
    """(bound, its witness) from the steps of a good ``order``, dearest first, until no further one can raise it.

    A step of ``order`` costs at least its own node's bound, so that once a step costs no more than the best bound
    found, no later one can help. ``floor`` is a bound that is known already, for which there is no witness; nodes that
    ``network`` was asked about before are passed over; ``deadline`` (``time.monotonic``) ends it early.
    """
    step_bytes = simulate(network.graph, order).step_bytes
    best, witness = floor, None
    for step in np.argsort(-step_bytes, kind="stable"):
        if step_bytes[step] <= best or time.monotonic() > deadline:
            break
        node = int(order[step])
        if node not in network.asked:
            network.asked.add(node)
            found = cut_witness(network, node)
            if found.bytes > best:
                best, witness = found.bytes, found
    return best, witness


def check_bound(graph: Graph, witness: Witness | Refutation) -> bool:
    """Whether ``witness`` proves its bound, by other means than those that found it.

    The flow of a cut is added up. A refutation is gone through step by step, with one maximum flow of another solver
    for each: seconds for some hundreds of them.
    """
    return _flow_adds_up(graph, witness) if isinstance(witness, Witness) else _refutes(graph, witness)


def _flow_adds_up(graph: Graph, witness: Witness) -> bool:
    """Whether the flow is feasible and brings so many bytes from source to sink."""
    if not 0 <= witness.node < graph.n:
        return False
    network = CutNetwork(graph)
    vertex = network.merged(witness.node)
    tail, head, flow = vertex[network.tail], vertex[network.head], witness.flow
    if flow.shape != tail.shape or (flow < 0).any() or (flow > network.capacity).any():
        return False
    high, low = np.zeros((2, network.sink + 1), np.int64)  # in two halves, whose sums do not wrap around
    for net, part in ((high, flow >> HALF), (low, flow & ((1 << HALF) - 1))):
        np.add.at(net, head, part)
        np.subtract.at(net, tail, part)
    high, low = high + (low >> HALF), low & ((1 << HALF) - 1)
    inner = np.delete(np.arange(network.sink + 1), [network.source, network.sink])
    arrived = (int(high[network.sink]) << HALF) + int(low[network.sink])
    balanced = not (high[inner].any() or low[inner].any())
    return balanced and witness.bytes <= arrived + int(memory_model(graph).steps.alloc[witness.node])


def _refutes(graph: Graph, proof: Refutation) -> bool:
    """Whether each precedence follows from those before it, and the bound from all of them."""
    network, pairs = CutNetwork(graph), proof.pairs
    nodes = np.concatenate([pairs.ravel(), proof.at, [proof.node]])
    shapes = pairs.shape == (len(proof.at), 2) and proof.rules.shape == proof.at.shape
    if not shapes or not ((nodes >= 0) & (nodes < graph.n)).all():
        return False
    reached = _closure(graph)
    rows = zip(pairs.tolist(), proof.at.tolist(), proof.rules.tolist(), strict=True)
    for i, ((first, second), node, rule) in enumerate(rows):
        if first == second or reached[second, first]:
            return False
        if rule != IMPLIED:
            twins_first = rule != TWIN or bool((proof.rules[:i] == TWIN).all())
            sound = twins_first and holds(graph, reached, first, second, rule)
        else:
            # were they the other way round, `first` would be missing where `second` runs, or `second` be there before
            held = ([], [first]) if node == second else ([second], [])
            sound = node in (first, second) and _least_step(network, node, pairs[:i], *held) >= proof.bytes
        if not sound:
            return False
        ahead = reached[:, first].copy()
        ahead[first] = True
        reached[ahead] |= reached[second]
        reached[ahead, second] = True
    return _least_step(network, proof.node, pairs, [], []) >= proof.bytes


def _closure(graph: Graph) -> npt.NDArray[np.bool_]:
    """Which nodes run after which, bool[n, n]: row u holds what comes after u."""
    reached = np.zeros((graph.n, graph.n), np.bool_)
    for u in range(graph.n - 1, -1, -1):
        for v in graph.succs.row(u):
            reached[u] |= reached[v]
            reached[u, v] = True
    return reached


def _least_step(network: CutNetwork, node: int, pairs: Int32Array, inside: list[int], outside: list[int]) -> int:
    """Least bytes of the step of ``node`` under the precedences ``pairs``, some nodes held in or out of its ideal."""
    from ortools.graph.python.max_flow import SimpleMaxFlow

    graph = network.graph
    before = np.concatenate([graph.preds.row(node), pairs[pairs[:, 1] == node, 0], inside]).astype(np.int32)
    after = np.array([node, *outside], np.int32)
    tail = np.concatenate([network.tail, pairs[:, 1], np.full(len(before), network.source), after]).astype(np.int32)
    head = np.concatenate([network.head, pairs[:, 0], before, np.full(len(after), network.sink)]).astype(np.int32)
    endless = np.full(len(tail) - len(network.tail), network.endless)
    solver = SimpleMaxFlow()
    solver.add_arcs_with_capacity(tail, head, np.concatenate([network.capacity, endless]))
    solver.add_arc_with_capacity(network.source, network.sink, 0)  # a sink without arcs would not be known to it
    if solver.solve(network.source, network.sink) != solver.OPTIMAL:
        return 0
    return int(memory_model(graph).steps.alloc[node]) + int(solver.optimal_flow())
