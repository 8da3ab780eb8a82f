"""How long the parts take that users wait for: ``pytest bench/benchmarks.py``, or ``python -m bench speed`` as a table.

They are no tests: nothing is asserted of a time. pytest-benchmark runs each often enough and compares saved results
(``pytest-benchmark compare``).
"""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphs
from bench.tiny import SMALL
from graphs import Graph
from graphs import _latency_kernels as kernels
from graphs.bound import cut_bound
from graphs.cost import OBJECTIVES
from graphs.csr import CSR
from graphs.cuts import CutNetwork
from graphs.device import DEVICES
from graphs.fx import from_fx
from graphs.latency import latency_arrays
from graphs.memory import memory_model
from graphs.models import ZOO
from graphs.synthetic import layered, series_parallel
from graphs.traffic import traffic_arrays
from topoformer.pytorch import capture
from topoformer.report import html
from topoformer.schedulers.beam import run_beam
from topoformer.schedulers.list_scheduling import random
from topoformer.schedulers.problem import whole
from topoformer.scheduling import SCHEDULERS, schedule, scheduler_named

MEMORY = OBJECTIVES["memory"]
SIMULATED = (1_000, 10_000, 100_000, 1_000_000)
LIST = [name for name, where in SCHEDULERS.items() if ".list_scheduling:" in where]
FAMILIES = {"layered": layered, "series_parallel": series_parallel}
IMPORTS = ("graphs", "topoformer", "topoformer.cli", "bayesopt_perm", "graphs.fx", "topoformer.report")


@cache
def wide_graph(nodes: int = 100_000, width: int = 10_000, fan_in: int = 4) -> Graph:
    """Layers of ``width`` nodes that each read ``fan_in`` random tensors of the layer before."""
    rng = np.random.default_rng(0)
    node = np.arange(width, nodes)
    reads = node[:, None] // width * width - width + rng.integers(0, width, (len(node), fan_in))
    ptr = np.concatenate([np.zeros(width, np.int32), np.arange(len(node) + 1, dtype=np.int32) * fan_in])
    size = rng.integers(1, 1 << 20, nodes)
    rows = CSR(ptr, reads.ravel().astype(np.int32))
    return Graph.build(f"wide_{nodes}", [str(i) for i in range(nodes)], rows, np.arange(nodes), size)


@cache
def drawn(nodes: int, family: str = "layered") -> tuple[Graph, graphs.Order]:
    """A graph, and a random order of it."""
    sparse: dict[str, Any] = {"rho_edge": 0.005} if family == "layered" and nodes > 10_000 else {}
    graph = FAMILIES[family](nodes, seed=5, **sparse)
    return graph, random(graph, MEMORY, seconds=1, seed=1)


@pytest.mark.parametrize("nodes", SIMULATED)
def test_peak(benchmark: Any, nodes: int) -> None:
    benchmark(graphs.peak_bytes, *drawn(nodes))


@pytest.mark.parametrize("nodes", SIMULATED[:3])
def test_profile_with_legality(benchmark: Any, nodes: int) -> None:
    benchmark(graphs.simulate, *drawn(nodes))


@pytest.mark.parametrize("family", FAMILIES)
def test_latency_on_two_streams(benchmark: Any, family: str) -> None:
    graph, order = drawn(10_000, family)
    timing, memory = latency_arrays(graph, replace(DEVICES["h100-sxm"], streams=2)), memory_model(graph).simulator

    def simulated() -> None:
        start, finish, _ = kernels.timeline(order, *timing)
        kernels.concurrent_profile(order, start, finish, *memory)

    benchmark(simulated)


@pytest.mark.parametrize("family", FAMILIES)
def test_traffic(benchmark: Any, family: str) -> None:
    graph, order = drawn(10_000, family)
    benchmark(kernels.traffic, order, *traffic_arrays(graph), graphs.peak_bytes(graph, order) // 4)


@pytest.mark.parametrize("name", LIST)
def test_list_policy_on_a_wide_graph(benchmark: Any, name: str) -> None:
    policy: Any = scheduler_named(name)
    benchmark.pedantic(policy, (wide_graph(), MEMORY), {"seconds": 60, "seed": 0}, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("nodes", SIMULATED[:2])
def test_bound(benchmark: Any, nodes: int) -> None:
    graph, order = drawn(nodes)
    benchmark.pedantic(lambda: cut_bound(CutNetwork(graph), order), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("width", [64, 1_000])
def test_beam(benchmark: Any, width: int) -> None:
    problem, stop = whole(drawn(500)[0]), np.zeros(1, np.int8)
    benchmark.pedantic(lambda: run_beam(problem, width, floor=0, limit=1 << 60, stop=stop), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("nodes", [500, 2_000])
def test_network_greedy(benchmark: Any, nodes: int) -> None:
    method: Any = scheduler_named("topoformer")
    graph = layered(nodes, seed=6)
    benchmark.pedantic(method, (graph, MEMORY), {"seconds": 60, "seed": 0}, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", ["pnasnet", "transformer", "resnet18"])
def test_capture(benchmark: Any, name: str) -> None:
    made = ZOO[name](**SMALL.get(name, {}))
    benchmark.pedantic(lambda: from_fx(capture(*made)), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_load(benchmark: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"wide{suffix}"
    graphs.save(wide_graph(), path)
    benchmark.pedantic(graphs.load, (path,), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("nodes", [300, 20_000])
def test_report(benchmark: Any, nodes: int) -> None:
    found = schedule(layered(nodes, seed=6), "lpmf", seconds=1)
    benchmark.pedantic(html, (found,), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("module", IMPORTS)
def test_import(benchmark: Any, module: str) -> None:
    command = [sys.executable, "-c", f"import {module}"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True), rounds=5, warmup_rounds=1)


def test_command_line(benchmark: Any, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    graphs.save(layered(100, seed=5), path)
    command = [sys.executable, "-m", "topoformer", "schedule", str(path), "--method", "lpmf", "--json"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=5, warmup_rounds=1)
