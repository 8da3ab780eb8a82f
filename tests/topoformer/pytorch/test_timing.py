"""measure_seconds: which calls are told apart, what is remembered, and what becomes of calls that cannot be timed."""

import json
import logging
import time

import numpy as np
import pytest
import torch
from torch import nn

import graphs
from graphs import GraphError
from graphs.device import Device
from graphs.latency import node_seconds
from tests.reality import EFFECTS, rand, traced
from tests.reality_cases import CASES
from tests.reality_programs import random_program
from topoformer import capture
from topoformer.pytorch import timing
from topoformer.pytorch.calibrate import compare, measure_device
from topoformer.pytorch.timing import measure_seconds, still_nodes, stopwatch
from topoformer.pytorch.timing_cache import Timing, TimingCache

RUNS: list[int] = []
FIRST: list[int] = []
CPU = Device("cpu", {"float32": 1e9}, 1e9, launch_seconds=1e-6)


@torch.library.custom_op("topoformer_timing_tests::counted", mutates_args=())
def counted(x: torch.Tensor) -> torch.Tensor:
    RUNS.append(x.numel())
    return x + x


@torch.library.custom_op("topoformer_timing_tests::picky", mutates_args=())
def picky(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("not this data")


@torch.library.custom_op("topoformer_timing_tests::once", mutates_args=())
def once(x: torch.Tensor) -> torch.Tensor:
    if FIRST:
        raise ValueError("not again")
    FIRST.append(1)
    return x + x


for op in (counted, picky, once):
    op.register_fake(torch.empty_like)

pytestmark = pytest.mark.usefixtures("one_thread", "few_rounds")


@pytest.fixture
def few_rounds(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 4)
    RUNS.clear()
    FIRST.clear()


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "topoformer"]


def timed(case, cache=None, **options):
    graph = graphs.from_fx(case.module, donated=case.donated)
    return measure_seconds(case.module, graph, cache=cache or TimingCache(None), **options)


def distinct(case):
    """How many calls of a program are told apart."""
    cache = TimingCache(None)
    timed(case, cache)
    return len(cache.known)


def calls(op, *tensors):
    def program(*args):
        return [op(tensor) for tensor in args]

    return traced(program, *tensors)


# ---------------------------------------------------------------- what is timed


@pytest.mark.parametrize("name", [*CASES, *range(3)])
def test_all_that_works_has_a_duration_and_views_have_none(name, caplog):
    case = CASES[name]() if name in CASES else random_program(name)
    with caplog.at_level(logging.WARNING, "topoformer"):
        graph = timed(case)
    assert said(caplog) == []
    still = still_nodes(graph)
    assert not graph.seconds[still].any()
    assert (graph.seconds[~still] > 0).all()
    assert (graph.seconds < 10).all()


def test_views_and_the_rest_of_the_graph():
    case = traced(lambda x: (x + x).view(5, 2).t().exp(), rand(10))
    plain = graphs.from_fx(case.module)
    graph = timed(case)
    assert [seconds > 0 for seconds in graph.seconds] == [True, False, False, True]
    rest = {name: getattr(graph, name) for name in graph.__dataclass_fields__} | {"seconds": plain.seconds}
    assert graphs.Graph(**rest).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ((rand(10), rand(10)), 1),
        ((rand(10), rand(11)), 2),
        ((rand(10), rand(10, 1)), 2),
        ((rand(10), rand(10).double()), 2),
        ((rand(4, 5), rand(5, 4).t()), 2),
    ],
)
def test_calls_are_told_apart_by_what_decides_their_duration(tensors, expected):
    assert distinct(calls(torch.exp, *tensors)) == expected


def test_operators_and_their_other_arguments_are_told_apart():
    assert distinct(traced(lambda x: (x.exp(), x.log(), x.sum(0), x.sum(1), x.exp()), rand(4, 4))) == 4


def test_near_operands_are_told_from_far_ones():
    large = timing.CACHE_BYTES // 4
    case = traced(lambda x, y: (x.exp(), x.exp(), y.exp(), x.exp()), rand(8), rand(large))
    cache = TimingCache(None)
    graph = timed(case, cache)
    keys = sorted(key[32:] for key in cache.known)
    assert keys == ["f", "f", "n"]  # of x: far at first and after y's traffic, near in between; of y: far
    assert graph.seconds[0] == graph.seconds[3]


def test_a_program_that_fits_into_the_cache_finds_its_inputs_there():
    cache = TimingCache(None)
    timed(traced(lambda x: x.exp(), rand(8)), cache)
    assert [key[32:] for key in cache.known] == ["n"]


def test_threads_are_told_apart():
    cache, case = TimingCache(None), calls(torch.exp, rand(10))
    timed(case, cache)
    torch.set_num_threads(2)
    timed(case, cache)
    assert len(cache.known) == 2


