"""The trace for Perfetto: every node and every byte of both orders, where and when they should be."""

import dataclasses
import gzip
import json

import numpy as np
import pytest

import graphs
import topoformer
from graphs.synthetic import layered
from topoformer.cli import main
from topoformer.report.trace import LARGEST, trace
from topoformer.scheduling import schedule


def events_of(result, phase, process=1):
    return [e for e in trace(result)["traceEvents"] if e["ph"] == phase and e["pid"] == process]


@pytest.fixture(scope="module")
def result():
    return schedule(layered(60, seed=7308), seconds=5)


def test_steps_stand_one_after_the_other_in_both_orders(result):
    for process, order in ((1, result.order), (2, graphs.program_order(result.graph))):
        steps = events_of(result, "X", process)
        assert [event["name"] for event in steps] == [result.graph.labels[node] for node in order]
        assert np.allclose([event["ts"] for event in steps], range(60))
        assert np.allclose([event["dur"] for event in steps], 1.0)


def test_the_counter_shows_the_live_bytes_and_so_the_peak(result):
    for process, cost in ((1, result.cost), (2, result.program_cost)):
        counted = [event["args"]["bytes"] for event in events_of(result, "C", process)]
        assert max(counted) == cost.peak_bytes
        assert len(counted) == 60


def test_measured_seconds_make_the_clock():
    graph = dataclasses.replace(layered(10, seed=7309), seconds=np.arange(1, 11) * 1e-3)
    result = schedule(graph, "program", seconds=1)
    assert [event["dur"] for event in events_of(result, "X")] == pytest.approx([1000.0 * i for i in range(1, 11)])
    assert trace(result)["otherData"]["time"] == "measured seconds of the nodes"


def test_on_two_streams_nodes_stand_where_the_model_has_them():
    graph = layered(60, seed=7308)
    device = dataclasses.replace(graphs.DEVICES["h100-sxm"], streams=2)
    result = topoformer.schedule(graph, "streams", objective="latency", device=device, seconds=1)
    timeline = graphs.simulate_latency(graph, result.order, device=device)
    steps = events_of(result, "X")
    assert {event["tid"] for event in steps} == {0, 1}
    assert max(event["ts"] + event["dur"] for event in steps) == pytest.approx(timeline.seconds * 1e6)
    assert max(event["args"]["bytes"] for event in events_of(result, "C")) == timeline.peak_bytes


def test_lives_of_tensors_begin_before_they_end_and_the_largest_are_shown():
    result = schedule(layered(2 * LARGEST, seed=7310), "lpmf", seconds=1)
    begins, ends = ({e["id"]: e for e in events_of(result, phase)} for phase in "be")
    assert begins.keys() == ends.keys()
    assert all(begins[key]["ts"] < ends[key]["ts"] for key in begins)
    shown = sorted(event["args"]["bytes"] for event in begins.values())
    assert shown == sorted(result.graph.size.tolist())[-LARGEST:]


@pytest.mark.parametrize("n", [0, 1])
def test_the_smallest_graphs_have_a_trace(n):
    graph = graphs.Graph.build("small", ["a"][:n], [[]] * n, list(range(n)), [4][:n])
    assert json.loads(json.dumps(trace(schedule(graph, "program", seconds=1))))["traceEvents"]


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_command_line_writes_it(tmp_path, name):
    graphs.save(layered(30, seed=7307), tmp_path / "g.json")
    assert main(["schedule", str(tmp_path / "g.json"), "--method", "lpmf", "--trace", str(tmp_path / name)]) == 0
    data = (tmp_path / name).read_bytes()
    assert len(json.loads(gzip.decompress(data) if name.endswith("gz") else data)["traceEvents"]) > 60
