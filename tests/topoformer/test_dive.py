"""Depth-first search finds an order within a budget exactly where there is one."""

import numpy as np
import pytest

import graphs
from graphs.implied import Implied
from graphs.synthetic import layered
from tests import oracle
from tests.strategies import random_graph
from topoformer.schedulers.dive import Dive
from topoformer.schedulers.problem import whole, window

GO_ON = np.zeros(1, np.int8)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_budget_decides(backwards):
    for seed in range(700):
        graph = random_graph(seed, 10)
        if graph.n == 0:
            continue
        best = oracle.best_peak(graph)
        for budget in (best, best - 1):
            found = Dive(whole(graph, backwards=backwards), budget, 1 << 20).run(GO_ON)
            assert found.complete
            assert (found.nodes is not None) == (budget == best), f"graph {seed}"
            if found.nodes is not None:
                assert oracle.is_legal(graph, found.nodes.tolist())
                assert oracle.peak(graph, found.nodes.tolist()) <= budget


def test_any_priority_gives_the_same_answer():
    rng = np.random.default_rng(3)
    for seed in range(300):
        graph = random_graph(seed)
        if graph.n == 0:
            continue
        best = oracle.best_peak(graph)
        priority = rng.normal(size=graph.n) * 100
        assert Dive(whole(graph), best, 1 << 20, priority).run(GO_ON).nodes is not None
        assert Dive(whole(graph), best - 1, 1 << 20, priority).run(GO_ON).nodes is None


def test_a_priority_that_knows_the_way_needs_no_way_back():
    graph = layered(150, seed=8)
    order = Dive(whole(graph), graphs.peak_bytes(graph), 1 << 20).run(GO_ON).nodes
    priority = -1e9 * graphs.inverse(order)
    again = Dive(whole(graph), graphs.peak_bytes(graph, order), 1 << 20, priority).run(GO_ON)
    assert again.nodes is not None
    assert again.states <= graph.n


def test_little_memory_costs_states_and_no_truth(monkeypatch):
    graph = random_graph(11, 12)
    best = oracle.best_peak(graph)
    monkeypatch.setattr("topoformer.schedulers.dive.MEMORY", 1)
    assert Dive(whole(graph), best, 1 << 20).run(GO_ON).nodes is not None
    assert Dive(whole(graph), best - 1, 1 << 20).run(GO_ON).complete


def test_it_ends_when_told_and_says_so():
    graph = layered(200, seed=1)
    for dive, stop in ((Dive(whole(graph), 50_000, 1 << 40), 1), (Dive(whole(graph), 50_000, 10), 0)):
        found = dive.run(np.full(1, stop, np.int8))
        assert found.nodes is None
        assert not found.complete


def test_windows_and_precedences():
    graph = layered(60, seed=4)
    order = graphs.program_order(graph)
    peak = graphs.peak_bytes(graph)
    found = Dive(window(graph, order, 10, 50), peak, 1 << 20).run(GO_ON)
    joined = np.concatenate([order[:10], found.nodes, order[50:]])
    assert graphs.peak_bytes(graph, joined) <= peak
    implied = Implied(graph)
    implied.tighten(peak, stop=GO_ON)
    nodes = Dive(whole(graph, implied.pairs), peak, 1 << 20).run(GO_ON).nodes
    position = graphs.inverse(nodes)
    assert (position[implied.pairs[:, 0]] < position[implied.pairs[:, 1]]).all()
