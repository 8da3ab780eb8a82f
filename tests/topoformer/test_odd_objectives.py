"""What a review of objectives found: odd sizes, odd devices, collectives, measures that fail."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import graphs
from graphs.cost import Objective, objective_named
from graphs.device import DEVICES, Device
from graphs.latency import simulate_latency
from graphs.synthetic import layered
from graphs.traffic import simulate_traffic
from topoformer import pareto
from topoformer.cli import main
from topoformer.front_plot import svg
from topoformer.scheduling import MemoryLimitError, schedule

H100, NPU = DEVICES["h100-sxm"], DEVICES["npu-8mb"]


def beside_collectives(pairs=8):
    """Products, and a collective that reads each of them."""
    reads = [row for i in range(pairs) for row in ([], [2 * i])]
    ops = ["aten.mm.default", "all_reduce"] * pairs
    size = [64 << 20] * (2 * pairs)
    return graphs.Graph.build("pairs", [f"n{i}" for i in range(2 * pairs)], reads, range(2 * pairs), size, ops=ops)


def test_a_limit_counts_what_collectives_hold_beside_one_stream():
    graph = beside_collectives()
    device = replace(H100, streams=1)
    free = schedule(graph, objective="latency", device=device, seconds=10.0, steps=800)
    assert free.cost.concurrent_peak_bytes == simulate_latency(graph, free.order, device=device).peak_bytes
    limit = free.cost.held_bytes - 1
    try:
        held = schedule(graph, objective="latency", device=device, seconds=10.0, steps=800, memory_limit=limit)
    except MemoryLimitError:
        return
    assert simulate_latency(graph, held.order, device=device).peak_bytes <= limit


def test_bytes_beyond_64_bits_stay_positive():
    size = [1 << 60] + [1] * 11
    graph = graphs.Graph.build("big", [f"n{i}" for i in range(12)], [[]] + [[0]] * 11, range(12), size)
    whole = simulate_traffic(graph, capacity=0)
    assert whole.bytes == 12 * (1 << 60)  # written back once, fetched eleven times
    result = schedule(graph, objective="traffic", device=NPU, seconds=5.0, steps=50)
    assert result.cost.traffic_bytes > 1 << 62
    assert result.cost.latency_seconds > 0
    assert "TiB" in svg(pareto(graph, "npu-8mb", objective="traffic", points=2, seconds=4.0, steps=50))


def test_a_measure_that_is_not_a_number_is_never_better():
    graph = layered(30, seed=1)

    def measure(graph, order):
        return 1.0 if np.array_equal(order, np.arange(graph.n)) else math.nan

    result = schedule(graph, "dfs", objective=Objective("mine", {}, custom=measure))
    assert result.order.tolist() == list(range(graph.n))
    assert result.cost.custom == 1.0


def test_a_measure_is_asked_about_its_own_graph_only():
    graph = layered(30, seed=1)

    def measure(other, order):
        assert other is graph
        return float(order[3])

    schedule(graph, objective=Objective("mine", {}, custom=measure), seconds=1.0, steps=20)


def test_no_nodes_and_no_room():
    graph = graphs.Graph.build("inputs", [], [], [-1], [100])
    with pytest.raises(MemoryLimitError, match="no order of 'inputs' fits in 1 B"):
        schedule(graph, memory_limit=1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--memory-limit", "99999PiB"], ""),
        (["--on-chip", "99999PiB"], "'on_chip_bytes' must be an integer from 0 to"),
        (["--streams", "99999999999999999"], "'streams' must be an integer from 1 to"),
    ],
)
def test_huge_numbers_on_the_command_line(arguments, text, tmp_path, capsys):
    path = tmp_path / "g.json"
    graphs.save(layered(20, seed=1), path)
    command = ["schedule", str(path), "--objective", "latency", "--device", "h100-sxm", "--steps", "20", *arguments]
    code = main(command)
    error = capsys.readouterr().err
    assert (code == 0) == (not text)
    assert text in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "change",
    [
        {"launch_seconds": math.inf},
        {"launch_seconds": 1e308},
        {"link_bandwidth": math.nan},
        {"memory_bytes": "many"},
        {"source": 5},
        {"flops": {"float32": 10**400}},
        {"streams": 10**9},
    ],
)
def test_devices_that_are_none(change):
    with pytest.raises(ValueError, match="device 'h100-sxm': '"):
        replace(H100, **change)


def test_a_weight_without_end_and_things_that_are_no_names():
    with pytest.raises(ValueError, match=r"is not an objective|at most 1e9"):
        objective_named("1e999*latency+memory", H100)
    with pytest.raises(ValueError, match="at most 1e9"):
        objective_named("99999999999*latency+memory", H100)
    with pytest.raises(TypeError, match="'device' must be a name or a Device"):
        schedule(layered(20, seed=1), objective="latency", device=5)
    with pytest.raises(TypeError, match="'objective' must be a name or an Objective"):
        schedule(layered(20, seed=1), objective=5)
    with pytest.raises(ValueError, match="unknown device"):
        pareto(layered(20, seed=1), "h100")


def test_the_arena_is_one_number(tmp_path, capsys):
    path, plan, out = tmp_path / "g.json", tmp_path / "plan.json", tmp_path / "s.json"
    graphs.save(layered(120, seed=2), path)
    command = ["schedule", str(path), "--objective", "arena", "--steps", "100", "--arena", str(plan), "-o", str(out)]
    assert main(command) == 0
    data = json.loads(out.read_text())
    assert data["arena_bytes"] == json.loads(plan.read_text())["arena_bytes"] <= data["program_arena_bytes"]
    assert "arena" in capsys.readouterr().out


def test_a_front_does_not_pass_over_options(tmp_path, capsys):
    path = tmp_path / "g.json"
    graphs.save(layered(20, seed=1), path)
    for extra, text in (
        (["--measure-seconds"], "--measure-seconds needs a SOURCE that is a program"),
        (["--cost", "measured"], "--cost measured does not go with --pareto"),
        (["--journal", "j"], "--journal does not go with --pareto"),
    ):
        assert main(["schedule", str(path), "--pareto", "2", "--device", "h100-sxm", *extra]) == 2
        assert text in capsys.readouterr().err


def test_a_device_needs_no_list_of_its_own():
    assert Device("d", {"float32": 1.0}, 1.0).rate("bfloat16") == 1.0
