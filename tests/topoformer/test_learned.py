"""The learned methods as a user meets them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphs import check_order, peak_bytes, simulate
from graphs.cost import OBJECTIVES
from graphs.synthetic import layered, series_parallel
from tests.interrupts import interrupted_after
from tests.strategies import random_graph
from topoformer.net import windows
from topoformer.schedulers import learned
from topoformer.schedulers.guide import SAMPLE_STEPS, Guide
from topoformer.schedulers.search import Search
from topoformer.schedulers.stopper import Stopper
from topoformer.scheduling import schedule

ROOT = Path(__file__).parents[2]


def test_it_beats_the_list_policies_on_layered_graphs():
    gains = []
    for seed in range(700_000, 700_008):
        graph = layered(200, seed=seed)
        own = schedule(graph, "topoformer", seconds=0.1).method_cost.peak_bytes
        rivals = [
            schedule(graph, name, seconds=0.1).method_cost.peak_bytes for name in ("lpmf", "net_change", "dfs", "bfs")
        ]
        gains.append(own / min(rivals))
    assert np.mean(gains) < 0.97


def test_the_searching_ones_are_no_worse_than_what_they_begin_with_and_say_what_they_did():
    for graph in (layered(170, seed=700_001), layered(250, seed=700_002), layered(300, seed=700_003)):
        greedy = schedule(graph, "topoformer", seconds=0.2)
        for method, phase in (("topoformer-sample", "samples"), ("topoformer-beam", "guided beam 32")):
            best = schedule(graph, method, seconds=100.0, seed=1, steps=200_000)
            assert best.method_cost.peak_bytes <= greedy.method_cost.peak_bytes
            assert best.method_cost.peak_bytes <= schedule(graph, "cuts", seconds=5.0).cost.peak_bytes
            assert best.proven_optimal or phase in [found.name for found in best.phases]


def test_samples_begin_with_the_best_order_known():
    graph = layered(300, seed=700_008)
    search = Search(graph, OBJECTIVES["memory"], 60.0, 0)
    greedy = schedule(graph, "topoformer", seconds=1.0).method_cost.peak_bytes
    best = schedule(graph, "auto", seconds=60.0).order
    assert peak_bytes(graph, best) < greedy
    profile = simulate(graph, best)
    search.order, search.peak = best.copy(), profile.peak_bytes
    search.bound = search.peak  # there is nothing to be found: what is known comes back, and not the greedy order
    Guide(search).sample(10)
    assert search.order.tolist() == best.tolist()
    assert search.spent == SAMPLE_STEPS


@pytest.mark.parametrize("method", ["topoformer-sample", "topoformer-beam"])
def test_a_step_cap_gives_the_same_answer_again_and_holds(method):
    graph = layered(150, seed=700_004)
    for steps in (1, 3000, 60_000):
        one, two = (schedule(graph, method, seconds=100.0, seed=5, steps=steps) for _ in range(2))
        assert one.order.tolist() == two.order.tolist()
        assert [phase[0] for phase in one.phases] == [phase[0] for phase in two.phases]
        assert one.search_seconds < 20


@pytest.mark.parametrize("method", ["topoformer-sample", "topoformer-beam"])
@pytest.mark.parametrize("delay", [0.02, 0.4])
def test_an_interrupt_leaves_the_best_so_far(method, delay):
    graph = layered(900, seed=700_005)
    schedule(layered(20, seed=1), method, seconds=0.1)  # compiles
    with interrupted_after(delay):
        result = schedule(graph, method, seconds=300.0)
    assert result.interrupted
    check_order(graph, result.order)
    assert result.bound_bytes <= result.cost.peak_bytes <= result.program_cost.peak_bytes


def as_compiled_code_says_it(*_, **__):
    """What a signal's handler raises while compiled code hands its result over."""
    inner = SystemError("returned a result with an exception set")
    inner.__cause__ = KeyboardInterrupt()
    raise SystemError("returned a result with an exception set") from inner


