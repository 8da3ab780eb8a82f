"""The latency models against their slow twins, cases by hand, and laws that they must obey."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from graphs import Graph, Kind, peak_bytes, simulate
from graphs.device import DEVICES, Device
from graphs.latency import is_collective, latency_bound, moved_bytes, node_seconds, order_matters, simulate_latency
from graphs.traffic import simulate_traffic
from tests import oracle
from tests.strategies import random_graph, random_order, tangled_graph

UNIT = Device("unit", {"float32": 1.0, "bfloat16": 2.0}, bandwidth=1.0, link_bandwidth=1.0)
SEEDS = range(1500)


def timed_graph(seed, nodes=None):
    """A graph whose nodes have measured seconds, whole and often 0, some of them collectives."""
    rng = random.Random(f"timed {seed}")
    graph = tangled_graph(seed, rng.randint(1, 14) if nodes is None else nodes)
    ops = [rng.choice(("aten.mm.default", "aten.relu.default", "all_reduce")) for _ in range(graph.n)]
    if rng.random() < 0.4:
        ops = ["aten.mm.default"] * graph.n
    seconds = [float(rng.choice((0, 1, 1, 2, 5))) for _ in range(graph.n)]
    return replace(graph, ops=tuple(ops), seconds=np.array(seconds), moved=np.zeros(graph.n, np.int64))


def streams(count, device=UNIT):
    return replace(device, streams=count)


@pytest.mark.parametrize("block", range(10))
def test_it_is_what_the_slow_twin_says(block):
    for seed in SEEDS[block::10]:
        graph = timed_graph(seed)
        rng = random.Random(seed)
        order, count = random_order(graph, rng), rng.randint(1, 4)
        found = simulate_latency(graph, order, device=streams(count))
        communicates = [op == "all_reduce" for op in graph.ops]
        times = oracle.timeline(graph, order, graph.seconds.tolist(), communicates, count)
        assert {v: (found.start[v], found.finish[v]) for v in order} == times, seed
        assert found.seconds == max(finish for _, finish in times.values())
        assert found.peak_bytes == oracle.concurrent_peak(graph, order, times), seed


def test_one_stream_is_the_sum_and_needs_what_the_memory_model_says():
    for seed in SEEDS:
        graph = random_graph(seed)
        order = random_order(graph, random.Random(seed))
        found = simulate_latency(graph, order, device=UNIT)
        assert math.isclose(found.seconds, node_seconds(graph, UNIT).sum(), rel_tol=1e-12, abs_tol=0.0)
        assert found.peak_bytes == peak_bytes(graph, simulate(graph, order).order)


def test_as_many_streams_as_nodes_are_the_critical_path():
    for seed in SEEDS:
        graph = timed_graph(seed)
        graph = replace(graph, ops=("mm",) * graph.n)
        longest = {}
        for v in range(graph.n):
            longest[v] = graph.seconds[v] + max((longest[u] for u in oracle.preds_of(graph)[v]), default=0.0)
        found = simulate_latency(graph, random_order(graph, random.Random(seed)), device=streams(graph.n))
        assert found.seconds == max(longest.values())
        assert found.seconds == latency_bound(graph, streams(graph.n))


def test_a_faster_device_is_never_slower():
    for seed in SEEDS:
        rng = random.Random(seed)
        graph = random_graph(seed, 12)
        order = random_order(graph, rng)
        device = Device("d", {"float32": 3.0, "bfloat16": 5.0}, 7.0, rng.choice((0.0, 1.0)), rng.randint(1, 3))
        slow = simulate_latency(graph, order, device=device).seconds
        for better in (
            {"streams": device.streams + 1},
            {"bandwidth": 9.0},
            {"launch_seconds": 0.0},
            {"flops": {"float32": 3.0, "bfloat16": 6.0}},
        ):
            assert simulate_latency(graph, order, device=replace(device, **better)).seconds <= slow * (1 + 1e-12), (
                better
            )
        assert latency_bound(graph, device) <= slow * (1 + 1e-12)


def test_more_on_chip_memory_is_never_slower():
    for seed in range(300):
        graph = tangled_graph(seed, 15)
        order = random_order(graph, random.Random(seed))
        device = replace(UNIT, on_chip_bandwidth=10.0)
        seconds = [
            simulate_latency(graph, order, device=replace(device, on_chip_bytes=size)).seconds
            for size in range(1, 90, 4)
        ]
        assert all(less >= more for less, more in pairwise(seconds))
        small = replace(device, on_chip_bytes=5)
        moved = simulate_traffic(graph, order, capacity=5).bytes
        assert math.isclose(seconds[1], node_seconds(graph, small).sum() + moved / 1.0)
        assert latency_bound(graph, small) <= seconds[1] + 1e-9


def test_the_roofline_by_hand():
    """4 + 4 bytes and 16 flops; 4 + 2 bytes that the node says it moves less of; a view; a measured one."""
    graph = Graph.build(
        "g",
        "abcd",
        [[0], [1], [1], [1]],
        [-1, 0, 1],
        [4, 4, 2],
        flops=[16, 0, 0, 0],
        moved=[-1, 3, 0, -1],
        seconds=[0, 0, 0, 9.0],
        dtypes=["bfloat16", "", "", ""],
    )
    device = Device("d", {"float32": 1.0, "bfloat16": 2.0}, bandwidth=2.0, launch_seconds=0.5)
    assert moved_bytes(graph).tolist() == [8, 3, 0, 4]
    assert node_seconds(graph, device).tolist() == [0.5 + 16 / 2, 0.5 + 3 / 2, 0.0, 9.0]
    assert node_seconds(graph, replace(device, bandwidth=0.5)).tolist() == [0.5 + 8 / 0.5, 0.5 + 3 / 0.5, 0.0, 9.0]
    assert simulate_latency(graph, device=device).seconds == 8.5 + 2.0 + 9.0
    assert not order_matters(graph, device)
    assert order_matters(graph, streams(2, device))


def diamond(ops=("a", "b", "c", "d")):
    """A source, two branches of 3 and 2 seconds, and a sink."""
    return Graph.build("g", ops, [[], [0], [0], [1, 2]], [0, 1, 2, 3], [4, 8, 16, 1], ops=ops, seconds=[1, 3, 2, 1])


def test_two_streams_by_hand():
    found = simulate_latency(diamond(), device=streams(2))
    assert (found.start.tolist(), found.finish.tolist()) == ([0, 1, 1, 4], [1, 4, 3, 5])
    assert (found.seconds, latency_bound(diamond(), streams(2))) == (5.0, 5.0)
    times, live = found.memory
    assert times.tolist() == [0, 1, 1, 1, 3, 4, 4, 5]
    assert live.tolist() == [4, 4, 12, 28, 28, 24, 25, 0]
    assert found.peak_bytes == 28
    assert simulate_latency(diamond(), device=UNIT).peak_bytes == 28
    assert simulate_latency(diamond(), device=UNIT).seconds == 7.0


def test_the_order_decides_with_two_streams():
    """The long branch first: 4 seconds; last: 5."""
    graph = Graph.build("g", "abc", [[], [], []], [], [], seconds=[2, 2, 4])
    assert simulate_latency(graph, [2, 0, 1], device=streams(2)).seconds == 4.0
    assert simulate_latency(graph, [0, 1, 2], device=streams(2)).seconds == 6.0


def test_communication_has_a_stream_of_its_own_and_is_exposed_where_nothing_else_runs():
    graph = diamond(("a", "all_reduce", "c", "d"))
    found = simulate_latency(graph, device=UNIT)
    assert found.seconds == 5.0
    assert found.exposed_communication_seconds == 1.0  # from 3 to 4
    assert found.stream.tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="node 'all_reduce' communicates, but device 'unit' has no link"):
        simulate_latency(replace(graph, seconds=np.zeros(4)), device=replace(UNIT, link_bandwidth=0.0))


@pytest.mark.parametrize(
    ("op", "whether"),
    [
        ("_c10d_functional.all_reduce.default", True),
        ("_c10d_functional.all_gather_into_tensor.default", True),
        ("_c10d_functional.broadcast.default", True),
        ("AllReduce", True),
        ("reduce_scatter", True),
        ("c10d::send", True),
        ("_c10d_functional.wait_tensor.default", False),
        ("aten.broadcast_to.default", False),
        ("prims.broadcast_in_dim.default", False),
        ("aten.resend.default", False),
        ("aten.mm.default", False),
        ("", False),
    ],
)
def test_names_of_collectives(op, whether):
    assert is_collective(op) is whether


def test_no_nodes():
    graph = Graph.build("g", [], [], [], [])
    found = simulate_latency(graph, device=streams(3))
    assert (found.seconds, found.peak_bytes, latency_bound(graph, UNIT)) == (0.0, 0, 0.0)


def test_donated_memory_is_there_before_anything_runs():
    graph = Graph.build("g", "a", [[0]], [-1], [7], kind=[Kind.DONATED])
    assert simulate_latency(graph, device=streams(2)).peak_bytes == 7


@pytest.mark.parametrize("name", DEVICES)
def test_named_devices(name):
    device = DEVICES[name]
    assert device.source
    assert Device.from_json(device.to_json()) == device
    assert device.rate("no such type") == device.flops["float32"]
    graph = random_graph(5)
    assert simulate_latency(graph, device=device).seconds >= 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bandwidth": 0}, "'bandwidth' must be a number that is positive (got 0)"),
        ({"bandwidth": math.nan}, "'bandwidth' must be"),
        ({"flops": {"int8": 1.0}}, "'flops' must give a rate for 'float32'"),
        ({"flops": {"float32": -1.0}}, "'flops of float32' must be a number that is positive"),
        ({"streams": 0}, "'streams' must be an integer from 1 to 4096 (got 0)"),
        ({"launch_seconds": -1.0}, "'launch_seconds' must be a number that is not negative"),
        ({"on_chip_bytes": 1.5}, "'on_chip_bytes' must be an integer"),
    ],
)
def test_bad_devices(change, text):
    with pytest.raises(ValueError, match="device 'unit'") as error:
        replace(UNIT, **change)
    assert text in str(error.value)


def test_bad_device_json():
    good = UNIT.to_json()
    for data, text in (
        ([], "not a device"),
        (good | {"version": 2}, "not a device"),
        (good | {"bandwith": 1}, "did you mean 'bandwidth'"),
        ({key: value for key, value in good.items() if key != "flops"}, "device has no 'flops'"),
        (good | {"name": 3}, "'name' must be a string"),
    ):
        with pytest.raises(ValueError, match=text):
            Device.from_json(data)