def test_calls_that_write_find_the_same_data_each_time():
    seen = []

    @torch.library.custom_op("topoformer_timing_tests::halved_", mutates_args=("x",))
    def halved(x: torch.Tensor) -> None:
        seen.append(x.clone())
        x.mul_(0.5)

    def program(x):
        y = x + 1
        torch.ops.topoformer_timing_tests.halved_(y)
        return y

    seen.clear()
    timed(traced(program, rand(5)))
    in_rounds = [tensor for tensor in seen if tensor.abs().sum() > 0][-2 * timing.ROUNDS :]
    assert len(in_rounds) == 2 * timing.ROUNDS
    assert all(torch.equal(tensor, in_rounds[0]) for tensor in in_rounds)


def test_random_streams_stay_as_they_are():
    case = traced(lambda x: torch.multinomial(x, 3) + torch.rand(3), rand(9).abs())
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    assert timed(case).seconds.any()
    assert torch.equal(torch.rand(3), wanted)


def test_side_effects_do_not_happen():
    case = CASES["side_effects"]()
    EFFECTS.clear()
    timed(case)
    assert EFFECTS == []


def test_a_model_without_data():
    with torch.device("meta"):
        module, image = nn.Conv2d(8, 8, 3, padding=1), torch.rand(1, 8, 8, 8)
    program = capture(module, (image,))
    assert len(measure_seconds(program, graphs.from_fx(program), cache=TimingCache(None)).seconds) == 1


# ---------------------------------------------------------------- remembered


def test_each_distinct_call_is_timed_once(tmp_path):
    def program(x, y):
        op = torch.ops.topoformer_timing_tests.counted
        return op(x), op(x * 2), op(y)

    case, path = traced(program, rand(10), rand(20)), tmp_path / "deep" / "timing.json"
    told, rounds = [], []
    RUNS.clear()
    first = timed(case, TimingCache(path), progress=lambda *done: told.append(done), between=lambda: rounds.append(1))
    each = 1 + 2 * timing.ROUNDS
    assert sorted(RUNS) == [10] * each + [20] * each
    assert told == [(i + 1, 3 * timing.ROUNDS) for i in range(3 * timing.ROUNDS)]
    assert len(rounds) == timing.ROUNDS
    RUNS.clear()
    second = timed(case, TimingCache(path), progress=lambda *done: told.append(done))
    assert np.array_equal(first.seconds, second.seconds)
    assert RUNS == []
    assert len(told) == 3 * timing.ROUNDS


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"format": "topoformer.scratch", "version": 1, "calls": {}}'])
def test_a_broken_file_is_a_miss_and_is_replaced(tmp_path, text):
    path = tmp_path / "timing.json"
    path.write_bytes(text)
    cache = TimingCache(path)
    assert cache.known == {}
    cache.add({"a": Timing(0.5, ((1,),))})
    assert TimingCache(path).known == {"a": Timing(0.5, ((1,),))}


@pytest.mark.parametrize(
    "entry", [3, [3], [-1, []], [True, []], ["3", []], [3, 4], [3, [4]], [3, [[-4]]], [10**400, []], [1e300, []]]
)
def test_an_entry_that_is_none_is_passed_over(tmp_path, entry):
    path = tmp_path / "timing.json"
    calls = {"good": [5, [[2, 1], []]], "bad": entry}
    path.write_text(json.dumps({"format": "topoformer.timing", "version": 1, "calls": calls}))
    assert TimingCache(path).known == {"good": Timing(5.0, ((2, 1), ()))}


def test_the_users_cache_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    case = calls(torch.exp, rand(3))
    measure_seconds(case.module, graphs.from_fx(case.module))
    assert (tmp_path / "topoformer" / "timing.json").is_file()


def test_what_was_measured_before_ctrl_c_is_kept(tmp_path, monkeypatch):
    case, path = calls(torch.ops.topoformer_timing_tests.counted, *map(rand, (10, 20, 30))), tmp_path / "timing.json"

    def interrupted(done, _):
        if done == 3 * timing.LEAST_ROUNDS - 1:
            raise KeyboardInterrupt

    RUNS.clear()
    with pytest.raises(KeyboardInterrupt):
        timed(case, TimingCache(path), progress=interrupted)
    assert len(TimingCache(path).known) == 2
    RUNS.clear()
    assert timed(case, TimingCache(path)).seconds.all()
    assert set(RUNS) == {30}


# ---------------------------------------------------------------- what cannot be timed


