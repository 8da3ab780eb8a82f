"""The beam is the exact dynamic programme where nothing is cut, and says so only then."""

import numpy as np
import pytest

import graphs
from graphs.synthetic import layered
from tests import oracle
from tests.strategies import random_graph
from topoformer.schedulers import _beam_kernels
from topoformer.schedulers.beam import UNLIMITED, run_beam
from topoformer.schedulers.problem import whole, window
from topoformer.schedulers.stopper import Stopper


def no_stop():
    return np.zeros(1, np.int8)


def beam(problem, width, floor=0, limit=UNLIMITED):
    return run_beam(problem, width, floor=floor, limit=limit, stop=no_stop())


def test_wide_enough_is_exact():
    for seed in range(1500):
        graph = random_graph(seed)
        found = beam(whole(graph), 1 << 9)
        assert found.complete
        assert found.peak_bytes == oracle.best_peak(graph) == oracle.peak(graph, found.nodes.tolist())


def test_limit_decides():
    for seed in range(500):
        graph = random_graph(seed)
        best = oracle.best_peak(graph)
        if graph.n == 0:
            continue
        tight = beam(whole(graph), 1 << 9, floor=best, limit=best)
        assert tight.nodes is not None
        assert oracle.peak(graph, tight.nodes.tolist()) <= best
        nothing = beam(whole(graph), 1 << 9, floor=best - 1, limit=best - 1)
        assert nothing.nodes is None
        assert nothing.complete


def test_a_cut_beam_never_claims_completeness():
    graph = layered(60, seed=1)
    optimum = beam(whole(graph), 1 << 14)
    assert optimum.complete
    for width in (1, 2, 4, 8):
        found = beam(whole(graph), width)
        assert not found.complete
        assert (
            graphs.peak_bytes(graph, graphs.check_order(graph, found.nodes)) == found.peak_bytes >= optimum.peak_bytes
        )


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_solved_exactly_in_place(seed):
    graph = random_graph(seed, 12)
    if graph.n < 3:
        graph = random_graph(seed + 1000, 12)
    order = graphs.program_order(graph)
    profile = graphs.simulate(graph, order)
    first, last = 1, graph.n - 1
    problem = window(graph, order, first, last)
    found = beam(problem, 1 << 11)
    again = graphs.simulate(graph, np.concatenate([order[:first], found.nodes, order[last:]]))
    assert found.complete
    inner = again.step_bytes[first:last]
    assert found.peak_bytes == inner.max(initial=0) if len(inner) else True
    assert inner.max(initial=0) <= profile.step_bytes[first:last].max(initial=0)
    assert again.step_bytes[last:].tolist() == profile.step_bytes[last:].tolist()


def test_high_degrees_do_not_overflow():
    n = 40_000
    graph = graphs.Graph.build("star", map(str, range(n)), [[]] + [[0]] * (n - 1), range(n), [1] * n)
    assert whole(graph).left.dtype == np.int32
    assert whole(layered(50, seed=0)).left.dtype == np.int16


def test_a_raised_flag_ends_a_beam():
    graph = layered(300, seed=2)
    stopper = Stopper(deadline=0.0)
    found = stopper.call(lambda flag: run_beam(whole(graph), 4000, floor=0, limit=UNLIMITED, stop=flag))
    assert found.nodes is None
    assert not found.complete


def test_whole_graphs_and_windows_run_the_same_compiled_beam():
    graph = layered(30, seed=0)
    order = graphs.program_order(graph)
    for problem in (whole(graph), window(graph, order, 5, 25)):
        assert beam(problem, 8).nodes is not None
    assert len(_beam_kernels.beam.signatures) <= 2  # 16-bit and 32-bit counts


def test_backwards_it_finds_orders_of_the_same_peak():
    for seed in range(500):
        graph = random_graph(seed)
        found = beam(whole(graph, backwards=True), 1 << 9)
        assert found.complete
        if graph.n:
            assert oracle.is_legal(graph, found.nodes.tolist())
            assert found.peak_bytes == oracle.peak(graph, found.nodes.tolist()) == oracle.best_peak(graph)


def test_further_precedences_are_kept_to_from_both_ends():
    graph = layered(60, seed=4)
    reaches = {v: {int(u) for u in graph.succs.row(v)} for v in range(graph.n)}
    for v in reversed(range(graph.n)):
        reaches[v] |= {w for u in reaches[v] for w in reaches[u]}
    first, second = next((v, u) for v in range(60) for u in range(v) if v not in reaches[u])  # against program order
    for backwards in (False, True):
        nodes = beam(whole(graph, np.array([[first, second]], np.int32), backwards=backwards), 64).nodes
        position = graphs.inverse(nodes)
        assert position[first] < position[second]


def test_errors_come_through():
    def fails(flag):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Stopper(deadline=float("inf")).call(fails)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("climbs", [1, 4])
def test_safe_moves_of_several_nodes_lose_nothing(backwards, climbs):
    fewer = 0
    for seed in range(700):
        graph = random_graph(seed)
        best = oracle.best_peak(graph)
        problem = whole(graph, backwards=backwards)
        plain = run_beam(problem, 1 << 9, floor=best, limit=best, stop=no_stop())
        found = run_beam(problem, 1 << 9, floor=best, limit=best, stop=no_stop(), climbs=climbs)
        assert found.complete
        assert found.states <= plain.states
        fewer += found.states < plain.states
        if graph.n:
            assert oracle.peak(graph, found.nodes.tolist()) == best, f"graph {seed}"
            below = run_beam(problem, 1 << 9, floor=best - 1, limit=best - 1, stop=no_stop(), climbs=climbs)
            assert below.nodes is None
    assert fewer > 20
