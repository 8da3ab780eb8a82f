"""How long the parts take that users wait for: medians over repeated runs, after compilation."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import graphs
from graphs import Graph
from graphs import _latency_kernels as kernels
from graphs.cost import OBJECTIVES
from graphs.csr import CSR
from graphs.device import DEVICES
from graphs.latency import latency_arrays
from graphs.memory import memory_model
from graphs.synthetic import layered, series_parallel
from graphs.traffic import traffic_arrays
from topoformer.schedulers.list_scheduling import random
from topoformer.scheduling import SCHEDULERS, scheduler_named

SIMULATED = (1_000, 10_000, 100_000, 1_000_000)
WIDE_NODES, WIDTH, FAN_IN = 100_000, 10_000, 4


def table() -> Iterator[str]:
    """The benchmark's rows, as they come."""
    yield from _simulator()
    yield from _other_simulators()
    wide = wide_graph(WIDE_NODES, WIDTH)
    yield from _policies(wide)
    yield from _files(wide)
    yield from _command_line()


def wide_graph(nodes: int, width: int, seed: int = 0) -> Graph:
    """Layers of ``width`` nodes that each read ``FAN_IN`` random tensors of the layer before."""
    rng = np.random.default_rng(seed)
    node = np.arange(width, nodes)
    reads = node[:, None] // width * width - width + rng.integers(0, width, (len(node), FAN_IN))
    ptr = np.concatenate([np.zeros(width, np.int32), np.arange(len(node) + 1, dtype=np.int32) * FAN_IN])
    rows = CSR(ptr, reads.ravel().astype(np.int32))
    size = rng.integers(1, 1 << 20, nodes)
    return Graph.build(f"wide_{nodes}", [str(i) for i in range(nodes)], rows, np.arange(nodes), size)


def median_seconds(action: Callable[[], object], runs: int = 7) -> float:
    """Median of ``runs`` timings, after one that does not count."""
    action()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _simulator() -> Iterator[str]:
    yield "simulator, layered graphs          nodes    reads/node   ns/node-step peak   with legality and profile"
    for nodes in SIMULATED:
        graph = layered(nodes, seed=5, rho_edge=0.2 if nodes <= 10_000 else 0.005)
        order = random(graph, OBJECTIVES["memory"], seconds=1, seed=1)
        fast = median_seconds(partial(graphs.peak_bytes, graph, order), 21) / nodes * 1e9
        full = median_seconds(partial(graphs.simulate, graph, order), 7) / nodes * 1e9
        yield f"{'':28} {nodes:>11,} {len(graph.reads.idx) / nodes:>13.1f} {fast:>19.1f} {full:>27.1f}"


def _other_simulators() -> Iterator[str]:
    yield "latency and traffic, 10,000 nodes        reads/node      2 streams   with memory    traffic, ns/node-step"
    device = replace(DEVICES["h100-sxm"], streams=2)
    for graph in (layered(10_000, seed=5), series_parallel(10_000, seed=5)):
        order = random(graph, OBJECTIVES["memory"], seconds=1, seed=1)
        timing, touching, memory = latency_arrays(graph, device), traffic_arrays(graph), memory_model(graph).simulator
        start, finish, _ = kernels.timeline(order, *timing)
        calls = (
            partial(kernels.timeline, order, *timing),
            partial(kernels.concurrent_profile, order, start, finish, *memory),
            partial(kernels.traffic, order, *touching, graphs.peak_bytes(graph, order) // 4),
        )
        took = [median_seconds(call, 21) / graph.n * 1e9 for call in calls]
        columns = f"{took[0]:>14.1f} {took[0] + took[1]:>13.1f} {took[2]:>23.1f}"
        yield f"{graph.name:32} {len(graph.reads.idx) / graph.n:>18.1f} {columns}"


def _policies(graph: Graph) -> Iterator[str]:
    yield f"list policies, {graph.n:,} nodes, width {WIDTH:,}        seconds"
    for name in list(SCHEDULERS)[1:]:  # auto takes the time it is given
        scheduler = scheduler_named(name)
        took = median_seconds(partial(scheduler, graph, OBJECTIVES["memory"], seconds=60, seed=0), 3)
        yield f"  {name:14} {took:>38.2f}"


def _files(graph: Graph) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("wide.json", "wide.json.gz"):
            path = Path(folder) / name
            graphs.save(graph, path)
            took = median_seconds(partial(graphs.load, path), 3)
            yield f"load and validate {name:14} {path.stat().st_size / 1e6:>6.1f} MB {took:>12.2f} s"


def _command_line() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.json"
        graphs.save(layered(100, seed=5), path)
        command = [sys.executable, "-m", "topoformer", "schedule", str(path), "--method", "lpmf", "--json"]
        took = median_seconds(lambda: subprocess.run(command, check=True, capture_output=True), 5)
        yield f"topoformer schedule small.json --method lpmf {took:>12.2f} s"
