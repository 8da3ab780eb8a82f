"""Schedules for latency, traffic, arenas, sums of them and limits on memory, by every method."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

import graphs
from graphs.cost import METRICS, Objective, objective_named
from graphs.device import DEVICES
from graphs.latency import latency_bound, node_seconds, simulate_latency
from graphs.synthetic import depth_first_trap, layered, randwire, series_parallel
from graphs.traffic import simulate_traffic
from tests import oracle
from tests.strategies import random_order, tangled_graph
from topoformer.schedulers.annealing import Annealing
from topoformer.scheduling import SCHEDULERS, MemoryLimitError, schedule, scheduler_named

GPU = replace(DEVICES["h100-sxm"], streams=2)
CHIP = replace(DEVICES["cortex-m7"], on_chip_bytes=20_000)
WIDE = layered(60, seed=7001)
BRANCHES = series_parallel(120, seed=7002)
GOALS = (("latency", GPU), ("traffic", CHIP), ("latency", CHIP), ("arena", None), ("latency + 0.5*memory", GPU))


@pytest.mark.parametrize("method", SCHEDULERS)
@pytest.mark.parametrize(("name", "device"), GOALS)
def test_no_method_is_worse_than_the_program_and_what_it_says_is_so(method, name, device):
    result = schedule(WIDE, method, objective=name, device=device, seconds=5.0, steps=400)
    objective = result.objective
    assert objective.key(result.cost) <= objective.key(result.program_cost)
    assert result.value_ratio <= 1.0
    assert result.cost == objective.measure(WIDE, result.order)
    assert result.cost.peak_bytes == oracle.peak(WIDE, result.order) >= result.bound_bytes
    if device is GPU:
        timeline = simulate_latency(WIDE, result.order, device=GPU)
        assert (result.cost.latency_seconds, result.cost.concurrent_peak_bytes) == (
            timeline.seconds,
            timeline.peak_bytes,
        )
    if result.value_bound is not None:
        assert result.value_bound <= objective.value(result.cost) * (1 + 1e-12)


@pytest.mark.parametrize(("name", "device"), GOALS)
def test_the_same_steps_give_the_same_order(name, device):
    asked = {"objective": name, "device": device, "seconds": 60.0, "steps": 500, "seed": 3}
    first, second = (schedule(BRANCHES, **asked) for _ in range(2))
    assert first.order.tolist() == second.order.tolist()


def test_several_streams_are_used():
    """Branchy graphs take at least a tenth less than in program order, and no less than the bound."""
    for graph in (BRANCHES, randwire(120, seed=7003), depth_first_trap(120, seed=7004)):
        result = schedule(graph, objective="latency", device=GPU, seconds=20.0, steps=4000)
        assert latency_bound(graph, GPU) <= result.cost.latency_seconds <= 0.9 * result.program_cost.latency_seconds


def test_traffic_is_less_than_in_program_order():
    chip = replace(CHIP, on_chip_bytes=graphs.peak_bytes(BRANCHES) // 3)
    result = schedule(BRANCHES, objective="traffic", device=chip, seconds=20.0, steps=4000)
    assert result.cost.traffic_bytes == simulate_traffic(BRANCHES, result.order, capacity=chip.on_chip_bytes).bytes
    assert result.cost.traffic_bytes <= 0.9 * result.program_cost.traffic_bytes


def best_of_all(graph, objective):
    return min(objective(graph, np.array(order, np.int32)) for order in oracle.legal_orders(graph))


@pytest.mark.parametrize(("name", "device"), [("latency", GPU), ("traffic", replace(CHIP, on_chip_bytes=12))])
def test_small_graphs_are_solved(name, device):
    found = tried = 0
    for seed in range(60):
        graph = tangled_graph(seed, 6)
        graph = replace(graph, seconds=np.array([1.0, 2.0, 3.0, 1.0, 5.0, 2.0]) * 1e-3)
        objective = objective_named(name, device)
        result = schedule(graph, objective=objective, seconds=20.0, steps=800)
        best = best_of_all(graph, objective)
        assert objective.value(result.cost) >= best[1]
        found += math.isclose(objective.value(result.cost), best[1])
        tried += 1
    assert found >= tried - 1


def test_a_limit_on_memory_is_kept_or_refused():
    """What is alive on all streams together counts."""
    free = schedule(BRANCHES, objective="latency", device=GPU, seconds=20.0, steps=2000)
    least = schedule(BRANCHES, seconds=5.0).cost.peak_bytes
    limit = (free.cost.held_bytes + least) // 2
    held = schedule(BRANCHES, objective="latency", device=GPU, seconds=20.0, steps=4000, memory_limit=limit)
    assert simulate_latency(BRANCHES, held.order, device=GPU).peak_bytes <= limit < free.cost.held_bytes
    assert held.cost.latency_seconds >= latency_bound(BRANCHES, GPU)
    with pytest.raises(MemoryLimitError, match=r"no order of 'series_parallel.*' fits"):
        schedule(BRANCHES, objective="latency", device=GPU, seconds=1.0, memory_limit=least // 2)


def test_one_stream_leaves_memory_to_be_minimised():
    one = replace(GPU, streams=1)
    result = schedule(WIDE, objective="latency", device=one, seconds=3.0)
    assert result.cost.latency_seconds == result.program_cost.latency_seconds
    assert result.cost.peak_bytes == schedule(WIDE, seconds=3.0).cost.peak_bytes < result.program_cost.peak_bytes


def test_a_measure_of_ones_own_is_minimised():
    """How late node 0's successors run: nothing that the library knows of."""
    goal = Objective("late", {}, custom=lambda graph, order: float(-np.flatnonzero(order == graph.n - 2)[0]))
    result = schedule(WIDE, objective=goal, seconds=2.0, steps=100)
    assert result.cost.custom == min(
        goal.value(goal.measure(WIDE, scheduler_named(name)(WIDE, goal, seconds=1.0, seed=0)))
        for name in (
            "program",
            "lpmf",
            "net_change",
            "dfs",
            "liu",
            "bfs",
            "oldest",
            "smallest",
            "critical_path",
            "random",
        )
    )


