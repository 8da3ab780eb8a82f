"""The minimum-cut bound: never above the optimum, and each one carries a proof that adds up."""

from dataclasses import replace

import numpy as np
import pytest

import graphs
from graphs.bound import check_bound, cut_bound
from graphs.cuts import CutNetwork, cut_witness
from tests import oracle
from tests.strategies import random_graph
from topoformer.schedulers.list_scheduling import list_schedule


def ideals(graph):
    """All sets of nodes that are closed under "must run before"."""
    preds, found = oracle.preds_of(graph), {frozenset()}
    frontier = set(found)
    while frontier:
        frontier = {s | {v} for s in frontier for v in range(graph.n) if v not in s and preds[v] <= s} - found
        found |= frontier
    return found


def least_step(graph, node):
    """Least bytes of the step of ``node`` from any ideal that it can run from."""
    preds = oracle.preds_of(graph)
    return min(
        oracle.bytes_of(graph, oracle.tensors_during(graph, ideal, node)) + int(graph.scratch[node])
        for ideal in ideals(graph)
        if node not in ideal and preds[node] <= ideal
    )


def test_a_cut_is_the_least_that_a_step_can_cost():
    for seed in range(250):
        graph = random_graph(seed, 7)
        network = CutNetwork(graph)
        for node in range(graph.n):
            witness = cut_witness(network, node)
            assert witness.bytes == least_step(graph, node), f"graph {seed}, node {node}"
            assert check_bound(graph, witness)
            ideal = frozenset(np.flatnonzero(witness.ideal).tolist())
            assert ideal in ideals(graph)
            step = oracle.bytes_of(graph, oracle.tensors_during(graph, ideal, node)) + int(graph.scratch[node])
            assert step == witness.bytes


def test_bound_is_below_the_optimum_and_proven():
    raised = 0
    for seed in range(1500):
        graph = random_graph(5000 + seed)
        bound, witness = cut_bound(CutNetwork(graph), graphs.program_order(graph))
        assert bound <= oracle.best_peak(graph), f"graph of seed {seed}"
        if witness is not None:
            raised += 1
            assert witness.bytes == bound
            assert check_bound(graph, witness)
    assert raised > 1000


@pytest.mark.parametrize("order", ["program", "reverse"])
def test_bound_does_not_depend_on_the_order_it_is_read_from(order):
    for seed in range(200):
        graph = random_graph(seed)
        best = max((cut_witness(CutNetwork(graph), v).bytes for v in range(graph.n)), default=0)
        steps = graphs.program_order(graph)
        if order == "reverse":
            steps = list_schedule(graph, -np.arange(graph.n))
        bound, _ = cut_bound(CutNetwork(graph), steps)
        assert bound == best


def test_a_false_witness_is_found_out():
    graph = next(g for g in map(random_graph, range(1000)) if g.n > 6 and cut_witness(CutNetwork(g), 5).flow.sum() > 0)
    true = cut_witness(CutNetwork(graph), 5)
    assert check_bound(graph, true)
    some = int(np.flatnonzero(true.flow)[0])
    changed = true.flow.copy()
    changed[some] += 1
    assert not check_bound(graph, replace(true, bytes=true.bytes + 1))
    assert not check_bound(graph, replace(true, flow=changed))
    assert not check_bound(graph, replace(true, flow=-true.flow))
    assert not check_bound(graph, replace(true, flow=true.flow[:-1]))


def test_floor_and_deadline():
    graph = random_graph(77)
    network = CutNetwork(graph)
    assert cut_bound(network, graphs.program_order(graph), floor=1 << 50) == (1 << 50, None)
    assert cut_bound(network, graphs.program_order(graph), deadline=0.0) == (0, None)
