"""measure_scratch: with it, the predicted peak is what the allocator is asked for; and nobody's data is touched."""

import copy
import json
import logging
import os
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

import graphs
from graphs import GraphError, Kind, UnsupportedOp
from graphs.memory import memory_model
from graphs.models import ZOO
from tests.reality import EFFECTS, rand, random_orders, traced
from tests.reality_cases import CASES
from tests.reality_programs import random_program
from topoformer import capture
from topoformer.pytorch.scratch import measure_scratch
from topoformer.pytorch.scratch_cache import MOST_CALLS, ScratchCache, Workspace
from topoformer.pytorch.verify import flat_inputs, storage_run

RUNS: list[int] = []
GRADIENTS: list[bool] = []


@torch.library.custom_op("topoformer_tests::counted", mutates_args=())
def counted(x: torch.Tensor) -> torch.Tensor:
    """Takes as much as its argument, for a while."""
    RUNS.append(x.numel())
    GRADIENTS.append(x.requires_grad)
    warnings.warn("counted", stacklevel=1)
    return (x + x).exp()


@counted.register_fake
def _counted_fake(x):
    return torch.empty_like(x)


@torch.library.custom_op("topoformer_tests::picky", mutates_args=())
def picky(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("not this data")


@picky.register_fake
def _picky_fake(x):
    return torch.empty_like(x)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def memory():
    return ScratchCache(None)


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "topoformer"]


def scratch_of(case, cache=None):
    graph = graphs.from_fx(case.module, donated=case.donated)
    return measure_scratch(case.module, graph, cache=cache or ScratchCache(None)).scratch.tolist()


# ---------------------------------------------------------------- predicted is allocated


def allocated(case, graph, order):
    """Peak of a real run, with what is given away counted from the start as the graph does."""
    run = storage_run(copy.deepcopy(graphs.apply_order(case.module, order)), case.inputs, donated=case.donated)
    given = (graph.kind == Kind.DONATED) & (memory_model(graph).steps.uses > 0)
    return run.allocated_bytes + int(graph.size[given].sum())


@pytest.mark.parametrize("name", [*CASES, *range(4)])
def test_predicted_is_allocated_in_any_order(name, memory, caplog):
    case = CASES[name]() if name in CASES else random_program(name)
    with caplog.at_level(logging.WARNING, "topoformer"):
        graph = measure_scratch(case.module, graphs.from_fx(case.module, donated=case.donated), cache=memory)
    assert said(caplog) == []  # every call could be run
    for order in random_orders(graph, 1):
        assert graphs.peak_bytes(graph, order) == allocated(case, graph, order)


@pytest.mark.parametrize(
    ("name", "small", "threads"),
    [("resnet18", {}, 1), ("resnet18", {}, 2), ("transformer", {}, 1), ("unet_plus_plus", {"resolution": 64}, 1)],
)
def test_networks(name, small, threads, memory):
    torch.set_num_threads(threads)
    module, inputs = ZOO[name](**small)
    program = capture(module, inputs)
    plain = graphs.from_fx(program)
    graph = measure_scratch(program, plain, cache=memory)
    for order in (graphs.program_order(graph), *random_orders(graph, 1)):
        run = storage_run(graphs.apply_order(program, order).graph_module, flat_inputs(program))
        assert run.allocated_bytes == graphs.peak_bytes(graph, order)
        assert run.peak_bytes == graphs.peak_bytes(plain, order) + plain.resident_bytes
    if name == "resnet18":
        assert graphs.peak_bytes(graph) > graphs.peak_bytes(plain)