def test_calls_that_cannot_be_run_are_estimated_and_counted(caplog):
    case = traced(lambda x: torch.ops.topoformer_timing_tests.counted(x) * 2, rand(10))
    node = next(node for node in case.module.graph.nodes if "counted" in str(node.target))
    node.target = torch.ops.topoformer_timing_tests.picky.default
    case.module.recompile()
    with caplog.at_level(logging.WARNING, "topoformer"):
        graph = timed(case)
    assert [seconds > 0 for seconds in graph.seconds] == [False, True]
    roofline = node_seconds(graphs.from_fx(case.module), CPU)
    assert node_seconds(graph, CPU).tolist() == [roofline[0], graph.seconds[1]]
    text = "1 calls cannot be run by themselves, their durations are estimated: topoformer_timing_tests.picky.default"
    assert said(caplog) == [text]


def test_calls_that_can_be_run_once_only(caplog):
    case = calls(torch.ops.topoformer_timing_tests.once, rand(10))
    FIRST.clear()
    cache = TimingCache(None)
    with caplog.at_level(logging.WARNING, "topoformer"):
        assert timed(case, cache).seconds.tolist() == [0.0]
    assert "1 calls cannot be run" in caplog.text
    assert cache.known == {}


def test_no_time_for_anything():
    case, cache = calls(torch.exp, rand(10), rand(20)), TimingCache(None)
    assert timed(case, cache, budget_seconds=1e-9).seconds.tolist() == [0.0, 0.0]
    assert cache.known == {}
    assert timed(case, cache, budget_seconds=100.0).seconds.all()


@pytest.mark.parametrize("budget", [0, -1.0, float("nan")])
def test_a_budget_that_is_none(budget):
    with pytest.raises(ValueError, match=r"'budget_seconds' must be positive \(got"):
        timed(calls(torch.exp, rand(10)), budget_seconds=budget)


def test_a_graph_of_another_program():
    one, other = CASES["convolution"](), CASES["lstm_cell"]()
    with pytest.raises(GraphError, match="is not of this program"):
        measure_seconds(one.module, graphs.from_fx(other.module), cache=TimingCache(None))


# ---------------------------------------------------------------- the clock, the device, whole programs


def test_time_that_the_core_was_not_used_is_left_out_on_one_thread():
    lap = stopwatch(lambda: time.sleep(0.05))
    assert lap.seconds < lap.wall_seconds
    assert lap.wall_seconds >= 0.05
    torch.set_num_threads(2)
    lap = stopwatch(lambda: time.sleep(0.05))
    assert lap.seconds == lap.wall_seconds >= 0.05


@pytest.fixture
def small_device(monkeypatch):
    monkeypatch.setattr("topoformer.pytorch.calibrate.SIDE", {"cpu": 32})
    monkeypatch.setattr("topoformer.pytorch.calibrate.COPIED_BYTES", {"cpu": 1 << 16})


def test_a_measured_device(small_device):
    device = measure_device(seconds=0.01)
    assert device.name == "cpu"
    assert {"float32", "float64", "bfloat16"} <= set(device.flops)
    assert device.launch_seconds > 0
    assert device.memory_bytes
    assert device.source.startswith("measured: ")
    assert Device.from_json(json.loads(json.dumps(device.to_json()))) == device


@pytest.mark.parametrize(
    ("name", "seconds", "text"),
    [("tpu", 1.0, "'name' must be 'cpu' or 'cuda'"), ("cpu", 0.0, "'seconds' must be positive")],
)
def test_devices_that_cannot_be_measured(name, seconds, text):
    with pytest.raises(ValueError, match=text):
        measure_device(name, seconds=seconds)


def test_a_type_without_kernels_is_left_out(small_device, monkeypatch):
    monkeypatch.setattr("topoformer.pytorch.calibrate.DTYPES", (torch.float32, torch.bool))
    assert set(measure_device(seconds=0.01).flops) == {"float32"}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.steps = nn.Buffer(torch.zeros(1))

    def forward(self, x):
        self.steps.add_(1)
        return self.conv(x).relu_().flatten(1)


def test_a_program_beside_what_is_predicted():
    module, image = Small(), torch.rand(1, 3, 8, 8)
    program = capture(module, (image,))
    graph, cache = graphs.from_fx(program, name="small"), TimingCache(None)
    timed_graph, first = compare(program, graph, CPU, cache=cache)
    assert (first.name, first.nodes, first.estimated_nodes) == ("small", graph.n, 0)
    assert first.calls == len(cache.known) > 0
    assert first.predicted_seconds == pytest.approx(timed_graph.seconds.sum())
    assert first.roofline_seconds == pytest.approx(node_seconds(graph, CPU).sum())
    assert first.error == first.predicted_seconds / first.measured_seconds - 1
    assert first.runs >= first.quiet_runs >= 0
    _, second = compare(program, graph, CPU, cache=cache)
    assert (second.calls, second.predicted_seconds) == (0, first.predicted_seconds)
    assert json.loads(json.dumps(second.to_json()))["error"] == second.error
    assert program.state_dict["steps"].tolist() == module.steps.tolist() == [0.0]
