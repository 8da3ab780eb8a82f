"""Moves of single nodes keep the order legal, its profile exact and its peak no higher; windows find what is left."""

import numpy as np

import graphs
from graphs.cost import OBJECTIVES
from graphs.csr import CSR, transposed
from graphs.memory import memory_model
from graphs.synthetic import layered
from tests import oracle
from tests.strategies import random_graph, random_order
from topoformer import schedule
from topoformer.schedulers import _shift_kernels
from topoformer.schedulers.local_search import shifted
from topoformer.schedulers.search import Search


def run_shift(graph, order, tries, reach=8, floor=0):
    steps = memory_model(graph).steps
    profile = graphs.simulate(graph, order)
    arrays = order.copy(), profile.step_bytes.copy(), profile.live_bytes.copy()
    rows = tuple(graph.preds), tuple(graph.succs), tuple(transposed(CSR(steps.ptr, steps.idx), graph.k))
    made = _shift_kernels.shift(*arrays, tuple(steps), *rows, floor, reach, tries, 1, np.zeros(1, np.int8))
    return made, arrays


def test_the_profile_stays_that_of_the_order():
    import random

    moves = better = 0
    for seed in range(600):
        graph = random_graph(seed, 12)
        if graph.n < 2:
            continue
        order = np.array(random_order(graph, random.Random(seed)), np.int32)
        made, (found, during, after) = run_shift(graph, order, 60)
        assert oracle.is_legal(graph, found.tolist()), f"graph {seed}"
        assert (during.tolist(), after.tolist()) == oracle.profile(graph, found.tolist()), f"graph {seed}"
        assert during.max() <= oracle.peak(graph, order.tolist())
        moves += made
        better += during.max() < oracle.peak(graph, order.tolist())
    assert moves > 200
    assert better > 50


def test_moves_lower_the_peak_of_a_random_order():
    graph = layered(400, seed=12)
    search = Search(graph, OBJECTIVES["memory"], 60.0, 0)
    order = schedule(graph, "random").order
    again = shifted(search, order.copy(), 20_000)
    assert graphs.peak_bytes(graph, again) < 0.97 * graphs.peak_bytes(graph, order)


def test_local_search_is_better_than_the_policies_it_begins_with():
    graph = layered(400, seed=13)
    policies = min(schedule(graph, name).cost.peak_bytes for name in ("lpmf", "net_change", "dfs", "bfs"))
    found = schedule(graph, "local_search", seconds=60, steps=200_000)
    assert found.cost.peak_bytes < policies
    again = schedule(graph, "local_search", seconds=60, steps=200_000)
    assert again.order.tolist() == found.order.tolist()