class Tokens(nn.Module):
    """As an image, the tokens' transpose has other strides than it has without data: the kernels copy it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 3, padding=1, groups=32)

    def forward(self, tokens):
        image = tokens.transpose(1, 2).reshape(1, 32, 16, 16)
        return self.conv(image).relu()


def test_strides_are_the_real_ones(memory):
    torch.manual_seed(0)
    program = capture(Tokens(), (torch.rand(1, 256, 32),))
    graph = measure_scratch(program, graphs.from_fx(program), cache=memory)
    run = storage_run(graphs.apply_order(program, graphs.program_order(graph)).graph_module, flat_inputs(program))
    assert run.allocated_bytes == graphs.peak_bytes(graph)


@pytest.mark.parametrize("view", [torch.conj, lambda x: x.conj().imag])
def test_inputs_that_are_conjugate_or_negative_on_reading(view):
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = view(torch.rand(1000, dtype=torch.complex64))
    graph.output(graph.call_function(torch.ops.aten.exp.default, (x,)))
    program = fx.GraphModule(nn.Module(), graph)
    measured = measure_scratch(program, graphs.from_fx(program), cache=ScratchCache(None))
    run = storage_run(program, [x.meta["val"]])
    size = int(measured.size[measured.writer == 0][0])
    assert measured.scratch.tolist() == [size]  # the kernel makes a copy that is not
    assert run.allocated_bytes == graphs.peak_bytes(measured) == 2 * size


def test_the_rest_of_the_graph_stays():
    case = CASES["convolution"]()
    graph = graphs.from_fx(case.module)
    measured = measure_scratch(case.module, graph, cache=ScratchCache(None))
    assert measured.scratch.any()
    bare = graphs.Graph(**{f: getattr(measured, f) for f in measured.__dataclass_fields__} | {"scratch": graph.scratch})
    assert bare.fingerprint == graph.fingerprint


class Regions(nn.Module):
    """Two sub-modules that are called alike, of which one takes a workspace."""

    def forward(self, x):
        with torch.no_grad():
            a = torch.logsumexp(x, 0)
        with torch.no_grad():
            b = torch.amax(x, 0)
        return a + b


def test_sub_modules_are_told_apart_by_what_they_do():
    program = capture(Regions(), torch.rand(64, 8))
    graph = measure_scratch(program, graphs.from_fx(program), cache=ScratchCache(None))
    regions = {
        label: size for label, op, size in zip(graph.labels, graph.ops, graph.scratch, strict=True) if "wrap" in op
    }
    assert [size > 0 for size in regions.values()] == [True, False]


def test_arguments_are_no_views(caplog):
    case = traced(lambda x: (x + x).exp(), rand(10))
    node = next(node for node in case.module.graph.nodes if node.target is torch.ops.aten.exp.default)
    node.target = torch.ops.aten.detach_.default  # which refuses a view
    case.module.recompile()
    with caplog.at_level(logging.WARNING, "topoformer"):
        assert scratch_of(case) == [0, 0]
    assert said(caplog) == []


# ---------------------------------------------------------------- each call once, remembered on disk


def three_calls(x, y):
    op = torch.ops.topoformer_tests.counted
    return op(x), op(x * 2), op(y)


def test_each_distinct_call_is_run_once(tmp_path):
    case = traced(three_calls, rand(10), rand(20))
    path = tmp_path / "deep" / "scratch.json"
    RUNS.clear()
    warnings.simplefilter("error")  # pytest puts back what was there
    first = scratch_of(case, ScratchCache(path))
    assert sorted(RUNS) == [10, 20]
    assert sorted(first) == [12, 40, 40, 80]  # of the multiplication: its number, as float64 and as float32
    assert scratch_of(case, ScratchCache(path)) == first
    torch.set_num_threads(2)
    assert sorted(RUNS) == [10, 20]
    assert scratch_of(case, ScratchCache(path)) == first
    assert sorted(RUNS) == [10, 10, 20, 20]  # other threads may be other kernels
    assert os.listdir(path.parent) == ["scratch.json"]


BROKEN = [
    *(b"", b"{", b"[1]", b"\xff\xfe", b'{"format": "topoformer.scratch", "version": 2, "calls": {}}', b"{}\0"),
    *(b'{"format": "topoformer.scratch", "version": 1}', b'{"format": "topoformer.scratch", "version": 1, "calls": 3}'),
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_a_miss_and_is_replaced(tmp_path, text):
    path = tmp_path / "scratch.json"
    path.write_bytes(text)
    cache = ScratchCache(path)
    assert cache.known == {}
    cache.add({"a": Workspace(3, ((1,),))})
    assert ScratchCache(path).known == {"a": Workspace(3, ((1,),))}


@pytest.mark.parametrize(
    "entry",
    [3, [3], [-1, []], [1.5, []], [True, []], ["3", []], [3, 4], [3, [4]], [3, [[-4]]], [3, [["4"]]], [1 << 70, []]],
)
def test_an_entry_that_is_none_is_passed_over(tmp_path, entry):
    path = tmp_path / "scratch.json"
    calls = {"good": [5, [[2, 1], []]], "bad": entry}
    path.write_text(json.dumps({"format": "topoformer.scratch", "version": 1, "calls": calls}))
    assert ScratchCache(path).known == {"good": Workspace(5, ((2, 1), ()))}


def test_strides_that_do_not_fit_are_not_believed(tmp_path):
    case = traced(three_calls, rand(10), rand(20))
    path = tmp_path / "scratch.json"
    first = scratch_of(case, ScratchCache(path))
    text = json.loads(path.read_text())
    text["calls"] = {key: [size, [[7, 7, 7]]] for key, (size, _) in text["calls"].items()}
    path.write_text(json.dumps(text))
    assert scratch_of(case, ScratchCache(path)) == first


def test_what_other_processes_write_stays(tmp_path):
    path = tmp_path / "scratch.json"
    one, other = ScratchCache(path), ScratchCache(path)
    one.add({"a": Workspace(1, ())})
    other.add({"b": Workspace(2, ())})
    assert set(ScratchCache(path).known) == {"a", "b"}


def test_the_file_does_not_grow_for_ever(tmp_path):
    path = tmp_path / "scratch.json"
    ScratchCache(path).add({str(i): Workspace(i, ()) for i in range(MOST_CALLS)})
    ScratchCache(path).add({"last": Workspace(1, ())})
    known = ScratchCache(path).known
    assert len(known) == MOST_CALLS
    assert "last" in known
    assert "0" not in known


def test_a_file_that_cannot_be_written_is_no_trouble(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.DEBUG, "topoformer"):
        assert any(scratch_of(CASES["convolution"](), ScratchCache(tmp_path / "file" / "scratch.json")))
    assert "not kept" in caplog.text
    assert (tmp_path / "file").read_text() == ""


def test_the_users_cache_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    case = CASES["convolution"]()
    measure_scratch(case.module, graphs.from_fx(case.module))
    assert (tmp_path / "topoformer" / "scratch.json").is_file()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ScratchCache.of_user().path == tmp_path / ".cache" / "topoformer" / "scratch.json"


# ---------------------------------------------------------------- nobody's data


def test_random_streams_stay_as_they_are():
    case = traced(lambda x: torch.multinomial(x, 3) + torch.rand(3), rand(9).abs())
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    assert any(scratch_of(case))
    assert torch.equal(torch.rand(3), wanted)


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.total = nn.Buffer(torch.zeros(4))

    def forward(self, x):
        return self.total.add_(x).clone()


def test_calls_that_write_do_not_write_into_the_program():
    module = fx.symbolic_trace(Counter())
    graph = fx.Graph()
    x, total = graph.placeholder("x"), graph.get_attr("total")
    x.meta["val"] = torch.zeros(4)
    added = graph.call_function(torch.ops.aten.add_.Tensor, (total, x))
    graph.output(graph.call_function(torch.ops.aten.clone.default, (added,)))
    program = fx.GraphModule(module, graph)
    measured = measure_scratch(program, graphs.from_fx(program), cache=ScratchCache(None))
    assert measured.scratch.tolist() == [0, 0]
    assert program.total.tolist() == [0, 0, 0, 0]


def test_side_effects_do_not_happen():
    case = CASES["side_effects"]()
    EFFECTS.clear()
    scratch_of(case)
    assert EFFECTS == []


def test_parameters_stay_parameters():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(4))

        def forward(self, x):
            return torch.ops.topoformer_tests.counted(self.weight) + torch.ops.topoformer_tests.counted(x)

    program = capture(Two(), torch.rand(4))
    GRADIENTS.clear()
    measure_scratch(program, graphs.from_fx(program), cache=ScratchCache(None))
    assert GRADIENTS == [True, False]


def test_no_memory_is_needed_for_the_model_itself():
    with torch.device("meta"):
        module, image = nn.Conv2d(8, 8, 3, padding=1), torch.rand(1, 8, 32, 32)
    program = capture(module, (image,))
    real = capture(nn.Conv2d(8, 8, 3, padding=1), (torch.rand(1, 8, 32, 32),))
    found = [measure_scratch(p, graphs.from_fx(p), cache=ScratchCache(None)).scratch for p in (program, real)]
    assert np.array_equal(*found)
    assert found[0].any()


# ---------------------------------------------------------------- what cannot be run


def test_calls_that_refuse_made_up_data_count_as_nothing_and_are_counted(caplog):
    case = traced(lambda x: (x + x) * 2, rand(10))
    node = next(node for node in case.module.graph.nodes if node.target is torch.ops.aten.add.Tensor)
    node.target, node.args = torch.ops.topoformer_tests.picky.default, node.args[:1]
    case.module.recompile()
    with caplog.at_level(logging.WARNING, "topoformer"):
        assert scratch_of(case)[0] == 0
    assert said(caplog) == [
        "1 calls cannot be run by themselves, their workspaces count as 0: topoformer_tests.picky.default"
    ]


def test_integers_are_zero_or_one(caplog):
    def program(table, where, count):
        return table[where], F.embedding(where, table), count // count

    with caplog.at_level(logging.WARNING, "topoformer"):
        scratch_of(traced(program, rand(5, 3), torch.tensor([1, 4]), torch.tensor([7, 8])))
    assert said(caplog) == []


def test_a_graph_of_another_program():
    one, other = CASES["convolution"](), CASES["lstm_cell"]()
    with pytest.raises(GraphError, match="is not of this program"):
        measure_scratch(one.module, graphs.from_fx(other.module), cache=ScratchCache(None))


def test_values_that_nothing_is_known_of():
    case = traced(lambda x: x + x, rand(10))
    graph = graphs.from_fx(case.module)
    next(iter(case.module.graph.nodes)).meta.clear()
    with pytest.raises(UnsupportedOp, match=r"placeholder '\w+' has no meta\['val'\]"):
        measure_scratch(case.module, graph, cache=ScratchCache(None))