@pytest.mark.parametrize("method", ["topoformer-sample", "topoformer-beam"])
def test_an_interrupt_inside_compiled_code_is_one(method, monkeypatch):
    graph = layered(400, seed=700_006)
    schedule(graph, method, seconds=0.1)  # compiles
    monkeypatch.setattr(learned.net, "scores", as_compiled_code_says_it)
    assert schedule(graph, method, seconds=1.0).interrupted
    with pytest.raises(KeyboardInterrupt):  # nothing is known yet that could be kept
        schedule(graph, "topoformer", seconds=1.0)


def test_another_error_inside_compiled_code_stays_one(monkeypatch):
    def broken(_):
        raise SystemError("unknown opcode")

    schedule(layered(20, seed=1), "topoformer", seconds=0.1)
    monkeypatch.setattr(learned.net, "scores", broken)
    for method in ("topoformer", "topoformer-beam"):
        with pytest.raises(SystemError, match="opcode"):
            schedule(layered(400, seed=700_007), method, seconds=1.0)


@pytest.fixture
def small_stretches(monkeypatch):
    monkeypatch.setattr(windows, "LARGEST", 30)
    monkeypatch.setattr(windows, "LEAST", 15)


def test_stretches_cover_the_order(small_stretches):
    for nodes in (31, 44, 45, 46, 59, 60, 61, 100, 333):
        found = windows.stretches(simulate(layered(nodes, seed=1)))
        assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])]
        assert found[-1][1] == nodes
        assert all(last - first <= 30 for first, last in found)


def test_a_stretch_needs_as_much_by_itself_as_in_its_order():
    graphs = [g for seed in range(40) if (g := random_graph(seed, max_nodes=25)).n > 6]
    for graph in [*graphs, layered(60, seed=2)]:
        profile = simulate(graph)
        for first, last in ((0, graph.n // 2), (graph.n // 3, graph.n - 1), (graph.n // 2, graph.n)):
            part, nodes = windows.stretch_graph(graph, profile.order, first, last)
            places = np.searchsorted(nodes, profile.order[first:last])
            inside = simulate(part, places)
            held = profile.step_bytes[first:last] - inside.step_bytes
            assert (held >= 0).all()
            assert len(np.unique(held)) <= 1  # the rest of the graph holds the same bytes throughout


def test_large_graphs_are_ordered_by_stretches(small_stretches):
    for graph in (layered(100, seed=3), series_parallel(95, seed=1)):
        base = windows.base_profile(graph).peak_bytes
        for method, steps in ((learned.topoformer, {}), (learned.sample, {"steps": 20})):
            answer = method(graph, OBJECTIVES["memory"], seconds=5.0, seed=0, **steps)
            order = check_order(graph, getattr(answer, "order", answer))
            assert peak_bytes(graph, order) <= base


def test_no_stretch_gets_worse_and_bad_ones_get_better(small_stretches):
    better = 0
    for seed in range(10):
        graph = layered(100, seed=700_100 + seed)
        for profile in (simulate(graph), simulate(graph, schedule(graph, "auto", seconds=5.0).order)):
            found = learned._by_stretches(profile, Stopper(float("inf")), samples=1, seed=0)
            for first, last in windows.stretches(profile):
                part, nodes = windows.stretch_graph(graph, profile.order, first, last)
                before, after = (
                    peak_bytes(part, np.searchsorted(nodes, x[first:last])) for x in (profile.order, found)
                )
                assert after <= before
                better += after < before
    assert better > 10


def test_inference_imports_neither_pytorch_nor_pytorch_geometric():
    code = (
        "import sys, topoformer\nfrom graphs.synthetic import layered\n"
        "topoformer.schedule(layered(20, seed=1), 'topoformer-sample', seconds=0.1)\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "torch_geometric"} & set(found.stdout.split())