def test_annealing_moves_keep_orders_legal_and_energies_true():
    rng = random.Random(5)
    for seed in range(150):
        graph = tangled_graph(seed, rng.randint(2, 25))
        name, device = rng.choice((*GOALS, ("memory", None)))
        objective = objective_named(name, device).fitted(graph, rng.choice((None, 30)))
        chain = Annealing(graph, objective, np.array(random_order(graph, rng), np.int32), seed)
        start = chain.values.copy()
        chain.slice(0.0, 1.0, 200, np.zeros(1, np.int8))
        for order, energy in ((chain.current, chain.values[:2]), (chain.best, chain.values[2:])):
            cost = objective.measure(graph, graphs.check_order(graph, order.copy()))
            over, value, _ = objective.key(cost)
            assert energy[1] == over
            same = math.fsum(node_seconds(graph, CHIP)) if (name, device) == ("latency", CHIP) else 0.0  # any order's
            if name != "arena":
                assert math.isclose(energy[0] + same, value, rel_tol=1e-9, abs_tol=1e-300), (name, seed)
        assert (chain.values[3], chain.values[2]) <= (start[3], start[2])


def test_the_schedule_as_json_has_all_costs_and_the_device():
    data = schedule(WIDE, "streams", objective="latency", device=GPU).to_json()
    assert data["objective"] == "latency"
    assert data["device"]["name"] == "h100-sxm"
    assert data["latency_seconds"] <= data["program_latency_seconds"]
    assert data["concurrent_peak_bytes"] >= data["peak_bytes"]
    assert "objective" not in schedule(WIDE, "dfs").to_json()


@pytest.mark.parametrize(
    ("name", "device", "text"),
    [
        ("latncy", GPU, "unknown objective 'latncy'; did you mean 'latency'"),
        ("latency", None, "objective 'latency' needs a device"),
        ("memory+traffic", GPU, "needs on-chip memory, of which device 'h100-sxm' has none"),
        ("memory+memory", None, "each metric must be there once"),
        ("0*memory", None, "its weight positive"),
        ("memory-latency", GPU, "is not an objective"),
        ("", None, "is not an objective"),
    ],
)
def test_objectives_that_are_refused(name, device, text):
    with pytest.raises(ValueError, match=text):
        objective_named(name, device)
    with pytest.raises(ValueError, match=text):
        schedule(WIDE, objective=name, device=device)


def test_a_device_goes_with_a_name():
    with pytest.raises(ValueError, match="'device' goes with the name of an objective"):
        schedule(WIDE, objective=objective_named("latency", GPU), device=GPU)
    with pytest.raises(ValueError, match="unknown device 'h100'; did you mean 'h100-sxm'"):
        schedule(WIDE, objective="latency", device="h100")


def test_a_cost_that_was_not_measured():
    with pytest.raises(ValueError, match="'traffic' was not measured"):
        schedule(WIDE, "dfs").cost.metric("traffic")
    assert set(METRICS) == {"memory", "latency", "traffic", "arena"}
